"""Reads a YAML file into plain values that know their place: file, line and column.

The YAML accepted is a strict subset: one document, text keys, no duplicate key, no alias trick, and of the plain
scalars only `null`, `true`/`false` and decimal numbers mean something other than text (YAML 1.1 would read `no`
as false and 0600 as 384).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from imagebuilder.errors import Fault, Place

Keys = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)\.[0-9]+")
_STANDARD_TAG = re.compile(r"tag:yaml\.org,2002:(null|bool|int|float|str|map|seq|timestamp)")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One YAML file: its values and where each stands."""

    path: Path
    value: object
    places: Mapping[Keys, Place]
    key_places: Mapping[Keys, Place]

    def place_of(self, keys: Keys) -> Place:
        """Where the value at `keys` stands; of something that is missing, where its container stands."""
        for end in range(len(keys), -1, -1):
            if (place := self.places.get(keys[:end])) is not None:
                return place
        return Place(path=self.path)

    def place_of_key(self, keys: Keys) -> Place:
        """Where the key itself stands, rather than its value."""
        return self.key_places.get(keys) or self.place_of(keys)


def read_source(path: Path, shown_as: Path) -> tuple[Source, list[Fault]]:
    """The values of the YAML file `path` and all that is wrong with them as YAML.

    `shown_as` is the path to name in messages. A file that cannot be read or parsed gives an empty mapping and
    one fault.
    """
    empty = Source(path=shown_as, value={}, places={(): Place(path=shown_as)}, key_places={})
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        fix = "run `imgbuild init DIR` for a site that has every file" if not path.exists() else None
        return empty, [Fault(place=Place(path=shown_as), what=f"cannot be read: {error.strerror}", fix=fix)]
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return empty, [Fault(place=Place(path=shown_as, line=line), what="is not UTF-8 text")]
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _place(shown_as, mark) if mark else Place(path=shown_as)
        words = [word for word in (error.context, error.problem) if word]
        return empty, [Fault(place=place, what=f"is not valid YAML: {', '.join(words)}")]
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        return empty, [Fault(place=Place(path=shown_as, line=line), what=f"is not valid YAML: {error.reason}")]
    if root is None:
        return empty, []
    reader = _Reader(shown_as)
    value = reader.value_of(root, ())
    return Source(path=shown_as, value=value, places=reader.places, key_places=reader.key_places), reader.faults


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[Keys, Place] = {}
        self.key_places: dict[Keys, Place] = {}
        self.faults: list[Fault] = []
        self._open: set[int] = set()

    def value_of(self, node: yaml.Node, keys: Keys) -> object:
        place = self.places[keys] = _place(self.path, node.start_mark)
        if not _STANDARD_TAG.fullmatch(node.tag):
            self.faults.append(Fault(place=place, what=f"the tag {node.tag} is not allowed", fix="remove it"))
            return None
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self._open:
            self.faults.append(Fault(place=place, what="an alias that contains itself", fix="write the value out"))
            return None
        self._open.add(id(node))
        value = self._mapping(node, keys) if isinstance(node, yaml.MappingNode) else self._sequence(node, keys)
        self._open.discard(id(node))
        return value

    def _sequence(self, node: yaml.Node, keys: Keys) -> list[object]:
        return [self.value_of(item, (*keys, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            place = _place(self.path, key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith((":merge", ":null")):
                self.faults.append(
                    Fault(place=place, what="a key must be text", fix="write a plain or quoted word")
                )
                continue
            key = str(key_node.value)
            if key in values:
                first = self.key_places[(*keys, key)]
                what = f"the key '{key}' stands here a second time"
                self.faults.append(
                    Fault(place=place, what=what, fix=f"keep one; the first is in line {first.line}")
                )
                continue
            self.key_places[(*keys, key)] = place
            values[key] = self.value_of(value_node, (*keys, key))
        return values


def _place(path: Path, mark: yaml.Mark) -> Place:
    return Place(path=path, line=mark.line + 1, column=mark.column + 1)


def _scalar(node: yaml.ScalarNode) -> object:
    text = str(node.value)
    if node.style:  # quoted or block text is text
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
        case _:
            return text
