"""A tar archive of one file with holes, in GNU's old sparse format, as ec2-bundle-image has tar make it.

    header      512 bytes: the name, the first four segments, the real size
    extensions  512 bytes each: 21 further segments
    segments    the bytes of each, end to end, then zeros up to whole blocks
    trailer     two blocks of zeros, then zeros up to a whole record

The format is described in the manual of GNU tar, "Storing Sparse Files" and "Basic Tar Format".
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from imagebuilder.errors import BuildError

BLOCK = 512
_RECORD = 10240  # what tar writes at once, and pads an archive to
_GRAIN = 4096  # segments begin and end at multiples: a block of the file systems, and so few small segments

_NAME_BYTES = 100
_IN_HEADER, _IN_EXTENSION = 4, 21
_SEGMENT_BYTES = 24

_CHECKSUM = slice(148, 156)
_TYPE = 156
_MAGIC = slice(257, 265)
_GNU_MAGIC = b"ustar  \0"
_MAP = 386
_IS_EXTENDED, _REAL_SIZE = 482, slice(483, 495)
_MORE_FOLLOWS = 504

_MOST_OCTAL = 8**11  # eleven digits and a NUL fit into a field: 8 GiB do not
_MOST_SEGMENTS = 1 << 21  # in an archive that is read: more than 10 GiB have with every second block a hole


@dataclass(frozen=True, kw_only=True)
class Segment:
    """`length` bytes of a file from `start` on that are in the archive; all else of the file is holes."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.start + self.length


@dataclass(frozen=True, kw_only=True)
class Member:
    """What an archive says of its one file: its size with its holes, and where its bytes go."""

    name: str
    size_bytes: int
    segments: tuple[Segment, ...]

    @property
    def packed_bytes(self) -> int:
        """How many bytes of the file are in the archive."""
        return sum(segment.length for segment in self.segments)


