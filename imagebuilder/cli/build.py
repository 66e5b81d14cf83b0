"""`imgbuild build`: makes the images."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from imagebuilder.cli.bench import known_credentials, make_credentials, open_bench, say
from imagebuilder.cli.images import describe
from imagebuilder.cli.settings import Settings
from imagebuilder.cli.xen import write_configurations
from imagebuilder.image.build import build_images, image_key, plan_images, select_machines
from imagebuilder.site import load_site


class _Format(StrEnum):
    qcow2 = "qcow2"
    raw = "raw"


def build(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ROLE|NAME]…", help="What to build.  [default: all]")
    ] = None,
    image_format: Annotated[
        _Format,
        typer.Option(
            "--format", help="A thin overlay on the base (qcow2) or a full copy (raw, with holes or reflinks)."
        ),
    ] = _Format.qcow2,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be built.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Build the images of roles or machines, all in one go; an image that would come out the same is left alone.

    Makes the base first if the store does not have it, and the VPN's certificates that are missing. An image appears
    in the store only when it is whole and checked; whatever goes wrong, the one that was there stays.
    """
    settings: Settings = ctx.obj
    site = load_site(settings.site_directory)
    machines = select_machines(site, names or [])
    find = known_credentials if dry_run else make_credentials
    credentials = find(site, machines, settings)
    with open_bench(settings) as bench:
        planned = plan_images(site, machines, lambda machine: credentials.get(machine.name), bench)
        if dry_run:
            for one in planned:
                current = bench.store.current(one.plan.role, one.plan.name)
                same = current is not None and current.key == image_key(one.plan, image_format.value)
                typer.echo(f"{one.plan.name}: {'unchanged' if same else 'would be built'}")
            return
        results = build_images(planned, image_format.value, bench)
        write_configurations(site, [result.image for result in results], bench)
    if json_output:
        rows = [{**describe(result.image, bench.store), "outcome": result.outcome} for result in results]
        typer.echo(json.dumps(rows, indent=2))
    elif settings.verbosity != "quiet":
        for result in results:
            typer.echo(f"{result.outcome:9}  {result.image.name:12}  {result.image.key[:12]}  {result.image.disk}")
    if any(result.outcome == "built" for result in results):
        say(settings, "next: `imgbuild show NAME`, `imgbuild xen`, `imgbuild diff node worker`")
