"""Opens a classic bundle: the image again, if everything about the bundle is as its maker signed it.

    parts ─▶ AES ─▶ gzip ─▶ archive ─▶ image
    SHA-1, size             SHA-1      size

It is done in one pass. The image lies under a temporary name until all is checked. Nothing is believed: a manifest
can come from anywhere, and the signature only says that it is the one that the owner of the key made.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp

from imagebuilder.ec2.bundle_directory import files_of_bundle
from imagebuilder.ec2.ciphers import BundleKey, PrivateKey, PublicKey, decrypt
from imagebuilder.ec2.gzip_member import decompress
from imagebuilder.ec2.manifest import MOST_MANIFEST_BYTES, Manifest, parse_manifest
from imagebuilder.ec2.sparse_tar import BLOCK, Member, MemberParser
from imagebuilder.errors import BuildError, HostError, UsageError

_PIECE_BYTES = 256 << 10  # small enough for malloc to use the same memory again
_MOST_PADDING = 1 << 20  # a hundred times tar's
_ANEW = "fetch the bundle again, or make it anew"

Progress = Callable[[int, int], None]
"""Told how many bytes of the parts are done, and how many there are."""


@dataclass(frozen=True, kw_only=True)
class OpenedManifest:
    """A manifest whose signature is right, and the key to its parts."""

    path: Path
    manifest: Manifest
    key: BundleKey


def open_manifest(path: Path, owner: PrivateKey, signer: PublicKey | None = None) -> OpenedManifest:
    """The manifest at `path`, of a bundle that is encrypted for `owner` and signed by `signer`, by default the same.

    Raises BuildError if it is not, or is no whole manifest; HostError if it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_MANIFEST_BYTES + 1)
    except OSError as error:
        raise HostError(error.strerror or "cannot be read", where=path) from error
    with _at(path):
        signed = parse_manifest(content)
        if not (signer or owner.public).has_signed(signed.signed_bytes, signed.signature):
            fix = "give the key or the certificate of who made the bundle; if you did, the manifest was changed"
            raise BuildError("the signature is not by the owner of this key", fix=fix)
        keys = signed.manifest.keys
        return OpenedManifest(path=path, manifest=signed.manifest, key=owner.unwrap(key=keys.user_key, iv=keys.user_iv))


def check_parts(opened: OpenedManifest) -> None:
    """Raise BuildError if a part is missing, is no plain file, or has another size than it can have.

    So is one more than the manifest lists: somebody may then have another bundle in mind.
    """
    manifest, directory = opened.manifest, opened.path.parent
    listed = {part.file_name for part in manifest.parts}
    for part in manifest.parts:
        if not (directory / part.file_name).is_file():
            raise BuildError("is missing", where=directory / part.file_name, fix=_ANEW)
    for file in files_of_bundle(directory, manifest.name):
        if ".part." in file.name and file.name not in listed:
            raise BuildError("is no part that the manifest lists", where=file, fix=f"remove it, or {_ANEW}")
    size_bytes = sum((directory / part.file_name).stat().st_size for part in manifest.parts)
    if size_bytes != manifest.bundled_bytes:
        what = f"its parts have {size_bytes} bytes together, not {manifest.bundled_bytes}"
        raise BuildError(what, where=opened.path, fix=_ANEW)


def unbundle(opened: OpenedManifest, image: Path, *, on_progress: Progress = lambda _done, _all: None) -> None:
    """Write the image of the bundle to `image`, raw and with its holes, if every part and all that is in them is right.

    Raises BuildError otherwise, UsageError if `image` is there already, and HostError if it cannot be written.
    """
    check_parts(opened)
    if image.exists():
        raise UsageError("is there already", where=image, fix="choose another name with --output, or remove it")
    with _new_file(image) as descriptor, _at(opened.path):
        _extract(_Archive(_archive_pieces(opened, on_progress)), descriptor, opened.manifest)


def _archive_pieces(opened: OpenedManifest, on_progress: Progress) -> Iterator[bytes]:
    return decompress(decrypt(_part_pieces(opened, on_progress), opened.key))


