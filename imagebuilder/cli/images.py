"""`imgbuild list` and `show`: what the store has."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from imagebuilder.cli.settings import Settings
from imagebuilder.ec2.records import Records
from imagebuilder.errors import UsageError
from imagebuilder.image.store import Image, Store
from imagebuilder.recipe.model import nearest

JsonOutput = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def describe(image: Image, store: Store) -> dict[str, object]:
    """An image as plain values: the stable contract of `imgbuild show --json`."""
    base = store.base(image.base_digest)
    artifacts = (*store.artifacts(image), *_amis(image, store))
    return {
        "role": image.role,
        "name": image.name,
        "key": image.key,
        "path": str(image.disk),
        "format": image.format,
        "base": {"path": str(base.disk) if base else None, "digest": image.base_digest},
        "built_at": image.built_at,
        "size_bytes": image.disk.stat().st_blocks * 512,
        "artifacts": [{"kind": kind, "path": str(path)} for kind, path in artifacts],
    }


def _amis(image: Image, store: Store) -> Iterator[tuple[str, Path]]:
    """The records of the AMIs that were made of just this build, which say region and id."""
    for records in Records.everywhere(store):
        yield from (("ami", records.path(record)) for record in records.all() if record.key == image.key)


def select_images(store: Store, words: Sequence[str]) -> tuple[Image, ...]:
    """The finished images that `words` name by role or by name; all if there are no words. Raises UsageError."""
    images = tuple(store.images())
    known = {image.name for image in images} | {image.role for image in images}
    for word in words:
        if word not in known:
            what = f"there is no finished image '{word}'.{nearest(word, known)}"
            raise UsageError(what, fix=f"run `imgbuild build {word}`, or see `imgbuild list`")
    return tuple(image for image in images if not words or {image.name, image.role} & set(words))


def select_image(store: Store, word: str) -> Image:
    """The one finished image that `word` names by role or by name. Raises UsageError for none, and for several."""
    images = select_images(store, [word])
    if len(images) > 1:
        names = ", ".join(image.name for image in images)
        raise UsageError(f"'{word}' has several images", fix=f"name one of {names}")
    return images[0]


def list_images(ctx: typer.Context, json_output: JsonOutput = False) -> None:
    """List the finished images in the store."""
    settings: Settings = ctx.obj
    store = Store(root=settings.store)
    images = select_images(store, [])
    if json_output:
        typer.echo(json.dumps([describe(image, store) for image in images], indent=2))
        return
    table = Table("ROLE", "NAME", "KEY", "FORMAT", "SIZE", "BUILT", box=None, pad_edge=False)
    for image in images:
        size = f"{image.disk.stat().st_blocks * 512 / (1 << 20):.1f} MiB"
        table.add_row(image.role, image.name, image.key[:12], image.format, size, image.built_at)
    Console(highlight=False).print(table)


def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ROLE|NAME", help="Which image.")],
    json_output: JsonOutput = False,
) -> None:
    """Show one finished image: where it is, its key and base, and what was made from it."""
    settings: Settings = ctx.obj
    store = Store(root=settings.store)
    description = describe(select_image(store, name), store)
    if json_output:
        typer.echo(json.dumps(description, indent=2))
        return
    for key, value in description.items():
        match value:
            case dict():
                texts = [f"{name} {inner}" for name, inner in value.items()]
            case list():
                texts = [f"{row['kind']} {row['path']}" for row in value]
            case _:
                texts = [str(value)]
        for text in texts:
            typer.echo(f"{key.replace('_', ' '):12}{text}")
