"""What two versions of one file differ in: lines of text, or only the fact where it is a secret or no text."""

import difflib
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Literal

from imagebuilder.plan.listing import Listing

# Configuration is far smaller, and a diff of more than that is nothing to read.
MOST_BYTES = 1 << 20

# difflib takes the cube of it at worst (a few lines repeated over and over): two seconds for so many.
_MOST_LINES = 5_000

_CONTEXT_LINES = 3
_HUNK = re.compile(r"@@ -(\d+)(\S*) \+(\d+)(\S*) @@\n")

# What makes a file a secret although its mode does not say so.
_SECRET_MARKS = (b"PRIVATE KEY", b"OpenVPN Static key")

Secrecy = Literal["open", "secret"]


@dataclass(frozen=True, kw_only=True)
class TextDifference:
    """The unified diff of two texts, as diff(1) prints it."""

    unified: str


@dataclass(frozen=True, kw_only=True)
class SecretDifference:
    """Two contents that must not be shown: their SHA-256, in hex, or None where there is no file."""

    digest_a: str | None
    digest_b: str | None


@dataclass(frozen=True, kw_only=True)
class UnshownDifference:
    """Two contents that cannot be shown as text, and why not."""

    why: str


ContentDifference = TextDifference | SecretDifference | UnshownDifference


def secrecy_of(path: PurePosixPath, listing: Listing) -> Secrecy:
    """ "secret" if some user of the machine may not read the file at `path`, or not enter a directory above it.

    A path that is not there is "open": it gives nothing away.
    """
    entry = listing.get(path)
    directories = [listing[directory] for directory in path.parents if directory in listing]
    is_open = (entry is None or entry.mode & 0o004) and all(directory.mode & 0o001 for directory in directories)
    return "open" if is_open else "secret"


def compare_contents(
    a: bytes | None, b: bytes | None, *, name_a: str, name_b: str, secrecy: Secrecy
) -> ContentDifference:
    """What differs between two contents, None for no file; the names stand for them in a unified diff.

    A private key is a secret whatever its `secrecy`.
    """
    contents = [content for content in (a, b) if content is not None]
    if secrecy == "secret" or any(mark in content for mark in _SECRET_MARKS for content in contents):
        return SecretDifference(digest_a=_digest(a), digest_b=_digest(b))
    try:
        lines_a, lines_b = _lines(a or b""), _lines(b or b"")
    except UnicodeDecodeError:
        return UnshownDifference(why="binary")
    unified = _unified(lines_a, lines_b, printable(name_a), printable(name_b))
    return UnshownDifference(why="too many lines differ") if unified is None else TextDifference(unified=unified)


def printable(text: str) -> str:
    r"""`text` on one line that is safe to show: an image can hold names and texts made to upset a terminal.

    Every character that moves the cursor or is invisible becomes an escape such as `\x1b`; tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character == "\t" else _escape(character) for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _digest(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


def _lines(content: bytes) -> list[str]:
    """The lines of a text, each with its newline. Raises UnicodeDecodeError for what is no text."""
    if (position := content.find(b"\0")) >= 0:
        raise UnicodeDecodeError("utf-8", content, position, position + 1, "text has no NUL")
    text = content.decode()
    # Not splitlines: it would also split at a form feed or U+2028, which are characters within a line.
    lines = [f"{line}\n" for line in text.split("\n")]
    last = lines.pop().removesuffix("\n")
    return [*lines, last] if last else lines


def _unified(lines_a: list[str], lines_b: list[str], name_a: str, name_b: str) -> str | None:
    """A unified diff, or None if it would take long; equal heads and tails of any length cost nothing."""
    head = max(_count_equal(lines_a, lines_b) - _CONTEXT_LINES, 0)
    middle_a, middle_b = lines_a[head:], lines_b[head:]
    tail = max(_count_equal(reversed(middle_a), reversed(middle_b)) - _CONTEXT_LINES, 0)
    middle_a, middle_b = middle_a[: len(middle_a) - tail], middle_b[: len(middle_b) - tail]
    if max(len(middle_a), len(middle_b)) > _MOST_LINES:
        return None
    lines = difflib.unified_diff(middle_a, middle_b, name_a, name_b, n=_CONTEXT_LINES)
    return "".join(_finish_line(line, head) for line in lines)


def _count_equal(lines_a: Iterable[str], lines_b: Iterable[str]) -> int:
    """How many lines are equal before the first that differs."""
    pairs = zip(lines_a, lines_b, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _finish_line(line: str, skipped: int) -> str:
    """A line of a diff as diff(1) has it; `skipped` lines above were left out of the comparison."""
    if hunk := _HUNK.fullmatch(line):
        start_a, length_a, start_b, length_b = hunk.groups()
        return f"@@ -{int(start_a) + skipped}{length_a} +{int(start_b) + skipped}{length_b} @@\n"
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
