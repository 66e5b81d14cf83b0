"""Reads a YAML file into plain values that know their place: file, line and column.

The YAML accepted is a strict subset: one document, text keys, no duplicate key, no tag, anchor or alias, and of the
plain scalars only `null`, `true`/`false` and decimal numbers mean something other than text (YAML 1.1 would read
`no` as false). A number with a leading zero is refused: YAML 1.1 reads 0600 as 384, YAML 1.2 as 600.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import yaml

from imagebuilder.errors import Fault, Place

Keys = tuple[str | int, ...]

# 18 digits: what is longer is no number that a recipe could mean.
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\.[0-9]{1,18}")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
# What YAML does not allow in a file, and what it takes for a line break where no editor shows one.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")
_DEEPEST = 16  # mappings and lists in one another; no recipe needs more than seven


@dataclass(frozen=True, kw_only=True)
class Source:
    """One YAML file: its values and where each stands."""

    path: Path
    value: object = field(repr=False)  # may hold a password hash, or a clear password that is yet to be refused
    places: Mapping[Keys, Place] = field(repr=False)
    key_places: Mapping[Keys, Place] = field(repr=False)

    def place_of(self, keys: Keys) -> Place:
        """Where the value at `keys` stands; of something that is missing, where its container stands."""
        for end in range(len(keys), -1, -1):
            if (place := self.places.get(keys[:end])) is not None:
                return place
        return Place(path=self.path)

    def place_of_key(self, keys: Keys) -> Place:
        """Where the key itself stands, rather than its value."""
        return self.key_places.get(keys) or self.place_of(keys)

    def names_at(self, keys: Keys) -> list[str]:
        """The keys of the mapping at `keys`, whether their values are valid or not."""
        return [str(inner[-1]) for inner in self.key_places if inner[:-1] == keys]


def read_source(path: Path) -> tuple[Source | None, list[Fault]]:
    """The values of the YAML file `path` and all that is wrong with them as YAML.

    A file that cannot be read or parsed gives no source. An empty file is an empty mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        fix = "run `imgbuild init DIR` for a site that has every file" if not path.exists() else None
        return None, [Fault(place=Place(path=path), what=f"cannot be read: {error.strerror}", fix=fix)]
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8", errors="replace")
        return None, [Fault(place=_end_of(before, path), what="is not UTF-8 text", fix="save it as UTF-8")]
    if control := _CONTROL.search(text):
        what = f"the control character U+{ord(control[0]):04X} is not allowed"
        return None, [Fault(place=_end_of(text[: control.start()], path), what=what, fix="remove it")]
    try:
        if refused := list(_refused_parts(text, path)):
            return None, refused
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        return None, [_syntax_fault(text, path, error)]
    reader = _Reader(path)
    value = None if root is None else reader.value_of(root, ())
    value = {} if value is None else value
    return Source(path=path, value=value, places=reader.places, key_places=reader.key_places), reader.faults


def printable(text: str) -> str:
    """`text` for a message of one line: what a terminal cannot show is escaped."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _refused_parts(text: str, path: Path) -> Iterator[Fault]:
    """What YAML has and a recipe has not; no text is quoted, as a clear password may begin with '!', '&' or '*'."""
    documents = depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        place = _place(path, event.start_mark)
        match event:
            case yaml.DocumentStartEvent():
                documents += 1
                if documents == 2:
                    yield Fault(place=place, what="a second document begins here", fix="keep one document a file")
            case yaml.AliasEvent():
                fix = "write the value out; put a text that begins with '*' in quotes"
                yield Fault(place=place, what="an alias is not allowed", fix=fix)
            case yaml.NodeEvent(anchor=str()):
                fix = "remove it; put a text that begins with '&' in quotes"
                yield Fault(place=place, what="an anchor is not allowed", fix=fix)
            case yaml.ScalarEvent(tag=str()) | yaml.CollectionStartEvent(tag=str()):
                fix = "remove it; put a text that begins with '!' in quotes"
                yield Fault(place=place, what="a tag is not allowed", fix=fix)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            yield Fault(place=place, what="mappings or lists too deep in one another", fix="close the brackets")
            return


def _syntax_fault(text: str, path: Path, error: yaml.MarkedYAMLError) -> Fault:
    last_line = text.count("\n") + (not text.endswith("\n"))
    begun = error.context_mark
    found = error.problem_mark or begun
    if found is None or found.line >= last_line:  # at the end of the file: show what is open there
        found = begun if begun is not None and begun.line < last_line else None
    place = _place(path, found) if found else _end_of(text.rstrip(), path)
    line = text.split("\n")[place.line - 1]
    match line[place.column - 1 : place.column]:
        case "\t":
            what, fix = "a tab in the indent", "write spaces in its place"
        case "@" | "`" | "%":
            what, fix = "no text can begin with this character", "put the text in quotes"
        case _:
            what = " ".join(filter(None, (error.problem, error.context)))
            what += f" that begins in line {begun.line + 1}" if begun and begun.line + 1 < place.line else ""
            fix = "check the indent, the quotes and the brackets here and in the line above"
    return Fault(place=place, what=f"is not valid YAML: {what}", fix=fix)


class _Mark(Protocol):
    """A position as PyYAML's two parsers have it, one type each; both count from 0."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[Keys, Place] = {(): Place(path=path)}
        self.key_places: dict[Keys, Place] = {}
        self.faults: list[Fault] = []

    def value_of(self, node: yaml.Node, keys: Keys) -> object:
        self.places[keys] = _place(self.path, node.start_mark)
        match node:
            case yaml.MappingNode():
                return self._mapping(node, keys)
            case yaml.SequenceNode():
                return [self.value_of(item, (*keys, index)) for index, item in enumerate(node.value)]
            case _:
                return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            place = _place(self.path, key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":null"):
                fix = "write a plain or quoted word before the colon"
                self.faults.append(Fault(place=place, what="a key must be text", fix=fix))
                continue
            key = str(key_node.value)
            if key in values:
                first = self.key_places[(*keys, key)]
                what = f"the key '{printable(key)}' stands here a second time"
                fix = f"keep one; the first is in line {first.line}"
                self.faults.append(Fault(place=place, what=what, fix=fix))
                continue
            self.key_places[(*keys, key)] = place
            values[key] = self.value_of(value_node, (*keys, key))
        return values

    def _scalar(self, node: yaml.Node) -> object:
        text = str(node.value)
        if isinstance(node, yaml.ScalarNode) and node.style:  # quoted or block text is text
            return text
        match text:
            case "" | "~" | "null":
                return None
            case "true" | "false":
                return text == "true"
            case _ if _INTEGER.fullmatch(text):
                return int(text)
            case _ if _DECIMAL.fullmatch(text):
                return float(text)
            case _ if _LEADING_ZERO.fullmatch(text):
                fix = "put it in quotes if it is meant as text, such as a file mode; otherwise leave out the zero"
                place = _place(self.path, node.start_mark)
                self.faults.append(Fault(place=place, what="a number with a leading zero", fix=fix))
        return text


def _place(path: Path, mark: _Mark | None) -> Place:
    return Place(path=path, line=mark.line + 1, column=mark.column + 1) if mark else Place(path=path)


def _end_of(text: str, path: Path) -> Place:
    """The place behind `text`, which is the beginning of a file."""
    return Place(path=path, line=text.count("\n") + 1, column=len(text) - text.rfind("\n"))