def join_segments(segments: Iterable[Segment], size_bytes: int) -> tuple[Segment, ...]:
    """`segments`, which are in order, grown to whole grains of 4096 bytes within the file; those that touch are one.

    So only the last can end within a block of the archive: tools disagree on how the next one would begin.
    """
    joined: list[Segment] = []
    for segment in segments:
        start = segment.start // _GRAIN * _GRAIN
        end = min(-(-segment.end // _GRAIN) * _GRAIN, size_bytes)
        if joined and start <= joined[-1].end:
            start, end = joined[-1].start, max(end, joined.pop().end)
        if end > start:
            joined.append(Segment(start=start, length=end - start))
    return tuple(joined)


def header_of(member: Member) -> bytes:
    """All that stands before the first byte of the file. Raises ValueError if the name does not fit.

    The owner, mode and time are the same always: the same file is the same archive.
    """
    name = member.name.encode("ascii")
    if not 0 < len(name) <= _NAME_BYTES:
        raise ValueError(f"a name of {len(name)} bytes")
    pairs = [(segment.start, segment.length) for segment in member.segments]
    if not pairs or member.segments[-1].end < member.size_bytes:
        pairs.append((member.size_bytes, 0))  # the file ends in a hole
    further = pairs[_IN_HEADER:]
    header = bytearray(BLOCK)
    header[: len(name)] = name
    for place, text in ((100, b"0000600\0"), (108, b"0000000\0"), (116, b"0000000\0"), (136, b"00000000000\0")):
        header[place : place + len(text)] = text
    header[124:136] = _number(member.packed_bytes)
    header[_TYPE] = ord("S")
    header[_MAGIC] = _GNU_MAGIC
    _put_pairs(header, _MAP, pairs[:_IN_HEADER])
    header[_IS_EXTENDED] = bool(further)
    header[_REAL_SIZE] = _number(member.size_bytes)
    header[_CHECKSUM] = b"%06o\0 " % _checksum(header)
    return bytes(header) + b"".join(_extensions(further))


def trailer_of(stream_bytes: int) -> bytes:
    """What ends an archive of `stream_bytes` bytes of header and segments."""
    padded = -(-stream_bytes // BLOCK) * BLOCK + 2 * BLOCK
    return bytes(-(-padded // _RECORD) * _RECORD - stream_bytes)


def packed_chunks(segments: Iterable[Segment], chunk_bytes: int) -> Iterator[tuple[Segment, ...]]:
    """The segments cut into lots of `chunk_bytes` bytes, in order; the last lot may be smaller."""
    lot: list[Segment] = []
    room = chunk_bytes
    for segment in segments:
        start = segment.start
        while start < segment.end:
            piece = Segment(start=start, length=min(room, segment.end - start))
            lot.append(piece)
            start, room = piece.end, room - piece.length
            if room == 0:
                yield tuple(lot)
                lot, room = [], chunk_bytes
    if lot:
        yield tuple(lot)


class MemberParser:
    """Reads what stands before the first byte of the file, block by block, until `member` is there.

    Sparse files in GNU's old format and plain files are understood: tar makes the latter of an image without holes.
    """

    def __init__(self) -> None:
        self._header: bytes | None = None
        self._pairs: list[tuple[int, int]] = []
        self.member: Member | None = None

    def feed(self, block: bytes) -> None:
        """Take the next 512 bytes. Raises BuildError if they are not what tar writes."""
        if self._header is None:
            self._begin(block)
        else:
            self._read_pairs(block, 0, _IN_EXTENSION)
            if not block[_MORE_FOLLOWS]:
                self._finish_sparse()

    def _begin(self, block: bytes) -> None:
        stated = block[_CHECKSUM].strip(b" \0")
        if not stated.isdigit() or stated.lstrip(b"0") != b"%o" % _checksum(block):
            raise BuildError("is no tar archive: the checksum of its header is wrong")
        self._header = block
        match chr(block[_TYPE]):
            case "S" if block[_MAGIC] == _GNU_MAGIC:
                self._read_pairs(block, _MAP, _IN_HEADER)
                if not block[_IS_EXTENDED]:
                    self._finish_sparse()
            case "0" | "\0":
                size = _parse_number(block[124:136])
                self.member = Member(name=_name_in(block), size_bytes=size, segments=_whole_file(size))
            case kind:
                raise BuildError(f"holds a tar member of type {kind!a}, where one file is expected")

    def _read_pairs(self, block: bytes, place: int, count: int) -> None:
        for at in range(place, place + count * _SEGMENT_BYTES, _SEGMENT_BYTES):
            if block[at] == 0:  # the map is at its end
                return
            self._pairs.append((_parse_number(block[at : at + 12]), _parse_number(block[at + 12 : at + 24])))
        if len(self._pairs) > _MOST_SEGMENTS:
            raise BuildError(f"holds a file in more than {_MOST_SEGMENTS} pieces")

    def _finish_sparse(self) -> None:
        header = self._header or b""
        size = _parse_number(header[_REAL_SIZE])
        segments = tuple(Segment(start=start, length=length) for start, length in self._pairs if length)
        ends = (0, *(segment.end for segment in segments))
        if any(segment.start < end for segment, end in zip(segments, ends, strict=False)) or ends[-1] > size:
            raise BuildError("holds a file whose pieces overlap or lie behind its end")
        member = Member(name=_name_in(header), size_bytes=size, segments=segments)
        if member.packed_bytes != _parse_number(header[124:136]):
            raise BuildError("holds a file whose pieces are not as long as its header says")
        self.member = member


def _whole_file(size_bytes: int) -> tuple[Segment, ...]:
    return (Segment(start=0, length=size_bytes),) if size_bytes else ()


def _name_in(header: bytes) -> str:
    return header[:_NAME_BYTES].partition(b"\0")[0].decode("ascii", "backslashreplace")


def _extensions(pairs: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    for first in range(0, len(pairs), _IN_EXTENSION):
        block = bytearray(BLOCK)
        _put_pairs(block, 0, pairs[first : first + _IN_EXTENSION])
        block[_MORE_FOLLOWS] = first + _IN_EXTENSION < len(pairs)
        yield bytes(block)


def _put_pairs(block: bytearray, place: int, pairs: Iterable[tuple[int, int]]) -> None:
    for number, (start, length) in enumerate(pairs):
        at = place + number * _SEGMENT_BYTES
        block[at : at + _SEGMENT_BYTES] = _number(start) + _number(length)


def _number(value: int) -> bytes:
    """A field of twelve bytes: octal digits, or from 8 GiB on a big-endian number behind a first bit that is set."""
    return b"%011o\0" % value if value < _MOST_OCTAL else b"\x80" + value.to_bytes(11, "big")


def _parse_number(field: bytes) -> int:
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        raise BuildError("holds a tar header with a field that is no number")
    return int(digits, 8)


def _checksum(header: bytes | bytearray) -> int:
    """The sum of the header's bytes, the checksum itself taken for spaces."""
    return sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ")
