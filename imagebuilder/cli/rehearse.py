"""`imgbuild rehearse`: boots the built images together and proves that the cluster works."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from imagebuilder.cli.bench import find_accelerator, known_credentials, open_reading_bench, say
from imagebuilder.cli.settings import Settings
from imagebuilder.cli.stages import open_stage, run_to_end
from imagebuilder.cli.watch import follow, tally
from imagebuilder.edits.edit import Machine
from imagebuilder.errors import HostError, UsageError
from imagebuilder.image.build import finished_images
from imagebuilder.image.store import Image, Store
from imagebuilder.pki import Authority, open_authority, read_passphrase
from imagebuilder.recipe.model import nearest
from imagebuilder.rehearse.leavings import end_kept, kept_rehearsals
from imagebuilder.rehearse.outcome import Report
from imagebuilder.rehearse.page import render_page
from imagebuilder.rehearse.record import is_wanted
from imagebuilder.rehearse.scenario import all_checks, rehearse
from imagebuilder.rehearse.stage import Script
from imagebuilder.rehearse.topology import make_topology
from imagebuilder.site import Site, load_site

_FAILED = 1


def rehearse_cluster(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHECK", help="Only this check, group of checks, or pattern; may be given several times; see -n."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="How many workers at once.")] = 2,
    nodes: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many hosts of each role beside the server, the first ones.")
    ] = 1,
    timeout_s: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="Stop after this time; the rest has failed.")
    ] = 3600,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster running, and say how to get in.")] = False,
    down: Annotated[bool, typer.Option("--down", help="End what --keep has left running, and do no more.")] = False,
    report_file: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write the report here, too, as one HTML page."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only list the checks.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Boot the built images together, on networks that exist only for them, and prove that the cluster works.

    The server, a host of each other role and workers run in QEMU on throw-away overlays: the images are not written
    to, and nothing reaches this machine's own network. When it ends, however it ends, no guest and no bridge is
    left, but for --keep. The last report is `log/rehearsal.html` in the store.

    Exits with 0 if all checks passed, 1 if one failed, 4 if this machine cannot do it. What each check proves, and
    what a rehearsal cannot prove, is in docs/rehearse.md.
    """
    settings: Settings = ctx.obj
    store = Store(root=settings.store)
    if down:
        _end_all(settings, store)
        return
    site = load_site(settings.site_directory)
    hosts = choose_hosts(site, nodes)
    # One more than run at once: it takes the place of one that is gone.
    topology = make_topology(site, hosts, workers + 1)
    if not topology.workers:
        raise UsageError("no recipe describes the workers", fix="make recipes/ROLE.yaml for `workers.role`")
    checks = all_checks(site, topology)
    _require_known(only or [], checks)
    if dry_run:
        wanted = {name: proves for name, proves in checks.items() if is_wanted(name, only or [])}
        typer.echo(json.dumps(wanted, indent=2) if json_output else "\n".join(wanted))
        return
    script = Script(
        site=site,
        topology=topology,
        images=current_images(site, settings, [*hosts, topology.workers[0].machine]),
        authority=_authority(settings),
        only=tuple(only or ()),
        timeout_s=timeout_s,
        afterwards="keep" if keep else "end",
    )
    if report_file is not None:
        _require_writable(report_file)
    accelerator = find_accelerator(settings)
    (settings.store / "log" / "rehearsal.log").unlink(missing_ok=True)
    with follow(settings) as watcher, open_stage(settings, accelerator, watcher) as stage:
        report = run_to_end(rehearse(script, stage))
    _show(report, settings, store, report_file, json_output=json_output)
    if not report.passed:
        raise typer.Exit(_FAILED)


def _require_known(patterns: Sequence[str], checks: Mapping[str, str]) -> None:
    """Raise UsageError for a pattern that no check has."""
    for pattern in patterns:
        if not any(is_wanted(name, [pattern]) for name in checks):
            what = f"there is no check '{pattern}'.{nearest(pattern, checks)}"
            raise UsageError(what, fix="`imgbuild rehearse -n` lists them")


def choose_hosts(site: Site, count: int) -> tuple[Machine, ...]:
    """The server, and the first `count` hosts of each other role."""
    server = site.cluster.server.name
    chosen: dict[str, list[Machine]] = {}
    for machine in site.machines():
        if machine.host is not None and machine.name != server:
            chosen.setdefault(machine.role, []).append(machine)
    [first] = [machine for machine in site.machines() if machine.name == server]
    return (first, *(machine for machines in chosen.values() for machine in machines[:count]))


def current_images(site: Site, settings: Settings, machines: Sequence[Machine]) -> dict[str, Image]:
    """The finished image of each machine, by name.

    Raises UsageError if one is not there, is not what the recipes say now, or was written to since it was built.
    """
    credentials = known_credentials(site, machines, settings)
    with open_reading_bench(settings, "rehearsal") as bench:
        finished = finished_images(site, machines, lambda machine: credentials.get(machine.name), bench)
    for _, image in finished:
        if not image.is_untouched():
            what = f"the image of {image.name} has been written to since it was built"
            raise UsageError(what, where=image.disk, fix=f"run `imgbuild build {image.name}`, which makes a fresh one")
    return {image.name: image for _, image in finished}


def _authority(settings: Settings) -> Authority | None:
    if not settings.pki_directory.is_dir():
        return None
    passphrase = read_passphrase(settings.ca_passphrase_file) if settings.ca_passphrase_file else None
    return open_authority(settings.pki_directory, passphrase=passphrase)


def _require_writable(file: Path) -> None:
    """Raise HostError now if the report could not be written at the end."""
    if not os.access(file if file.exists() else file.absolute().parent, os.W_OK) or file.is_dir():
        raise HostError("the report cannot be written", where=file, fix="give a file in a directory of yours")


def _show(report: Report, settings: Settings, store: Store, report_file: Path | None, *, json_output: bool) -> None:
    page = render_page(report)
    for file in filter(None, (settings.store / "log" / "rehearsal.html", report_file)):
        file.write_text(page, encoding="utf-8", errors="replace")
    if json_output:
        typer.echo(json.dumps({"passed": report.passed, **asdict(report)}, indent=2))
    else:
        if report.queue:
            typer.echo(f"\n{report.queue.rstrip()}\n")
        verdict = "The cluster works" if report.passed else "The cluster does not work"
        typer.echo(f"{verdict}: {tally(report)}.")
    say(settings, f"report: {report_file or settings.store / 'log' / 'rehearsal.html'}")
    for kept in kept_rehearsals(store):
        say(settings, "it runs on; for a console (root, no password; Ctrl-] leaves it):")
        for console in kept.consoles():
            say(settings, f"  cd {kept.directory} && socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:{console.name}")
        say(settings, "`imgbuild rehearse --down` ends it")


def _end_all(settings: Settings, store: Store) -> None:
    found = list(kept_rehearsals(store))
    for kept in found:
        end_kept(kept)
    say(settings, f"ended {len(found)} rehearsal{'' if len(found) == 1 else 's'}" if found else "none was running")
