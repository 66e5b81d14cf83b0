"""`imgbuild plan` and `why`: what a build would do, and because of what."""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from imagebuilder.cli.bench import known_credentials, open_bench, say
from imagebuilder.cli.settings import Settings
from imagebuilder.image.build import PlannedImage, plan_images, select_machines
from imagebuilder.image.store import Image, Store
from imagebuilder.plan.changes import Change, MakeDirectory, MakeLink, RemovePath, WriteFile
from imagebuilder.site import load_site

_Names = Annotated[list[str] | None, typer.Argument(metavar="[ROLE|NAME]…", help="Which images.  [default: all]")]
_JsonOutput = Annotated[bool, typer.Option("--json", help="Print one JSON array.")]
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def plan(ctx: typer.Context, names: _Names = None, json_output: _JsonOutput = False) -> None:
    """Show all that a build would write into images, each file as a difference against the base.

    Needs no appliance once the base has been made or inspected. Contents that must not be seen are not shown.
    """
    settings: Settings = ctx.obj
    planned = _plan(settings, names)
    if json_output:
        rows = [
            {
                "role": one.plan.role,
                "name": one.plan.name,
                "key": one.plan.key,
                "base": one.plan.base_digest,
                "changes": [
                    {**row, "edits": one.plan.origins[change.path]}
                    for change, row in zip(one.plan.changes, one.plan.rows(), strict=True)
                ],
            }
            for one in planned
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    for one in planned:
        console.print(
            Text(f"{one.plan.name} ({one.plan.role}), key {one.plan.key[:12]}, {len(one.plan.changes)} changes"),
            style="bold",
        )
        for change in one.plan.changes:
            for line in _lines(change, one):
                console.print(Text(line, _COLOURS.get(line[:1], "")))


def _plan(settings: Settings, names: list[str] | None) -> tuple[PlannedImage, ...]:
    site = load_site(settings.site_directory)
    machines = select_machines(site, names or [])
    credentials = known_credentials(site, machines, settings)
    missing = [machine.name for machine in machines if site.vpn_purpose(machine) and machine.name not in credentials]
    if missing:
        say(
            settings,
            f"the VPN's keys of {', '.join(missing)} do not exist yet, and are left out; a build makes them",
        )
    with open_bench(settings) as bench:
        return plan_images(site, machines, lambda machine: credentials.get(machine.name), bench)


def _lines(change: Change, one: PlannedImage) -> Iterator[str]:
    edits = ", ".join(one.plan.origins[change.path])
    match change:
        case RemovePath():
            yield f"remove {change.path}  [{edits}]"
        case MakeLink():
            yield f"link {change.path} -> {change.target}  [{edits}]"
        case MakeDirectory():
            yield f"directory {change.path} {change.mode:04o} {change.owner}:{change.group}  [{edits}]"
        case WriteFile():
            yield f"file {change.path} {change.mode:04o} {change.owner}:{change.group}  [{edits}]"
            yield from _content_lines(change, one)


def _content_lines(change: WriteFile, one: PlannedImage) -> Iterator[str]:
    base = one.target.text(change.path)
    if change.is_secret:
        yield f"  (secret, {len(change.payload)} bytes, not shown)"
        return
    try:
        text = change.payload.decode()
    except UnicodeDecodeError:
        yield f"  (binary, {len(change.payload)} bytes)"
        return
    before = base.content.splitlines() if base else []
    name = str(change.path)
    yield from difflib.unified_diff(before, text.splitlines(), f"base{name}", f"{one.plan.name}{name}", lineterm="")


def why(
    ctx: typer.Context,
    names: _Names = None,
    json_output: _JsonOutput = False,
) -> None:
    """Say which inputs changed since an image was built, and which of its files change with them.

    Exits with 0 if every image is up to date and with 1 if a build would write one.
    """
    settings: Settings = ctx.obj
    planned = _plan(settings, names)
    reports = [_report(one, settings) for one in planned]
    if json_output:
        typer.echo(json.dumps(reports, indent=2))
    else:
        for report in reports:
            _print_report(report)
    if any(report["state"] != "up to date" for report in reports):
        raise typer.Exit(1)


def _report(one: PlannedImage, settings: Settings) -> dict[str, object]:
    current = Store(root=settings.store).current(one.plan.role, one.plan.name)
    report: dict[str, object] = {"name": one.plan.name, "role": one.plan.role}
    if current is None:
        return {**report, "state": "never built", "inputs": [], "paths": []}
    if current.key.partition("-")[0] == one.plan.key:
        return {**report, "state": "up to date", "inputs": [], "paths": []}
    return {
        **report,
        "state": "changed",
        "inputs": list(_changed_inputs(current.inputs, one.inputs)),
        "paths": list(_changed_paths(current, one)),
    }


def _changed_inputs(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[dict[str, str | None]]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield {"input": name, "before": before.get(name), "after": after.get(name)}


def _changed_paths(current: Image, one: PlannedImage) -> Iterator[str]:
    rows = {str(row["path"]): row for row in one.plan.rows()}
    before = {str(row["path"]): row for row in current.plan_rows()}
    return (path for path in sorted({*rows, *before}) if rows.get(path) != before.get(path))


def _print_report(report: Mapping[str, object]) -> None:
    typer.echo(f"{report['name']}: {report['state']}")
    inputs, paths = report["inputs"], report["paths"]
    if isinstance(inputs, list):
        for row in inputs:
            before, after = (_short(row[side]) for side in ("before", "after"))
            typer.echo(f"  {row['input']}: {before} -> {after}")
    if isinstance(paths, list):
        for path in paths:
            typer.echo(f"  changes {path}")


def _short(value: str | None) -> str:
    if value is None:
        return "(none)"
    return f"{value[:12]}…" if len(value) == 64 else value
