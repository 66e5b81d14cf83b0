"""What an attribute of a template may be: where it stands, what it takes, and which document says so.

A table is written as rows of text, one an attribute:

    NAME text            at the top of the template
    MEMORY! integer      must be there
    DISK* vector         `NAME = [ … ]`, of which there may be several
    DISK.TYPE swap|fs    inside the vector attribute; takes one of these words, in any case
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["vm", "image", "network"]

_ROW = re.compile(r"(?:(?P<vector>[A-Z0-9_]+)\.)?(?P<name>[A-Z0-9_]+)(?P<marks>[!*]*) (?P<takes>\S+)")


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One attribute; `vector` is the vector attribute that it stands in, or nothing."""

    name: str
    vector: str
    takes: str
    source: str
    is_needed: bool = False
    is_repeatable: bool = False

    @property
    def path(self) -> str:
        """`NIC.IP`, or `CPU`."""
        return f"{self.vector}.{self.name}" if self.vector else self.name


@dataclass(frozen=True, kw_only=True)
class Table:
    """The attributes of one kind of template, in one generation."""

    attributes: tuple[Attribute, ...]
    open_vectors: frozenset[str] = frozenset()
    """Those that hold names of one's own."""

    def find(self, vector: str, name: str) -> Attribute | None:
        """The attribute of that name in that vector."""
        return next((one for one in self.attributes if (one.vector, one.name) == (vector, name)), None)

    def inside(self, vector: str) -> Iterator[Attribute]:
        """All that a vector attribute may hold; the top of the template for the empty name."""
        return (one for one in self.attributes if one.vector == vector)

    def homes(self, name: str) -> list[str]:
        """The vector attributes that may hold an attribute of that name, as a person says it."""
        return [one.vector for one in self.attributes if one.name == name]


def rows(source: str, *lines: str) -> tuple[Attribute, ...]:
    """The attributes that `lines` are, all of them from one document."""
    found = [match for line in lines if (match := _ROW.fullmatch(line))]
    if len(found) != len(lines):
        raise ValueError(f"a row of {source} is none")
    return tuple(
        Attribute(
            name=match["name"],
            vector=match["vector"] or "",
            takes=match["takes"],
            source=source,
            is_needed="!" in match["marks"],
            is_repeatable="*" in match["marks"],
        )
        for match in found
    )
