"""What is in an initramfs: the names of the files in its archives. Pure.

The kernel takes any number of cpio archives one behind the other, each plain or compressed, with zeros between them
(Documentation/driver-api/early-userspace/buffer-format.rst): processor microcode comes first and plain, then the rest.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath

import zstandard

from imagebuilder.errors import BuildError

_MAGICS = (b"070701", b"070702")  # "newc", without and with checksums: the only two that the kernel knows
_HEADER_BYTES = 110
_NAME_FIELD, _SIZE_FIELD = slice(94, 102), slice(54, 62)
_TRAILER = "TRAILER!!!"
# A few MiB become a hundred at most; more is no initramfs that a small instance could boot.
_MOST_BYTES = 1 << 30


def _unzstd(content: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as reader:
        return reader.read(_MOST_BYTES)


# By their first bytes, as the kernel tells them apart (lib/decompress.c); lzo and lz4 have no decompressor here.
_DECOMPRESSORS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\x28\xb5\x2f\xfd": _unzstd,
    b"\x1f\x8b": gzip.decompress,
    b"\xfd7zXZ": lambda content: lzma.LZMADecompressor().decompress(content, _MOST_BYTES),
    b"\x5d\x00\x00": lambda content: lzma.LZMADecompressor().decompress(content, _MOST_BYTES),
    b"BZh": lambda content: bz2.BZ2Decompressor().decompress(content, _MOST_BYTES),
}


def names_in_initramfs(content: bytes) -> frozenset[PurePosixPath]:
    """The path of everything in an initramfs, as it will be in the early root. Raises BuildError if it is damaged."""
    names: set[PurePosixPath] = set()
    rest = content.lstrip(b"\0")
    while rest:
        if rest.startswith(_MAGICS):
            end = 0
            for name, behind in _members(rest):
                names.add(PurePosixPath("/", name))
                end = behind
            rest = rest[end:].lstrip(b"\0")
        else:
            # What is compressed comes last: its end is not looked for.
            inner = _decompressed(rest)
            if not inner:  # some of the decompressors take a cut end for the end
                raise BuildError("ends in the middle of an archive", where="initramfs")
            return frozenset(names | names_in_initramfs(inner))
    return frozenset(names)


def _decompressed(content: bytes) -> bytes:
    for magic, decompress in _DECOMPRESSORS.items():
        if content.startswith(magic):
            try:
                return decompress(content)
            except (zstandard.ZstdError, lzma.LZMAError, OSError, EOFError, zlib.error) as error:
                raise BuildError(f"cannot be decompressed: {error}", where="initramfs") from error
    fix = "set COMPRESS=zstd in /etc/initramfs-tools/initramfs.conf of the base"
    raise BuildError(f"begins with {content[:6].hex()}, which is no archive known here", where="initramfs", fix=fix)


def _members(archive: bytes) -> Iterator[tuple[str, int]]:
    """Each name in the archive at the start of `archive`, with the position behind the file it belongs to."""
    position = 0
    while True:
        header = archive[position : position + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES or not header.startswith(_MAGICS):
            raise BuildError("ends in the middle of an archive", where="initramfs")
        try:
            name_bytes, size = int(header[_NAME_FIELD], 16), int(header[_SIZE_FIELD], 16)
        except ValueError as error:
            raise BuildError("has a damaged header in an archive", where="initramfs") from error
        start = position + _HEADER_BYTES
        name = archive[start : start + name_bytes].rstrip(b"\0").decode(errors="replace")
        position = _aligned(_aligned(start + name_bytes) + size)
        yield name, position
        if name == _TRAILER:
            return


def _aligned(position: int) -> int:
    return -(-position // 4) * 4
