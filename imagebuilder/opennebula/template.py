"""A template of OpenNebula as a tree, and as the text that `onevm`, `oneimage`, `onevnet` and `onetemplate` read.

    NAME   = "local01"
    MEMORY = 1024
    DISK   = [ IMAGE = "local01", TARGET = "vda" ]

Two dialects, after OpenNebula's own grammar (src/parsers/template_parser.l and template_syntax.y; until 4.x
src/template/):

- `today`, since 3.0: a value is a word or stands in double quotes, where `\\"` is a quote and every other backslash
  itself; it may go over several lines. Several attributes may share a line.
- `classic`, 1.0 to 2.2: single quotes do as well as double ones, nothing is escaped, and every attribute ends its line.

In both, names are case insensitive, one name may stand several times, and `#` begins a comment.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import groupby
from pathlib import Path
from typing import Literal

from imagebuilder.errors import Place

Dialect = Literal["classic", "today"]

# What is not read from a file has this place.
NOWHERE = Place(path=Path("-"))

_NAME = re.compile(r"[A-Za-z0-9_]+")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_WIDEST = 100  # columns of a vector attribute in one line; a longer one has a line for each of its pairs


@dataclass(frozen=True, kw_only=True)
class Value:
    """The text of a value, without its quotes and escapes, and where it begins. Places are not compared."""

    text: str
    place: Place = field(default=NOWHERE, compare=False)
    quote: str = field(default="", compare=False)

    def place_at(self, index: int) -> Place:
        """Where the character at `index` of the text stands; a quote inside of double quotes has a backslash before."""
        before = self.text[:index]
        line, column = self.place.line, self.place.column + len(self.quote)
        if (lines := before.count("\n")) > 0:
            line, column, before = line + lines, 1, before.rpartition("\n")[2]
        escapes = before.count('"') if self.quote == '"' else 0
        return Place(path=self.place.path, line=line, column=column + len(before) + escapes)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """`NAME = VALUE`, at the top of a template or inside a vector attribute."""

    name: str
    value: Value
    place: Place = field(default=NOWHERE, compare=False)
    comment: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """The name as OpenNebula keeps it."""
        return self.name.upper()


@dataclass(frozen=True, kw_only=True)
class Vector:
    """`NAME = [ NAME = VALUE, … ]`."""

    name: str
    pairs: tuple[Pair, ...]
    place: Place = field(default=NOWHERE, compare=False)
    comment: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """The name as OpenNebula keeps it."""
        return self.name.upper()

    def get(self, key: str) -> str | None:
        """The text at `key`: OpenNebula keeps the first of several."""
        return next((pair.value.text for pair in self.pairs if pair.key == key), None)


Attribute = Pair | Vector


@dataclass(frozen=True, kw_only=True)
class Template:
    """The attributes in the order written; `comment` is what stands above all of them."""

    attributes: tuple[Attribute, ...]
    comment: str = field(default="", compare=False)

    def singles(self, key: str) -> tuple[Pair, ...]:
        """Every single attribute of this name."""
        return tuple(one for one in self.attributes if isinstance(one, Pair) and one.key == key)

    def vectors(self, key: str) -> tuple[Vector, ...]:
        """Every vector attribute of this name."""
        return tuple(one for one in self.attributes if isinstance(one, Vector) and one.key == key)

    def get(self, key: str) -> str | None:
        """The text of the first single attribute of this name."""
        return next((pair.value.text for pair in self.singles(key)), None)


def single(name: str, value: str | float, *, comment: str = "") -> Pair:
    """An attribute to write, with `comment` above it."""
    return Pair(name=name, value=Value(text=str(value)), comment=comment)


def vector(name: str, *, comment: str = "", **values: str | int | IPv4Address | None) -> Vector:
    """A vector attribute to write; a value that is None is left out."""
    pairs = tuple(single(key, str(value)) for key, value in values.items() if value is not None)
    return Vector(name=name, pairs=pairs, comment=comment)


def write_template(template: Template, dialect: Dialect = "today") -> str:
    """The template as text, aligned, with its comments.

    Raises ValueError for what the dialect cannot express: see `quoted`.
    """
    blocks = ["".join(_comment_lines(template.comment))] if template.comment else []
    for several, group in groupby(template.attributes, key=_stands_alone):
        attributes = list(group)
        width = max(len(one.name) for one in attributes)
        texts = [_attribute(one, width, dialect) for one in attributes]
        blocks.extend(texts if several else ["".join(texts)])
    return "\n".join(blocks)


def quoted(text: str, dialect: Dialect = "today") -> str:
    """`text` as a value: a bare number, or in quotes.

    Raises ValueError if the dialect has no way to say it: today's has none for a backslash at the end and for `]]>`,
    the classic one none for a line break and for both kinds of quotes at once. A carriage return or NUL has no way
    in either, nor has nothing at all before 4.x, where `""` was read as two quotes.
    """
    if _NUMBER.fullmatch(text):
        return text
    if not text or "\0" in text or "\r" in text:
        raise ValueError(f"no template can say {text!r}")
    match dialect:
        case "today" if not text.endswith("\\") and "]]>" not in text:
            return '"' + text.replace('"', '\\"') + '"'
        case "classic" if "\n" not in text and not {'"', "'"} <= set(text):
            quote = "'" if '"' in text else '"'
            return f"{quote}{text}{quote}"
        case _:
            raise ValueError(f"no {dialect} template can say {text!r}")


def _stands_alone(attribute: Attribute) -> bool:
    return isinstance(attribute, Vector) or bool(attribute.comment)


def _attribute(attribute: Attribute, width: int, dialect: Dialect) -> str:
    lines = "".join(_comment_lines(attribute.comment))
    match attribute:
        case Pair(name=name, value=value):
            return f"{lines}{_checked(name):{width}} = {quoted(value.text, dialect)}\n"
        case Vector(name=name, pairs=pairs):
            return f"{lines}{_checked(name)} = {_pairs(pairs, len(name), dialect)}\n"


def _pairs(pairs: tuple[Pair, ...], name_width: int, dialect: Dialect) -> str:
    if not pairs:
        raise ValueError("a vector attribute without a value")  # all releases but the latest refuse it
    flat = ", ".join(f"{_checked(one.name)} = {quoted(one.value.text, dialect)}" for one in pairs)
    if name_width + len(flat) + len(" = [  ]") <= _WIDEST and "\n" not in flat:
        return f"[ {flat} ]"
    width = max(len(one.name) for one in pairs)
    return "[\n" + ",\n".join(f"  {one.name:{width}} = {quoted(one.value.text, dialect)}" for one in pairs) + " ]"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no attribute's name")
    return name


def _comment_lines(comment: str) -> Iterable[str]:
    return (f"# {line}".rstrip() + "\n" for line in comment.splitlines())
