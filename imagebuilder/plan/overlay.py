"""Overlay trees: files that mirror the image, `overlays/NAME/rootfs/etc/motd` for `/etc/motd`.

A file that ends in .j2 is a Jinja template and lands without that ending. Modes and owners stand in
`overlays/NAME/overlay.yaml`; without a word there a file is root's, mode 0644.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import jinja2
from pydantic import AfterValidator

from imagebuilder.errors import Fault, Place
from imagebuilder.plan.changes import Intent, MakeDirectory, MakeLink, WriteFile
from imagebuilder.recipe.model import Strict, nearest, refuse, validate_source
from imagebuilder.recipe.source import read_source

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


class OverlayRecipe(Strict):
    """What `overlay.yaml` may say; keys are paths in the image, `/path/**` stands for all below."""

    modes: dict[str, Annotated[str, AfterValidator(_mode)]] = {}
    """File modes, in quotes: "0600"."""
    owners: dict[str, Annotated[str, AfterValidator(_owner)]] = {}
    """Owners and groups: "sgeadmin:sgeadmin"."""
    directories: tuple[str, ...] = ()
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
        own = {str(file.path): hashlib.sha256(file.content).hexdigest() for file in self.files}
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
                text, found = _render(file, variables)
                faults += found
                content = text.encode()
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
    if (exact := table.get(str(path))) is not None:
        return exact
    return next((table[f"{parent}/**"] for parent in path.parents if f"{parent}/**" in table), None)


def read_overlay(directory: Path, shown_as: Path) -> tuple[Overlay, list[Fault]]:
    """The overlay in `directory`, whose messages name it `shown_as`, and what is wrong with its overlay.yaml."""
    recipe, faults = OverlayRecipe(), list[Fault]()
    recipe_file = directory / "overlay.yaml"
    files = tuple(_read_files(directory / "rootfs", shown_as / "rootfs"))
    if recipe_file.exists():
        source, faults = read_source(recipe_file, shown_as / "overlay.yaml")
        model, found = validate_source(source, OverlayRecipe)
        faults += found
        recipe = model or recipe
        known = {str(file.path) for file in files} | set(recipe.directories)
        for section, table in (("modes", recipe.modes), ("owners", recipe.owners)):
            for path in table:
                stem = path.removesuffix("/**")
                inside = any(PurePosixPath(one).is_relative_to(stem) for one in known)
                if path not in known and not (path != stem and inside):
                    what = f"'{path}' is no file of this overlay.{nearest(path, known)}"
                    faults.append(
                        Fault(place=source.place_of_key((section, path)), what=what, fix="remove the line")
                    )
    elif not files:
        what = f"there is no overlay '{directory.name}': nothing in {shown_as / 'rootfs'}"
        faults.append(
            Fault(place=Place(path=shown_as), what=what, fix="make its rootfs directory, or drop its name")
        )
    return Overlay(name=directory.name, files=files, recipe=recipe), faults


def _read_files(rootfs: Path, shown_as: Path) -> Iterator[OverlayFile]:
    for file in sorted(rootfs.rglob("*")):
        relative = file.relative_to(rootfs)
        path, source = PurePosixPath("/", *relative.parts), shown_as / relative
        if file.is_symlink():
            yield OverlayFile(path=path, source=source, link_target=str(file.readlink()))
        elif file.is_file():
            is_template = file.suffix == _TEMPLATE_SUFFIX
            path = path.with_suffix("") if is_template else path
            yield OverlayFile(path=path, source=source, content=file.read_bytes(), is_template=is_template)


_ENVIRONMENT = jinja2.Environment(
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - configuration files, not HTML
)


def _render(file: OverlayFile, variables: Mapping[str, object]) -> tuple[str, list[Fault]]:
    try:
        text = file.content.decode()
        template = _ENVIRONMENT.from_string(text)
        return template.render(variables), []
    except UnicodeDecodeError:
        return "", [Fault(place=Place(path=file.source), what="a template must be UTF-8 text")]
    except jinja2.TemplateSyntaxError as error:
        place = Place(path=file.source, line=error.lineno)
        return "", [Fault(place=place, what=f"is no valid template: {error.message}")]
    except jinja2.UndefinedError as error:
        return "", [_undefined_fault(file, text, error, variables)]
    except (TypeError, ValueError, ArithmeticError) as error:
        place = Place(path=file.source, line=_template_line(error))
        return "", [Fault(place=place, what=f"cannot be filled in: {error}")]


def _template_line(error: BaseException) -> int:
    """The line of the template that raised `error`: Jinja gives the frame the template's own line numbers."""
    line, frame = 1, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == "<template>":
            line = frame.tb_lineno
        frame = frame.tb_next
    return line


def _undefined_fault(
    file: OverlayFile, text: str, error: jinja2.UndefinedError, variables: Mapping[str, object]
) -> Fault:
    line = _template_line(error)
    quoted = re.findall(r"'([^']+)'", str(error))
    name = quoted[-1] if quoted else ""
    found = re.search(rf"(?<![\w]){re.escape(name)}(?!\w)", text.splitlines()[line - 1]) if name else None
    place = Place(path=file.source, line=line, column=found.start() + 1 if found else 1)
    known = ", ".join(sorted(variables))
    return Fault(
        place=place,
        what=f"the variable '{name}' has no value.{nearest(name, variables)}",
        fix=f"use one of {known}, or set it under `variables:` of the role"
        if known
        else "set it under `variables:`",
    )
