"""`imgbuild xen`: the xl configurations of finished images."""

import json
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from imagebuilder.cli.bench import open_reading_bench
from imagebuilder.cli.images import JsonOutput, select_images
from imagebuilder.cli.settings import Settings
from imagebuilder.cli.xen_export import export_guests, foresee_exports, make_options
from imagebuilder.cli.xl_lint import lint
from imagebuilder.errors import UsageError
from imagebuilder.image.bases import Bench
from imagebuilder.image.store import Image, Store
from imagebuilder.recipe.xen import XenDomain
from imagebuilder.site import Site, load_site
from imagebuilder.xen.configuration import configuration_text
from imagebuilder.xen.guests import guests_of, make_domains


class _Type(StrEnum):
    pv = "pv"
    pvh = "pvh"
    hvm = "hvm"


class _Boot(StrEnum):
    pygrub = "pygrub"
    kernel = "kernel"
    pvgrub = "pvgrub"
    firmware = "firmware"


class _Disk(StrEnum):
    raw = "raw"
    qcow2 = "qcow2"


def xen(  # noqa: PLR0913, PLR0917 - one parameter an option
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ROLE|NAME]…", help="Which images.  [default: all]")
    ] = None,
    guest_type: Annotated[
        _Type | None, typer.Option("--type", help="Another kind of guest than the recipe says; only to look at.")
    ] = None,
    boot: Annotated[
        _Boot | None, typer.Option("--boot", help="Another way to boot than the recipe says; only to look at.")
    ] = None,
    flat: Annotated[
        bool,
        typer.Option("--flat", help="Make a raw copy of each disk, once, and name that: for a dom0 without qemu."),
    ] = False,
    export_directory: Annotated[
        Path | None,
        typer.Option(
            "--export", metavar="DIR", help="Make a folder DIR/NAME for a dom0: disk, configuration, ./start."
        ),
    ] = None,
    disk: Annotated[
        _Disk, typer.Option("--disk", help="In the folder: a flat copy (raw), or the overlay and its base (qcow2).")
    ] = _Disk.raw,
    host: Annotated[
        str | None, typer.Option("--host", metavar="USER@DOM0[:DIR]", help="Copy the folder there by ssh.")
    ] = None,
    ssh_config: Annotated[
        Path | None,
        typer.Option("--ssh-config", metavar="FILE", help="For ssh, instead of ~/.ssh/config."),
    ] = None,
    start: Annotated[bool, typer.Option("--start", help="Start the machine there.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would be exported, copied and started.")
    ] = False,
    lint_files: Annotated[
        list[Path] | None,
        typer.Option("--lint", metavar="FILE", help="Check this xl configuration instead, and others behind it."),
    ] = None,
    json_output: JsonOutput = False,
) -> None:
    """Print the xl configuration of finished images that run under Xen; `imgbuild build` keeps them in the store.

    Use one with `xl create FILE`; `imgbuild show NAME` says where the file is. With `boot: kernel` the image's kernel
    and initramfs are copied into the store, once for all images of one base. --type, --boot and --flat print what then
    would be so, and leave the files in the store alone.

    --lint checks any xl configuration: its grammar, the things that xl takes without a word (unknown keys, bad or
    double addresses, too little memory, a disk that is not there or of another format, a bridge that the cluster does
    not have), and what the real xl says, where there is one. Each fault has its line and column. Exits with 1 if
    there is any.

    --export makes a folder that stands alone, whole or not at all; what is there already costs nothing. --host copies
    it into a dom0, going on where an earlier copy was cut off, and has its checksums verified there. See
    docs/xen-export.md.
    """
    settings: Settings = ctx.obj
    if lint_files:
        if guest_type or boot or flat or export_directory or host:
            raise UsageError("--lint checks files, and goes with no other option but --json", fix="leave the rest out")
        # `--lint *.cfg` names all but the first of them as arguments.
        lint([*lint_files, *map(Path, names or [])], settings, json_output=json_output)
        return
    options = make_options(export_directory, disk.value, host, ssh_config, start=start)
    if options is None and dry_run:
        raise UsageError("--dry-run is for exports", fix="add --export DIR, or leave it out")
    if options is not None and flat:
        raise UsageError("--flat is a copy in the store", fix="leave it out: an export has a flat disk, --disk raw")
    site = load_site(settings.site_directory)
    store = Store(root=settings.store)
    guests = guests_of(site, select_images(store, names or []))
    if names and not guests:
        raise UsageError(f"no Xen machine among {', '.join(names)}", fix="set `xen:` in the role's recipe, and build")
    changed = [replace(guest, options=_changed(guest.options, guest_type, boot)) for guest in guests]
    if options is not None:
        act = foresee_exports if dry_run else export_guests
        act(changed, options, settings, json_output=json_output)
        return
    with open_reading_bench(settings, "xen") as bench:
        domains = make_domains(changed, bench, disks="flat" if flat else "as built")
    is_as_built = not (guest_type or boot or flat)
    texts = {domain.name: configuration_text(domain) for domain in domains}
    paths = {name: store.write_artifact("xen", f"{name}.cfg", text) for name, text in texts.items() if is_as_built}
    if json_output:
        rows = [
            {"name": name, "path": str(paths[name]) if name in paths else None, "text": text}
            for name, text in texts.items()
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    typer.echo("\n".join(texts.values()), nl=False)


def write_configurations(site: Site, images: Sequence[Image], bench: Bench) -> None:
    """Write the Xen configuration of each finished image whose role runs under Xen."""
    for domain in make_domains(guests_of(site, images), bench, disks="as built"):
        bench.store.write_artifact("xen", f"{domain.name}.cfg", configuration_text(domain))


def _changed(options: XenDomain, guest_type: _Type | None, boot: _Boot | None) -> XenDomain:
    """The options with another type or another way to boot. Raises UsageError if that cannot be."""
    if guest_type is None and boot is None:
        return options
    values = options.model_dump(exclude_unset=True)
    if guest_type is not None and guest_type.value != options.type:
        # What is for the recipe's own type: the other has ways of its own.
        values = {**values, "type": guest_type.value, "boot": None, "vnc": None}
    if boot is not None:
        values["boot"] = boot.value
    try:
        return XenDomain.model_validate(values)
    except ValidationError as error:
        context = error.errors(include_url=False)[0].get("ctx", {})
        raise UsageError(str(context.get("what", error)), fix=context.get("fix")) from error
