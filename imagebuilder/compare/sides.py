"""The sides of a comparison: which image a word on the command line means."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import BuildError, UsageError
from imagebuilder.image.appliance import DiskFormat
from imagebuilder.image.qemu_img import format_of, image_facts
from imagebuilder.image.store import Image, Store
from imagebuilder.recipe.model import nearest

_FORMATS: Mapping[str, DiskFormat] = {"raw": "raw", "qcow2": "qcow2"}


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of two images to compare; `build` is what the store knows of it, None for an image file."""

    name: str
    disk: Path
    format: DiskFormat
    build: Image | None


def find_side(word: str, store: Store) -> Side:
    """The image that `word` means.

    That is a role or a name in the store, such as `node`; one build of it, `node@KEY`, of which the first digits
    are enough; or an image file, as `FILE`, or as `raw:FILE` or `qcow2:FILE` if its suffix does not say what it
    is. A word with a slash in it is always a file. Raises UsageError if there is no such image, or several, and
    BuildError for a damaged file.
    """
    build = None if "/" in word else _find_build(word, store)
    if build is None:
        return _open_file(word, store)
    return Side(name=word, disk=build.disk, format=build.format, build=build)


def _find_build(word: str, store: Store) -> Image | None:
    name, wants_build, key = word.partition("@")
    images = tuple(store.images())
    named = [image for image in images if image.name == name] or [image for image in images if image.role == name]
    builds = [build for image in named for build in _builds(image, store)] if wants_build else named
    found = [build for build in builds if build.key.startswith(key)]
    match found:
        case [build]:
            return build
        case []:
            if wants_build and named:
                raise UsageError(f"{name} has no build {key}", where=store.root, fix=_choice(builds, wants_build))
            return None
        case _:
            raise UsageError(f"{word} has several images", where=store.root, fix=_choice(found, wants_build))


def _choice(images: list[Image], separator: str) -> str:
    words = (f"{image.name}{separator}{image.key[:12]}" if separator else image.name for image in images)
    return f"name one of {', '.join(words)}"


def _builds(image: Image, store: Store) -> Iterator[Image]:
    """All builds of an image that are in the store, the current one among them."""
    for directory in sorted(store.image_directory(image.role, image.name).iterdir()):
        build = None if directory.is_symlink() else store.build(image.role, image.name, directory.name)
        if build is not None:
            yield build


def _open_file(word: str, store: Store) -> Side:
    prefix, colon, rest = word.partition(":")
    stated = _FORMATS.get(prefix) if colon else None
    path = Path(rest if stated else word).absolute()
    if not path.exists():
        raise _no_such_image(word, store)
    try:
        path.open("rb").close()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=path) from error
    try:
        image_format = format_of(path, stated)
    except BuildError as error:
        fix = f"say what it is: qcow2:{word} or raw:{word}"
        raise UsageError(error.what, where=path, fix=None if stated else fix) from error
    image_facts(path, image_format)  # a clear word on a damaged file, before an appliance starts
    return Side(name=word, disk=path, format=image_format, build=None)


def _no_such_image(word: str, store: Store) -> UsageError:
    known = {word for image in store.images() for word in (image.name, image.role)}
    names = f"one of {', '.join(sorted(known))}, or " if known else "an image that `imgbuild build` has made, or "
    what = f"there is neither a finished image nor a file '{word}'.{nearest(word, known)}"
    return UsageError(what, fix=f"name {names}an image file")
