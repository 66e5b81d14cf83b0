"""`imgbuild init`, `validate` and `schema`: the recipes themselves."""

import json
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter

from imagebuilder.cli.bench import say
from imagebuilder.cli.settings import Settings
from imagebuilder.errors import RecipeError, UsageError
from imagebuilder.plan.overlay import OverlayRecipe
from imagebuilder.recipe.cluster import ClusterRecipe
from imagebuilder.recipe.foundation import BaseRecipe
from imagebuilder.site import STARTER, RoleRecipe, load_site

_JsonOutput = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_OWN_OVERLAY_README = """\
Files of your own go here, under the path that they shall have in the image: overlays/NAME/rootfs/etc/motd lands as
/etc/motd in every role that says `overlays: [NAME]`. A file that ends in .j2 is a template. To change a file that
imgbuild brings along, copy its overlay here under the same name: yours is then used in its place.
"""


def init(
    ctx: typer.Context,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to make the site; its recipes/ must not exist.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be made.")] = False,
) -> None:
    """Make a site to start from: commented recipes of a whole cluster, which build as they are."""
    settings: Settings = ctx.obj
    recipes = directory / "recipes"
    if recipes.exists():
        raise UsageError("exists already; nothing was touched", where=recipes, fix="choose another directory")
    if not dry_run:
        try:
            shutil.copytree(STARTER / "recipes", recipes)
            (directory / "overlays").mkdir(exist_ok=True)
            (directory / "overlays" / "README").write_text(_OWN_OVERLAY_README, encoding="utf-8")
            ignore = directory / ".gitignore"
            if not ignore.exists():
                ignore.write_text("/.imgbuild/\n/secrets/\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot be made: {error.strerror}", where=error.filename) from error
    made = "would make" if dry_run else "made"
    say(settings, f"{made} a site in {directory}; next: imgbuild -C {directory} validate")


def validate(ctx: typer.Context, json_output: _JsonOutput = False) -> None:
    """Check all recipes and overlays; every fault at once, each with its place and how to mend it. Touches nothing.

    Exits with 3 if there are faults.
    """
    settings: Settings = ctx.obj
    try:
        site = load_site(settings.site_directory)
    except RecipeError as error:
        if not json_output:
            raise
        rows = [
            {
                "path": str(fault.place.path),
                "line": fault.place.line,
                "column": fault.place.column,
                "what": fault.what,
                "fix": fault.fix,
            }
            for fault in error.faults
        ]
        typer.echo(json.dumps({"valid": False, "faults": rows}, indent=2))
        raise typer.Exit(error.exit_code) from error
    machines = site.machines()
    if json_output:
        typer.echo(
            json.dumps({"valid": True, "faults": [], "images": [machine.name for machine in machines]}, indent=2)
        )
    elif settings.verbosity != "quiet":
        names = ", ".join(machine.name for machine in machines)
        typer.echo(f"valid: {len(machines)} images ({names}), {len(site.cluster.workers)} workers")


class _Document(StrEnum):
    cluster = "cluster"
    role = "role"
    base = "base"
    overlay = "overlay"


def schema(
    document: Annotated[_Document, typer.Argument(help="Which kind of file.")] = _Document.cluster,
) -> None:
    """Print the JSON Schema of a kind of recipe, for an editor that completes and checks as you type.

    With the YAML language server, put this first in the file:
    `# yaml-language-server: $schema=cluster.schema.json`
    """
    adapters: dict[_Document, TypeAdapter[object]] = {
        _Document.cluster: TypeAdapter(ClusterRecipe),
        _Document.role: TypeAdapter(RoleRecipe),
        _Document.base: TypeAdapter(BaseRecipe),
        _Document.overlay: TypeAdapter(OverlayRecipe),
    }
    value = adapters[document].json_schema()
    typer.echo(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **value}, indent=2))
