"""Overlay trees: files that mirror the image, `overlays/NAME/rootfs/etc/motd` for `/etc/motd`.

A file that ends in .j2 is a Jinja template and lands without that ending. Modes and owners stand in
`overlays/NAME/overlay.yaml`; without a word there a file is root's, mode 0644.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from imagebuilder.errors import Fault, Place
from imagebuilder.plan.changes import Intent, MakeDirectory, MakeLink, WriteFile
from imagebuilder.plan.template import render_template
from imagebuilder.recipe.model import Strict, nearest, refuse, validate_source
from imagebuilder.recipe.source import Source, printable, read_source

_TEMPLATE_SUFFIX = ".j2"
_MODE = re.compile(r"0[0-7]{3,4}")
_OWNER = re.compile(r"[a-z_][a-z0-9_-]*:[a-z_][a-z0-9_-]*")


def _mode(text: str) -> str:
    if not _MODE.fullmatch(text):
        raise refuse(f"'{text}' is no file mode", 'write it in quotes and with a leading zero: "0600"')
    return text


def _owner(text: str) -> str:
    if not _OWNER.fullmatch(text):
        raise refuse(f"'{text}' is no owner and group", 'write it as "sgeadmin:sgeadmin"')
    return text


def _path_in_image(text: str) -> str:
    path = PurePosixPath(text)
    if str(path) != text or path.root != "/" or path == PurePosixPath("/") or ".." in path.parts:
        raise refuse(f"'{text}' is no path in the image", "write it from the root, as /srv/data")
    return text


class OverlayRecipe(Strict):
    """What `overlay.yaml` may say; keys are paths in the image, `/path/**` stands for all below."""

    modes: dict[str, Annotated[str, AfterValidator(_mode)]] = {}
    """File modes, in quotes: "0600"."""
    owners: dict[str, Annotated[str, AfterValidator(_owner)]] = {}
    """Owners and groups: "sgeadmin:sgeadmin"."""
    directories: tuple[Annotated[str, AfterValidator(_path_in_image)], ...] = ()
    """Directories to make even if nothing is in them."""


@dataclass(frozen=True, kw_only=True)
class OverlayFile:
    """One file of an overlay; `source` is where a person finds it, `content` its bytes or template."""

    path: PurePosixPath
    source: Path
    content: bytes = b""
    link_target: str | None = None
    is_template: bool = False


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """An overlay tree with the modes and owners of its files."""

    name: str
    files: tuple[OverlayFile, ...]
    recipe: OverlayRecipe

    def digests(self) -> dict[str, str]:
        """SHA-256, in hex, of each file as a person wrote it, by its path in the image."""
        parts = {str(file.path): (file.link_target or "").encode() or file.content for file in self.files}
        own = {path: hashlib.sha256(part).hexdigest() for path, part in parts.items()}
        return {**own, "overlay.yaml": hashlib.sha256(self.recipe.model_dump_json().encode()).hexdigest()}

    def render(self, variables: Mapping[str, object]) -> tuple[list[Intent], list[Fault]]:
        """The overlay as changes, its templates filled in with `variables`; and what is wrong in them."""
        intents: list[Intent] = []
        faults: list[Fault] = []
        for file in self.files:
            if file.link_target is not None:
                intents.append(MakeLink(path=file.path, target=file.link_target))
                continue
            content = file.content
            if file.is_template:
                content, found = render_template(file.content, file.source, variables)
                faults += found
            mode, owner, group = self._ownership(file.path, "0644")
            intents.append(WriteFile(path=file.path, content=content, mode=mode, owner=owner, group=group))
        for directory in map(PurePosixPath, self.recipe.directories):
            mode, owner, group = self._ownership(directory, "0755")
            intents.append(MakeDirectory(path=directory, mode=mode, owner=owner, group=group))
        return intents, faults

    def _ownership(self, path: PurePosixPath, default_mode: str) -> tuple[int, str, str]:
        mode = _most_specific(self.recipe.modes, path) or default_mode
        owner, _, group = (_most_specific(self.recipe.owners, path) or "root:root").partition(":")
        return int(mode, 8), owner, group


def _most_specific(table: Mapping[str, str], path: PurePosixPath) -> str | None:
    return next((table[pattern] for pattern in _patterns_for(path) if pattern in table), None)


def _patterns_for(path: PurePosixPath) -> Iterator[str]:
    """What overlay.yaml can call `path`, the most specific first: itself, then what is below each parent."""
    text = str(path)
    yield text
    while text:
        text = text.rpartition("/")[0]
        yield f"{text}/**"


def read_overlay(directory: Path) -> tuple[Overlay, list[Fault]]:
    """The overlay in `directory`, and all that is wrong with it but for its templates."""
    recipe, faults = OverlayRecipe(), list[Fault]()
    recipe_file = directory / "overlay.yaml"
    files = tuple(_read_files(directory / "rootfs", faults))
    if recipe_file.exists():
        source, found = read_source(recipe_file)
        faults += found
        if source is not None:
            model, found = validate_source(source, OverlayRecipe)
            recipe = model or recipe
            faults += [*found, *_recipe_faults(recipe, source, files)]
    elif not files:
        what = f"there is nothing in {directory / 'rootfs'}"
        faults.append(Fault(place=Place(path=directory), what=what, fix="put files there, or remove the overlay"))
    faults += _file_faults(files)
    return Overlay(name=directory.name, files=files, recipe=recipe), faults


def _recipe_faults(recipe: OverlayRecipe, source: Source, files: Iterable[OverlayFile]) -> Iterator[Fault]:
    own = {file.path for file in files if file.link_target is None} | set(map(PurePosixPath, recipe.directories))
    known = {pattern for path in own for pattern in _patterns_for(path)}
    for section, table in (("modes", recipe.modes), ("owners", recipe.owners)):
        for path in table:
            if path not in known:
                what = f"'{printable(path)}' is no file or directory of this overlay.{nearest(path, known)}"
                fix = "write its path in the image, or /path/** for all below, or remove the line"
                yield Fault(place=source.place_of_key((section, path)), what=what, fix=fix)


def _file_faults(files: Iterable[OverlayFile]) -> Iterator[Fault]:
    by_path: dict[PurePosixPath, OverlayFile] = {}
    for file in files:
        other = by_path.setdefault(file.path, file)
        if other is not file:
            what = f"lands at {file.path}, and so does {other.source.name} beside it"
            yield Fault(place=Place(path=file.source), what=what, fix="keep one of the two")


def _read_files(rootfs: Path, faults: list[Fault]) -> Iterator[OverlayFile]:
    above = len(str(rootfs))
    for file in sorted(rootfs.rglob("*"), key=str):
        path = PurePosixPath(str(file)[above:])
        if file.is_symlink():
            yield OverlayFile(path=path, source=file, link_target=str(file.readlink()))
        elif file.is_file():
            is_template = file.suffix == _TEMPLATE_SUFFIX
            path = path.with_suffix("") if is_template else path
            yield OverlayFile(path=path, source=file, content=file.read_bytes(), is_template=is_template)
        elif not file.is_dir():
            what = "is no file, directory or link, and cannot be part of an overlay"
            faults.append(Fault(place=Place(path=file), what=what, fix="remove it"))
