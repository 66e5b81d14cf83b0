"""`imgbuild one --apply`: has a running OpenNebula hold what the templates describe."""

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from imagebuilder.cli.bench import say
from imagebuilder.cli.one_vm import connect
from imagebuilder.cli.settings import Settings
from imagebuilder.errors import CheckError, UsageError
from imagebuilder.image.store import Image, Store
from imagebuilder.opennebula.apply import Order, apply_plan, make_plan
from imagebuilder.opennebula.change_plan import Change, ChangePlan
from imagebuilder.opennebula.files import TemplateFile
from imagebuilder.opennebula.guest import image_name, is_thin
from imagebuilder.opennebula.server import Server
from imagebuilder.opennebula.things import Kind, Thing
from imagebuilder.opennebula.wanted import Front, wanted_things
from imagebuilder.recipe.cluster import expand_names
from imagebuilder.site import Site

_RUN_BYTES = 6  # enough that no two runs have the same


def apply_files(  # noqa: PLR0913 - what the verb's options say
    files: Sequence[TemplateFile],
    site: Site,
    settings: Settings,
    *,
    is_whole: bool,
    store_on_front_end: Path | None,
    dry_run: bool,
    json_output: bool,
) -> None:
    """Show what has to change in OpenNebula so that it has all of `files`, then change it.

    `is_whole` says that the files are all of the cluster: only then can anything be wanted no more. Raises CheckError
    if something is in the way, UsageError for an image that cannot be copied or is not there.
    """
    store = Store(root=settings.store)
    cluster = site.cluster.recipe
    names = {file.name.removesuffix(".image") for file in files if file.part == "image"}
    if is_whole:
        _require_all(site, names)
    images = [image for image in store.images() if image.name in names]
    _refuse_thin(images)
    hosts = [name for pattern in cluster.opennebula.hosts for name in expand_names(pattern)] if is_whole else []
    front = Front(here=store.root, there=store_on_front_end) if store_on_front_end else None
    keys = {image_name(cluster, image): image.key for image in images}
    wanted = wanted_things(files, keys, hosts, front)
    server = connect()
    with store.locked(
        [store.root / "artifacts" / "opennebula"], on_wait=lambda _: say(settings, "wait for another run")
    ):
        plan = make_plan(wanted, server, cluster=cluster.name)
        outdated = plan.outdated if is_whole else ()
        if not json_output:
            _print_plan(plan, outdated, server, settings)
        _refuse_conflicts(plan, server)
        ids: Mapping[tuple[Kind, str], int] = {}
        if not dry_run:
            order = Order(
                plan=plan,
                cluster=cluster.name,
                run=secrets.token_hex(_RUN_BYTES),
                datastore=cluster.opennebula.datastore,
                say=lambda step: say(settings, step),
            )
            ids = apply_plan(order, server)
    if json_output:
        typer.echo(json.dumps(_rows(plan, outdated, ids), indent=2))
    elif dry_run:
        say(settings, "nothing was done")
    elif not plan.is_done:
        say(settings, "next: `imgbuild one vm create NAME`")


def _require_all(site: Site, names: set[str]) -> None:
    """Raise UsageError for a local machine without an image: its address would be gone from the network."""
    for machine in site.machines():
        is_local = site.roles[machine.role].recipe.xen is not None and machine.host is not None
        if is_local and machine.name not in names:
            what = "has no finished image, which a whole cluster needs"
            fix = f"run `imgbuild build {machine.name} --format raw`, or name those to apply"
            raise UsageError(what, where=machine.name, fix=fix)


def _refuse_thin(images: Sequence[Image]) -> None:
    for image in images:
        if is_thin(image):
            what = "its image is a thin overlay: OpenNebula would copy it without its base"
            raise UsageError(what, where=image.name, fix=f"imgbuild build {image.name} --format raw")


def _refuse_conflicts(plan: ChangePlan, server: Server) -> None:
    refused = plan.having("refuse")
    if refused:
        first = refused[0]
        more = f" (and {len(refused) - 1} more, listed above)" if len(refused) > 1 else ""
        where = f"{server.endpoint}: {first.wanted.kind} {first.wanted.name}"
        raise CheckError(f"{first.why}; nothing was done{more}", where=where, fix=first.fix)


def _print_plan(plan: ChangePlan, outdated: Sequence[Thing], server: Server, settings: Settings) -> None:
    say(settings, f"{server.endpoint}, as {server.user}")
    for change in plan.changes:
        typer.echo(_change_line(change))
    for thing in outdated:
        typer.echo(f"{'old':10} {thing.kind:9} {thing.name}  ({_use(thing)}; remove it with `{thing.removal}`)")


def _change_line(change: Change) -> str:
    number = f"  (id {change.thing.id})" if change.thing else ""
    why = f"  {change.why}" if change.why else ""
    return f"{change.action:10} {change.wanted.kind:9} {change.wanted.name}{number}{why}"


def _use(thing: Thing) -> str:
    if thing.used_by:
        return f"id {thing.id}, in use by {thing.used_by}"
    return f"id {thing.id}, holds what its machine has written" if thing.is_persistent else f"id {thing.id}"


def _rows(plan: ChangePlan, outdated: Sequence[Thing], ids: Mapping[tuple[Kind, str], int]) -> dict[str, object]:
    def row(change: Change) -> dict[str, object]:
        wanted = change.wanted
        known = change.thing.id if change.thing else None
        number = ids.get((wanted.kind, wanted.name), known)
        return {"action": change.action, "kind": wanted.kind, "name": wanted.name, "id": number, "why": change.why}

    old = [
        {"kind": one.kind, "name": one.name, "id": one.id, "used_by": one.used_by, "remove": one.removal}
        for one in outdated
    ]
    return {"changes": [row(change) for change in plan.changes], "outdated": old}
