"""gzip on all cores: chunks that are compressed one by one and together are a single member, and back.

Each chunk is a run of DEFLATE blocks that ends on a whole byte (a "sync flush") and refers to nothing before itself.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Literal, cast

from isal import isal_zlib
from zlib_ng import zlib_ng

from imagebuilder.errors import BuildError

Effort = Literal["fast", "small"]

HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # DEFLATE, no name, no time, no system
_LAST_BLOCK = b"\x03\x00"  # an empty one, which says that it is the last
_RAW_DEFLATE = -15  # a window of 32 KiB, neither header nor checksum
_GZIP = 31

# Measured on a Debian system: ISA-L at 2 does 350 to 520 MB a second and core; zlib-ng at 6 does 55 to 70 and makes
# the result a tenth smaller.
_ISAL_LEVEL, _ZLIB_NG_LEVEL = 2, 6
_ISAL_MEMORY = 9  # the most: 7 % faster than its default and 0.4 % larger, since it begins new blocks less often
_PIECE_BYTES = 1 << 20

_IsalError = cast("type[Exception]", isal_zlib.error)  # isal 1.9's own types take it for an exception that was raised


def compress_chunk(chunk: memoryview, effort: Effort) -> bytes:
    """`chunk` as DEFLATE blocks; the same for the same library. Other threads run meanwhile."""
    if effort == "fast":
        fast = isal_zlib.compressobj(_ISAL_LEVEL, isal_zlib.DEFLATED, _RAW_DEFLATE, _ISAL_MEMORY)
        return b"".join((fast.compress(chunk), fast.flush(isal_zlib.Z_SYNC_FLUSH)))
    small = zlib_ng.compressobj(_ZLIB_NG_LEVEL, zlib_ng.DEFLATED, _RAW_DEFLATE)
    return b"".join((small.compress(chunk), small.flush(zlib_ng.Z_SYNC_FLUSH)))


def checksum(chunk: memoryview, before: int = 0) -> int:
    """The CRC-32 of all chunks up to this one; `before` is that of those before it."""
    return isal_zlib.crc32(chunk, before)


def ending(crc: int, total_bytes: int) -> bytes:
    """What ends the member of chunks that have this checksum and together `total_bytes` bytes."""
    return _LAST_BLOCK + struct.pack("<II", crc, total_bytes % (1 << 32))


def decompress(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What was compressed, in pieces of at most 1 MiB. Raises BuildError if it is not one whole gzip member."""
    member = isal_zlib.decompressobj(_GZIP)
    for piece in pieces:
        rest = piece
        while rest and not member.eof:
            try:
                yield member.decompress(rest, _PIECE_BYTES)
            except _IsalError as error:
                raise BuildError(f"is damaged gzip data: {error}") from error
            rest = member.unconsumed_tail
        if rest or (member.eof and member.unused_data):
            raise BuildError("goes on behind the end of its gzip data")
    if not member.eof:
        raise BuildError("is gzip data without an end")
