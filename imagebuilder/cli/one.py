"""`imgbuild one`: templates for OpenNebula, and what is wrong with one."""

import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imagebuilder.cli.bench import say
from imagebuilder.cli.images import JsonOutput
from imagebuilder.cli.one_apply import apply_files
from imagebuilder.cli.settings import Settings
from imagebuilder.ec2.ami import ami_name
from imagebuilder.ec2.records import Record, Records
from imagebuilder.errors import CheckError, Fault, HostError, UsageError
from imagebuilder.image.build import select_machines
from imagebuilder.image.store import Image, Store
from imagebuilder.opennebula.attributes import Kind
from imagebuilder.opennebula.files import TemplateFile, Workers, template_files
from imagebuilder.opennebula.guest import Guest, is_thin
from imagebuilder.opennebula.lint import guess_kind, lint_text
from imagebuilder.opennebula.parser import parse_template
from imagebuilder.opennebula.release import RELEASES, Generation, Release
from imagebuilder.opennebula.workers import RegisteredAmi
from imagebuilder.site import Site, load_site
from imagebuilder.whole_files import write_whole


class _Release(StrEnum):
    of_2008 = "1"
    of_5 = "5"
    today = "7"


class _Part(StrEnum):
    network = "network"
    image = "image"
    vm = "vm"
    hosts = "hosts"


class _Kind(StrEnum):
    vm = "vm"
    image = "image"
    network = "network"


def one(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ROLE|NAME]…", help="Which machines.  [default: all]")
    ] = None,
    *,
    release: Annotated[
        _Release, typer.Option(help="For OpenNebula 1.0 to 2.2 (1), 4.14 to 5.12 (5), or 6.0 and later (7).")
    ] = _Release.today,
    part: Annotated[
        _Part | None,
        typer.Option(help="Only these: networks, images, machines (vm), or the script that sets up the hosts."),
    ] = None,
    region: Annotated[
        str | None, typer.Option(metavar="REGION", help="The region of the workers' AMI, if it is in several.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write the files there, not to the output.")
    ] = None,
    apply: Annotated[
        bool,
        typer.Option("--apply", help="Have the OpenNebula of ONE_XMLRPC and ONE_AUTH hold all this."),
    ] = False,
    store_on_front_end: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --apply: where oned's machine sees the store.  [default: as here]"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="With --output or --apply: only say what it would be.")
    ] = False,
    lint: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Print what is wrong with this template instead; may be given often."),
    ] = None,
    kind: Annotated[
        _Kind | None,
        typer.Option(help="What --lint reads.  [default: by .template, .image or .net, else by what it holds]"),
    ] = None,
    own: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="An attribute of your own, which --lint lets be; may be given often."),
    ] = None,
    json_output: JsonOutput = False,
) -> None:
    """Print the templates for OpenNebula: of every local machine and its disk, of all workers, of the networks; and
    the script that makes OpenNebula know the hosts.

    With --apply, what OpenNebula lacks is made and what differs is changed, after it was shown: all of it or nothing,
    and never what somebody else has made. `imgbuild one vm` then starts machines. See docs/opennebula-apply.md.

    Needs finished images, and for workers on EC2 their registered AMI. With --lint, exits with 1 if a template has
    attributes or variables that OpenNebula would refuse or, which is worse, pass over.
    """
    settings: Settings = ctx.obj
    generation: Generation = release.value
    chosen = RELEASES[generation]
    if lint:
        _lint(lint, chosen, kind.value if kind else None, own or [], json_output=json_output)
        return
    if names and part in (_Part.network, _Part.hosts):
        raise UsageError(f"--part {part.value} is of the whole cluster", fix="leave out the names")
    if apply and (chosen.generation != "7" or part is not None or output is not None):
        what = "--apply is for OpenNebula 6.0 and later, of whole machines, and writes no files"
        raise UsageError(what, fix="leave out --release, --part and --output")
    site = load_site(settings.site_directory)
    files = _files(site, names or [], chosen, region, settings)
    files = tuple(file for file in files if part is None or file.part == part.value)
    if apply:
        apply_files(
            files,
            site,
            settings,
            is_whole=not names,
            store_on_front_end=store_on_front_end,
            dry_run=dry_run,
            json_output=json_output,
        )
    elif output is not None:
        _write(files, output, dry_run=dry_run, settings=settings)
    elif json_output:
        typer.echo(json.dumps([{"name": file.name, "part": file.part, "text": file.text} for file in files], indent=2))
    else:
        typer.echo("\n".join(file.text for file in files), nl=False)


