"""Opens an instance-store bundle as EC2 would at a launch, and looks whether the image in it is whole.

With Python's own tarfile and zlib, on purpose: what reads a bundle here has nothing in common with what writes one.
"""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.cloud.ec2_key import BlockDecryptor

_PIECE = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS


class BadBundle(Exception):  # noqa: N818 - what it is
    """A bundle that cannot be opened, or with another image in it than its manifest says."""


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """What the manifest says of the image."""

    name: str
    size_bytes: int
    sha1: str
    """Of the archive that holds it."""


def check_content(parts: Iterable[Path], *, key: bytes, start: bytes, claimed: Claimed) -> None:
    """Decrypt, decompress and unpack the parts, and compare. Raises BadBundle."""
    archive = _Archive(_unpacked(_decrypted(parts, BlockDecryptor(key, start))))
    try:
        with tarfile.open(fileobj=io.BufferedReader(archive, _PIECE), mode="r|") as tar:
            members = [(member.name, member.size, member.isreg()) for member in tar]
        while archive.read(_PIECE):  # the padding of the archive
            pass
    except (tarfile.TarError, zlib.error, ValueError) as error:
        raise BadBundle(f"cannot be opened: {error}") from error
    if archive.sha1.hexdigest() != claimed.sha1:
        raise BadBundle("the digest of the image is not that of the manifest")
    if members != [(claimed.name, claimed.size_bytes, True)]:
        raise BadBundle(f"holds {members}, not the one file {claimed.name} of {claimed.size_bytes} bytes")


def _decrypted(parts: Iterable[Path], decryptor: BlockDecryptor) -> Iterator[bytes]:
    for path in parts:
        with path.open("rb") as stream:
            while piece := stream.read(_PIECE):
                yield decryptor.update(piece)
    yield decryptor.finish()


def _unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The one gzip member; nothing may follow it."""
    gunzip = zlib.decompressobj(wbits=_GZIP)
    for piece in pieces:
        if plain := gunzip.decompress(piece):
            yield plain
    if not gunzip.eof or gunzip.unused_data:
        raise ValueError("it is not one gzip member")


class _Archive(io.RawIOBase):
    """The archive as a file to read, which keeps its digest."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self.sha1 = hashlib.sha1(usedforsecurity=False)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        if not self._piece:
            piece = next(self._pieces, b"")
            self.sha1.update(piece)
            self._piece = memoryview(piece)
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count