def _part_pieces(opened: OpenedManifest, on_progress: Progress) -> Iterator[bytes]:
    """The bytes of all parts, in order; of each only once it is known to be what the manifest says."""
    done = 0
    for part in opened.manifest.parts:
        for piece in _checked_pieces(opened.path.parent / part.file_name, part.sha1):
            yield piece
            done += len(piece)
            on_progress(done, opened.manifest.bundled_bytes)


def _checked_pieces(file: Path, sha1: str) -> Iterator[bytes]:
    try:
        with file.open("rb") as stream:
            if hashlib.file_digest(stream, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest() != sha1:
                raise BuildError("is damaged: its SHA-1 is not the one in the manifest", where=file, fix=_ANEW)
            stream.seek(0)
            while piece := stream.read(_PIECE_BYTES):
                yield piece
    except OSError as error:
        raise HostError(error.strerror or "cannot be read", where=file) from error


class _Archive:
    """The archive's bytes, taken in lots and digested on the way."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._digest = hashlib.sha1(usedforsecurity=False)

    @property
    def sha1(self) -> str:
        """The digest of all that came so far, in hex."""
        return self._digest.hexdigest()

    def take(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes. Raises BuildError if there are fewer."""
        while count:
            if not self._rest and not self._fetch():
                raise BuildError("the archive in it ends too early", fix=_ANEW)
            lot, self._rest = self._rest[:count], self._rest[count:]
            count -= len(lot)
            yield lot

    def finish(self) -> int:
        """How many bytes there are still. Raises BuildError if they are not the zeros that end an archive."""
        count = 0
        while self._rest or self._fetch():
            count += len(self._rest)
            if count > _MOST_PADDING or any(self._rest):
                raise BuildError("the archive in it goes on behind the image", fix=_ANEW)
            self._rest = memoryview(b"")
        return count

    def _fetch(self) -> bool:
        piece = next(self._pieces, None)
        while piece == b"":
            piece = next(self._pieces, None)
        if piece is None:
            return False
        self._digest.update(piece)
        self._rest = memoryview(piece)
        return True


def _extract(archive: _Archive, descriptor: int, manifest: Manifest) -> None:
    member = _read_member(archive)
    if member.size_bytes != manifest.size_bytes:
        what = f"the image in it has {member.size_bytes} bytes, not the {manifest.size_bytes} of the manifest"
        raise BuildError(what, fix=_ANEW)
    os.ftruncate(descriptor, member.size_bytes)
    for segment in member.segments:
        place = segment.start
        for lot in archive.take(segment.length):
            _write_fully(descriptor, lot, place)
            place += len(lot)
    padding = -member.packed_bytes % BLOCK
    if archive.finish() < padding + 2 * BLOCK:
        raise BuildError("the archive in it has no end", fix=_ANEW)
    if archive.sha1 != manifest.tar_sha1:
        raise BuildError("the archive in it is damaged: its SHA-1 is not the one in the manifest", fix=_ANEW)
    os.fsync(descriptor)


def _read_member(archive: _Archive) -> Member:
    parser = MemberParser()
    while parser.member is None:
        parser.feed(b"".join(archive.take(BLOCK)))
    return parser.member


def _write_fully(descriptor: int, lot: memoryview, place: int) -> None:
    while lot:
        count = os.pwrite(descriptor, lot, place)
        lot, place = lot[count:], place + count


@contextmanager
def _new_file(path: Path) -> Iterator[int]:
    """A file, for its owner only, that is at `path` after the block; it is gone if the block fails."""
    try:
        descriptor, name = mkstemp(prefix=f".new-{path.name}-", dir=path.parent)
    except OSError as error:
        raise HostError(f"cannot be written: {error.strerror}", where=path) from error
    try:
        yield descriptor
        Path(name).rename(path)
    except OSError as error:
        raise HostError(f"cannot be written: {error.strerror}", where=path, fix="make room") from error
    finally:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)


@contextmanager
def _at(path: Path) -> Iterator[None]:
    """Says where what is wrong, if whoever found it could not."""
    try:
        yield
    except BuildError as error:
        if error.where is not None:
            raise
        raise BuildError(error.what, where=path, fix=error.fix or _ANEW) from error