def _files(
    site: Site, names: Sequence[str], release: Release, region: str | None, settings: Settings
) -> tuple[TemplateFile, ...]:
    """What `names` ask for; without names all that there is, and what is missing is said."""
    store = Store(root=settings.store)
    machines = {machine.name for machine in select_machines(site, names)}
    workers_name = site.cluster.recipe.workers.role
    guests = [guest for guest in _guests(site, store, names, settings) if guest.machine.name in machines]
    workers = Workers(image=None, ami=None)
    if workers_name in machines:
        image = store.current(workers_name, workers_name)
        workers = Workers(image=image, ami=_ami(site, store, image, region))
        _require_workers(workers, release, settings, named=bool(names))
    if names and not guests and workers == Workers(image=None, ami=None):
        what = f"no machine of OpenNebula among {', '.join(names)}"
        raise UsageError(what, fix="set `xen:` in the role's recipe, and build")
    for guest in (guest for guest in guests if is_thin(guest.image)):
        fix = f"imgbuild build {guest.machine.name} --format raw"
        say(settings, f"{guest.machine.name}: its image is a thin overlay, which is no use without its base: {fix}")
    try:
        files = template_files(site.cluster, guests, workers, release)
    except ValueError as error:  # a path may have what no template can say
        raise UsageError(str(error), fix="choose a --store with a plainer path") from error
    # Networks and hosts are of the whole cluster; with names there would be gaps in them.
    return tuple(file for file in files if not names or file.part in ("image", "vm"))


def _guests(site: Site, store: Store, names: Sequence[str], settings: Settings) -> Iterator[Guest]:
    for machine in select_machines(site, names):
        role = site.roles[machine.role]
        if role.recipe.xen is None or machine.host is None:
            continue
        image = store.current(machine.role, machine.name)
        if image is not None:
            yield Guest(machine=machine, domain=role.recipe.xen, interfaces=role.interfaces, image=image)
            continue
        what, fix = f"there is no finished image '{machine.name}'", f"run `imgbuild build {machine.name}`"
        if names:
            raise UsageError(what, fix=fix)
        say(settings, f"left out: {what}; {fix}")


def _require_workers(workers: Workers, release: Release, settings: Settings, *, named: bool) -> None:
    """Raise UsageError if the workers that were asked for by name have no template, else say so."""
    if release.generation == "7":
        missing, what, fix = workers.image is None, "there is no finished image of the workers", "imgbuild build worker"
    else:
        what, fix = "no AMI of the workers is registered", "imgbuild bundle worker --register"
        missing = workers.ami is None
    if missing and named:
        raise UsageError(what, fix=f"run `{fix}`")
    if missing:
        say(settings, f"left out: {what}; run `{fix}`")
    elif workers.ami is not None and not workers.ami.is_current and release.generation != "7":
        say(settings, f"{workers.ami.ami} was made from an older build of the workers' image: {fix}")


def _ami(site: Site, store: Store, image: Image | None, region: str | None) -> RegisteredAmi | None:
    """The newest AMI of the image as it is, else of an older build. Raises UsageError if several regions have one."""
    recipe = site.cluster.recipe
    prefix = ami_name(image, recipe).removesuffix(image.key[:12]) if image else f"{recipe.name}-{recipe.workers.role}-"
    everywhere = [record for records in Records.everywhere(store) for record in records.all()]
    known = [record for record in everywhere if region in (None, record.region)]
    current = [record for record in known if image is not None and record.key == image.key]
    # Of an older build only the name that imgbuild gives says that it is the workers'.
    candidates = current or [record for record in known if record.name.startswith(prefix)]
    regions = sorted({record.region for record in candidates})
    if len(regions) > 1:
        raise UsageError(f"the workers' AMI is registered in {', '.join(regions)}", fix="choose one with --region")
    newest: Record | None = max(candidates, key=lambda record: record.registered_at, default=None)
    if newest is None:
        return None
    return RegisteredAmi(ami=newest.ami, region=newest.region, key=newest.key, is_current=bool(current))


def _write(files: Sequence[TemplateFile], directory: Path, *, dry_run: bool, settings: Settings) -> None:
    for file in files:
        path = directory / file.name
        if not dry_run:
            try:
                directory.mkdir(parents=True, exist_ok=True)
                write_whole(path, file.text.encode(), mode=0o755 if file.part == "hosts" else 0o644)
            except OSError as error:
                raise HostError(f"cannot be written: {error.strerror}", where=path) from error
        say(settings, f"{'would write' if dry_run else 'wrote'} {path}")


def _lint(paths: Sequence[Path], release: Release, kind: Kind | None, own: Sequence[str], *, json_output: bool) -> None:
    found = [fault for path in paths for fault in _faults(path, release, kind, own)]
    if json_output:
        rows = [
            {
                "path": str(fault.place.path),
                "line": fault.place.line,
                "column": fault.place.column,
                "what": fault.what,
                "fix": fault.fix,
            }
            for fault in found
        ]
        typer.echo(json.dumps(rows, indent=2))
    else:
        for fault in found:
            typer.echo(str(fault))
    if found:
        raise typer.Exit(CheckError.exit_code)


def _faults(path: Path, release: Release, kind: Kind | None, own: Sequence[str]) -> tuple[Fault, ...]:
    try:
        text = path.read_bytes().decode()  # as it is: a carriage return is a fault
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=path) from error
    except UnicodeDecodeError as error:
        raise UsageError("is not UTF-8 text", where=path, fix="save it as UTF-8") from error
    if kind is None:
        kind = guess_kind(path, parse_template(text, path, release.dialect)[0])
    return lint_text(text, path, kind=kind, release=release, own=own)
