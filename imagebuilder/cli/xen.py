"""`imgbuild xen`: the xl configurations of finished images."""

import json
from typing import Annotated

import typer

from imagebuilder.cli.images import JsonOutput, select_images
from imagebuilder.cli.settings import Settings
from imagebuilder.errors import UsageError
from imagebuilder.image.build import select_machines
from imagebuilder.image.store import Image, Store
from imagebuilder.site import Site
from imagebuilder.xen.configuration import configuration_text
from imagebuilder.xen.domain import make_domain


def xen(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ROLE|NAME]…", help="Which images.  [default: all]")
    ] = None,
    json_output: JsonOutput = False,
) -> None:
    """Print the xl configuration of finished images that run under Xen; `imgbuild build` keeps them in the store.

    Use one with `xl create FILE`; `imgbuild show NAME` says where the file is.
    """
    settings: Settings = ctx.obj
    store = Store(root=settings.store)
    found = [(image, path) for image in select_images(store, names or []) for _, path in store.artifacts(image)]
    if names and not found:
        raise UsageError(f"no Xen machine among {', '.join(names)}", fix="set `xen:` in the role's recipe, and build")
    if json_output:
        rows = [
            {"name": image.name, "path": str(path), "text": path.read_text(encoding="utf-8")} for image, path in found
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    typer.echo("\n".join(path.read_text(encoding="utf-8") for _, path in found), nl=False)


def write_configuration(site: Site, image: Image, store: Store) -> None:
    """Write the Xen configuration of a finished image, if its role runs under Xen."""
    role = site.roles[image.role]
    if role.recipe.xen is None:
        return
    [machine] = select_machines(site, [image.name])
    domain = make_domain(machine, role.recipe.xen, role.interfaces, disk=image.disk, disk_format=image.format)
    store.write_artifact("xen", f"{image.name}.cfg", configuration_text(domain))
