"""`imgbuild verify`: whether finished images are what their plans foresee."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Annotated

import typer
from rich.console import Console

from imagebuilder.cli.bench import find_accelerator, known_credentials, open_reading_bench
from imagebuilder.cli.differences import describe_entry, print_line, summary_line
from imagebuilder.cli.settings import Settings
from imagebuilder.cli.stages import open_stage, run_to_end
from imagebuilder.cli.watch import follow, tally
from imagebuilder.compare.difference import Aspect
from imagebuilder.compare.verify import Verification, verify_images
from imagebuilder.edits.edit import Machine
from imagebuilder.image.build import finished_images, select_machines
from imagebuilder.rehearse.alone import boot_alone
from imagebuilder.rehearse.outcome import Report
from imagebuilder.rehearse.stage import Script
from imagebuilder.rehearse.topology import make_topology
from imagebuilder.site import Site, load_site

_DIFFERENT = 1

# A difference knows two images; here one of them is only foreseen.
_IN_WORDS = {Aspect.ONLY_IN_A: "missing", Aspect.ONLY_IN_B: "not foreseen"}


def verify(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ROLE|NAME]…", help="Which images.  [default: all]")
    ] = None,
    boot: Annotated[
        bool, typer.Option("--boot", help="Then boot each, all alone, and prove what it can do without the others.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Read finished images whole, and say what is not as it was foreseen when they were built; times are left out.

    For an image that has been copied, lain on a doubtful disk, or been changed by hand. Every path is compared, and
    of every file each byte, those of the base too. One that a machine has run on has changed, of course.

    A line begins with - for a path that is missing, + for one that was not foreseen, ~ for one that is otherwise.
    With --boot each image then boots on a throw-away overlay, on networks with nobody else on them: its units, its
    host name, its interfaces and what else its edits can prove there. The whole cluster is for `imgbuild rehearse`.

    Exits with 0 if all is as foreseen, with 1 if something is not, and with 2 if an image is not there, or not what
    the recipes say now.
    """
    settings: Settings = ctx.obj
    site = load_site(settings.site_directory)
    machines = select_machines(site, names or [])
    verifications = _verify(site, machines, settings)
    reports = _boot(site, machines, verifications, settings) if boot else {}
    if json_output:
        typer.echo(json.dumps(describe(verifications, reports), indent=2))
    else:
        _print(verifications)
        for name, report in reports.items():
            typer.echo(f"{name}: booted alone, {tally(report)}")
    if any(one.differences for one in verifications) or not all(report.passed for report in reports.values()):
        raise typer.Exit(_DIFFERENT)


def describe(
    verifications: Sequence[Verification], reports: Mapping[str, Report] = MappingProxyType({})
) -> list[dict[str, object]]:
    """What was found as plain values: the stable contract of `imgbuild verify --json`.

    An object an image. `differences` has an object a path, in the order of the paths' parts; its `aspects` is one
    of "missing", "not foreseen" and "type", or any of "mode", "owner", "link" and "content". `foreseen` and `found`
    are as `imgbuild diff --json` has them. `boot` is null, or as `imgbuild rehearse --json` has it.
    """
    return [
        {
            "role": one.image.role,
            "name": one.image.name,
            "key": one.image.key,
            "path": str(one.image.disk),
            "as_foreseen": not one.differences,
            "paths": one.path_count,
            "differences": [
                {
                    "path": str(difference.path),
                    "aspects": [_IN_WORDS.get(aspect, aspect.value) for aspect in difference.aspects],
                    "foreseen": describe_entry(difference.a),
                    "found": describe_entry(difference.b),
                }
                for difference in one.differences
            ],
            "boot": asdict(reports[one.image.name]) if one.image.name in reports else None,
        }
        for one in verifications
    ]


def _verify(site: Site, machines: Sequence[Machine], settings: Settings) -> tuple[Verification, ...]:
    credentials = known_credentials(site, machines, settings)
    with open_reading_bench(settings, "verify") as bench:
        finished = finished_images(site, machines, lambda machine: credentials.get(machine.name), bench)
        return verify_images(finished, bench)


def _boot(
    site: Site, machines: Sequence[Machine], verifications: Sequence[Verification], settings: Settings
) -> dict[str, Report]:
    """Boot each image alone, one after the other, and report by name."""
    images = {one.image.name: one.image for one in verifications}
    accelerator = find_accelerator(settings)
    reports = {}
    with follow(settings) as watcher:
        for machine in machines:
            hosts = [] if machine.host is None else [machine]
            topology = make_topology(site, hosts, workers=1 - len(hosts))
            script = Script(site=site, topology=topology, images=images, authority=None)
            with open_stage(settings, accelerator, watcher) as stage:
                reports[machine.name] = run_to_end(boot_alone(script, stage))
    return reports


def _print(verifications: Sequence[Verification]) -> None:
    console = Console(highlight=False)
    width = max((len(one.image.name) for one in verifications), default=0)
    for one in verifications:
        state = f"differs in {len(one.differences):,} of" if one.differences else "as foreseen "
        print_line(console, f"{one.image.name:{width}}  {state} {one.path_count:,} paths", "bold")
        for difference in one.differences:
            print_line(console, *summary_line(difference))
