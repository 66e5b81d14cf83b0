"""`imgbuild doctor`: says whether this machine can build, and how to mend what it lacks."""

import json
from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from imagebuilder.cli.settings import Settings
from imagebuilder.errors import HostError
from imagebuilder.host.accelerator import probe_accelerator
from imagebuilder.host.checks import HostCheck, check_host

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


def doctor(
    ctx: typer.Context,
    launch: Annotated[
        bool, typer.Option("--launch", help="Try KVM anew and start libguestfs's appliance (up to two minutes).")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check whether this machine can build, and say how to mend what it lacks.

    A missing or broken KVM is a warning: guests are emulated then, which is slower. Exits with 4 if a check failed.
    """
    settings: Settings = ctx.obj
    with Console(stderr=True).status("looking at this machine"):
        accelerator = probe_accelerator(settings.cache_directory, memory="renew" if launch else "use")
        checks = check_host(settings.store, accelerator, launch="try" if launch else "skip")
    ready = all(check.state != "failed" for check in checks)
    if json_output:
        typer.echo(json.dumps({"ready": ready, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        _print_checks(checks)
    if not ready:
        raise typer.Exit(HostError.exit_code)


def _print_checks(checks: tuple[HostCheck, ...]) -> None:
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        mark, colour = _MARKS[check.state]
        table.add_row(Text(mark, colour), Text(check.name), Text(check.found))
        if check.fix is not None:
            table.add_row("", "", Text(f"fix: {check.fix}", "bold"))
    console.print(table)
    count = Counter(check.state for check in checks)
    verdict = "This machine cannot build yet" if count["failed"] else "This machine can build"
    summary = f"{verdict}: {count['ok']} well, {count['warning']} to know, {count['failed']} failed."
    console.print(Padding(summary, (1, 0, 0, 0)))
