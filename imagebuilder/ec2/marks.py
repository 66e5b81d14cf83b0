"""Finds secrets in bytes by what they look like: private keys, OpenVPN's keys, secret keys of AWS. Pure.

A program or a manual that only mentions such a thing has no secret: the header of a key must be followed by a key.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from imagebuilder.secret import Secret


class MarkKind(Enum):
    """What kind of secret was found."""

    PRIVATE_KEY = "private key"
    OPENVPN_KEY = "OpenVPN key"
    AWS_SECRET = "AWS secret access key"  # noqa: S105 - the word, not one


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A secret that was found `offset` bytes from the start; `body` is all of it that was there."""

    kind: MarkKind
    offset: int
    body: Secret

    def is_part_of(self, other: "Mark", *, block_bytes: int) -> bool:
        """Whether this one, found on a disk, can be `other`, found in a file.

        A file's next block may be anywhere on the disk, so what is behind the end of the block proves nothing.
        """
        here, there = self.body.reveal(), other.body.reveal()
        in_block = here[: block_bytes - self.offset % block_bytes]
        return self.kind is other.kind and (there.startswith((here, in_block)))


# The longest of these is an RSA key of 16384 bits: 13 KB.
_MOST_BODY_BYTES = 16 << 10
_MOST_HEADER_BYTES = 64

# Plain texts are found at a gigabyte a second, a pattern with choices at a fiftieth of that; so the pattern is only
# tried around one of these.
_CLUES = {
    b"PRIVATE KEY-----": MarkKind.PRIVATE_KEY,
    b"-----BEGIN OpenVPN ": MarkKind.OPENVPN_KEY,
    b"ecret_access_key": MarkKind.AWS_SECRET,
    b"ECRET_ACCESS_KEY": MarkKind.AWS_SECRET,
    b"ecretAccessKey": MarkKind.AWS_SECRET,
}
# A line of a key ends with a newline, or with the two characters that stand for one in JSON; a program may go without.
_END = rb"(?:\r?\n|\\n)?"
_PATTERNS = {
    MarkKind.PRIVATE_KEY: re.compile(
        rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY-----"
        + _END
        + rb"([A-Za-z0-9+/=:,. \r\n\\-]{40,%d})" % _MOST_BODY_BYTES
    ),
    MarkKind.OPENVPN_KEY: re.compile(
        rb"-----BEGIN OpenVPN [A-Za-z0-9 -]{1,32}-----" + _END + rb"([A-Za-z0-9+/=\r\n\\ -]{32,%d})" % _MOST_BODY_BYTES
    ),
    MarkKind.AWS_SECRET: re.compile(
        rb"""(?:aws_|AWS_)?[sS](?:ecret_access_key|ECRET_ACCESS_KEY|ecretAccessKey)["' \t]{0,8}[=:]["' \t]{0,8}"""
        rb"([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"
    ),
}
_KEY_ENDS = re.compile(rb"-----END [A-Za-z0-9 -]{1,40}-----")
_KEY_TEXT = re.compile(rb"[A-Za-z0-9+/]{32}")


def marks_in(chunks: Iterable[bytes | bytearray]) -> Iterator[Mark]:
    """Every secret in the bytes that `chunks` are in sequence, wherever they were cut."""
    buffer = b""
    start = 0  # of the buffer, from the first byte of all
    done = 0  # so much of the buffer has been looked through
    for chunk in chunks:
        buffer += bytes(chunk)
        # What begins near the end may go on in the next chunk.
        cut = len(buffer) - _MOST_BODY_BYTES - _MOST_HEADER_BYTES
        if cut > done:
            yield from _found(buffer, done, cut, start)
            keep = max(cut - _MOST_HEADER_BYTES, 0)
            buffer, start, done = buffer[keep:], start + keep, cut - keep
    yield from _found(buffer, done, len(buffer), start)


def _found(buffer: bytes, low: int, high: int, start: int) -> Iterator[Mark]:
    """The secrets whose clue begins from `low` on and before `high`, in order."""
    clues = sorted((position, clue) for clue in _CLUES for position in _positions(buffer, clue, low, high))
    for position, clue in clues:
        kind = _CLUES[clue]
        match = _match_around(buffer, position, len(clue), _PATTERNS[kind])
        if match is None:
            continue
        body = match.group(0)
        if kind is not MarkKind.AWS_SECRET:
            end = _KEY_ENDS.search(body)
            body = body[: end.end()] if end else body
            if not _KEY_TEXT.search(match.group(1)):
                continue
        yield Mark(kind=kind, offset=start + match.start(), body=Secret(body))


def _positions(buffer: bytes, clue: bytes, low: int, high: int) -> Iterator[int]:
    position = buffer.find(clue, low)
    while 0 <= position < high:
        yield position
        position = buffer.find(clue, position + 1)


def _match_around(buffer: bytes, position: int, length: int, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
    """The match of `pattern` that has the clue at `position` in its head, if there is one."""
    first = max(position - _MOST_HEADER_BYTES, 0)
    match = pattern.search(buffer, first, position + length + _MOST_BODY_BYTES)
    return match if match is not None and match.start() <= position < match.start(1) else None
