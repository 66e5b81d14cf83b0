"""Makes the classic bundle of an image, part by part: one process, no copy of the image, all cores.

    image ─▶ archive ─▶ gzip ─▶ AES ─▶ parts of 10 MiB ─▶ a directory, or S3
             SHA-1                     SHA-1 each

Threads read and compress chunks of the archive, one digests it, and the caller's encrypts, splits and hands on.
docs/bundle.md describes the format.
"""

import hashlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from mmap import mmap
from queue import SimpleQueue
from typing import Protocol

from imagebuilder import __version__
from imagebuilder.ec2 import gzip_member
from imagebuilder.ec2.ciphers import AES_BLOCK, BundleKey, Encryption, PrivateKey, PublicKey, new_bundle_key
from imagebuilder.ec2.gzip_member import Effort
from imagebuilder.ec2.manifest import (
    Architecture,
    Manifest,
    Part,
    WrappedKeys,
    is_bundle_name,
    manifest_name,
    part_names,
    render_manifest,
    signed_bytes_of,
)
from imagebuilder.ec2.sparse_tar import Member, Segment, header_of, join_segments, packed_chunks, trailer_of
from imagebuilder.errors import UsageError
from imagebuilder.image.disk_reader import DiskReader

PART_BYTES = 10 << 20  # ec2-bundle-image's
MOST_IMAGE_BYTES = 10 << 30  # what EC2 makes an instance-store root of

_CHUNK_BYTES = 1 << 20  # what a core compresses at once: it stays in the cache until it is digested, too
_ACCOUNT = re.compile(r"[0-9]{12}")
# DEFLATE makes what cannot be compressed longer by 5 bytes in 64 KiB at the most; ISA-L writes shorter blocks.
_LONGER = 1.01

Progress = Callable[[int, int], None]
"""Told how many bytes of the image are done, and how many there are without holes."""


class PartSink(Protocol):
    """Where a bundle goes."""

    def take(self, index: int, content: memoryview, sha1: str) -> None:
        """Keep part `index`; they come in order. `content` is overwritten after the call."""

    def finish(self, names: tuple[str, ...], manifest_file: str, manifest: bytes) -> None:
        """Give the parts their names and then, last of all, put the manifest beside them."""


@dataclass(frozen=True, kw_only=True)
class BundleRequest:
    """What is to be bundled for whom; `user` is the account's number, of twelve digits."""

    name: str
    user: str
    owner: PrivateKey
    ec2: PublicKey
    architecture: Architecture = "x86_64"
    effort: Effort = "fast"
    key: BundleKey = field(default_factory=new_bundle_key)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle that is whole where it was to go."""

    manifest_file: str
    manifest: Manifest


def check_request(request: BundleRequest, size_bytes: int) -> None:
    """Raise UsageError if no bundle can be made so of an image of this size."""
    if not is_bundle_name(request.name):
        fix = "use up to 100 letters, digits and . _ -, the first a letter or digit"
        raise UsageError(f"a bundle cannot be named {request.name!a}", fix=fix)
    if not _ACCOUNT.fullmatch(request.user):
        raise UsageError(f"{request.user!a} is no AWS account", fix="give its twelve digits, without dashes")
    if size_bytes > MOST_IMAGE_BYTES:
        what = f"the image has {size_bytes / (1 << 30):.1f} GiB; an instance-store AMI has 10 GiB at the most"
        raise UsageError(what, fix="make an AMI backed by EBS, or build the image with a smaller disk")
    if size_bytes == 0:
        raise UsageError("the image is empty")


def write_bundle(
    disk: DiskReader, request: BundleRequest, sink: PartSink, *, on_progress: Progress = lambda _done, _all: None
) -> Bundle:
    """Bundle the image on `disk` into `sink`. The same image, request and libraries give the same parts."""
    check_request(request, disk.size_bytes)
    member, digest, splitter = _member(disk, request), _StreamDigest(), _Splitter(request.key, sink)
    for piece in _gzip_pieces(disk, member, request.effort, digest, on_progress):
        splitter.write(piece)
    splitter.finish()
    names = part_names(request.name, len(splitter.digests))
    manifest = Manifest(
        name=request.name,
        user=request.user,
        architecture=request.architecture,
        tar_sha1=digest.sha1.hexdigest(),
        size_bytes=disk.size_bytes,
        bundled_bytes=splitter.total_bytes,
        keys=_wrap(request),
        parts=tuple(Part(file_name=name, sha1=sha1) for name, sha1 in zip(names, splitter.digests, strict=True)),
    )
    signature = request.owner.sign(signed_bytes_of(manifest))
    content = render_manifest(manifest, signature=signature, bundler=("imgbuild", __version__))
    sink.finish(names, manifest_name(request.name), content)
    return Bundle(manifest_file=manifest_name(request.name), manifest=manifest)


def count_digits(disk: DiskReader, request: BundleRequest, *, on_progress: Progress = lambda _done, _all: None) -> int:
    """How many digits the parts of a bundle are numbered in, for a sink that must name the first before the last is.

    Their number is known only when all is compressed. Unless the image is so small that it cannot matter, it is
    compressed for that and thrown away: two seconds of one core for a GB, against keeping the whole bundle.
    """
    check_request(request, disk.size_bytes)
    member = _member(disk, request)
    if len(str(_parts_for(int(member.packed_bytes * _LONGER) + _CHUNK_BYTES))) == 1:
        return 1
    pieces = _gzip_pieces(disk, member, request.effort, _StreamDigest(), on_progress)
    return len(str(_parts_for(sum(map(len, pieces)))))


def _member(disk: DiskReader, request: BundleRequest) -> Member:
    """The image in an archive; what an overlay has put zeros over is a hole, too."""
    found = (Segment(start=one.start, length=one.length) for one in disk.extents if one.file is not None)
    return Member(name=request.name, size_bytes=disk.size_bytes, segments=join_segments(found, disk.size_bytes))


def _parts_for(plain_bytes: int) -> int:
    encrypted = (plain_bytes // AES_BLOCK + 1) * AES_BLOCK
    return -(-encrypted // PART_BYTES)


def _wrap(request: BundleRequest) -> WrappedKeys:
    key, user = request.key, request.owner.public
    return WrappedKeys(
        ec2_key=request.ec2.wrap(key.key),
        user_key=user.wrap(key.key),
        ec2_iv=request.ec2.wrap(key.iv),
        user_iv=user.wrap(key.iv),
    )


class _StreamDigest:
    """The digests of the archive, which want its chunks in order."""

    def __init__(self) -> None:
        self.sha1 = hashlib.sha1(usedforsecurity=False)
        self.crc = 0
        self.total_bytes = 0

    def update(self, chunk: memoryview) -> None:
        self.sha1.update(chunk)
        self.crc = gzip_member.checksum(chunk, self.crc)
        self.total_bytes += len(chunk)


_Lot = bytes | tuple[Segment, ...]
"""A stretch of the archive: literally, or as segments of the disk."""


def _gzip_pieces(
    disk: DiskReader, member: Member, effort: Effort, digest: _StreamDigest, on_progress: Progress
) -> Iterator[bytes]:
    """The archive as one gzip member; at the end `digest` has seen all of the archive."""
    header = header_of(member)
    ending = trailer_of(len(header) + member.packed_bytes)
    lots: Iterable[_Lot] = chain([header], packed_chunks(member.segments, _CHUNK_BYTES), [ending])
    yield gzip_member.HEADER
    for piece in _compressed(disk, lots, effort, digest):
        yield piece
        # In whole chunks of what is digested, the header among them: near enough for a progress bar.
        on_progress(min(digest.total_bytes, member.packed_bytes), member.packed_bytes)
    yield gzip_member.ending(digest.crc, digest.total_bytes)


def _compressed(disk: DiskReader, lots: Iterable[_Lot], effort: Effort, digest: _StreamDigest) -> Iterator[bytes]:
    """Each lot, compressed, in order; `digest` sees them meanwhile, and has seen all at the end."""
    cores = len(os.sched_getaffinity(0))
    most = 2 * cores  # lots that are under way, and again as many that wait to be digested
    buffers: SimpleQueue[bytearray] = SimpleQueue()
    for _ in range(2 * most):
        buffers.put(bytearray(_CHUNK_BYTES))
    compressing: deque[Future[tuple[memoryview, bytes]]] = deque()
    digesting: deque[Future[None]] = deque()
    pool, digester = ThreadPoolExecutor(cores, "compress"), ThreadPoolExecutor(1, "digest")

    def finish_first() -> bytes:
        chunk, piece = compressing.popleft().result()
        digesting.append(digester.submit(_digest, chunk, digest, buffers))
        if len(digesting) == most:
            digesting.popleft().result()
        return piece

    try:
        for lot in lots:
            compressing.append(pool.submit(_compress, disk, lot, effort, buffers))
            if len(compressing) == most:
                yield finish_first()
        while compressing:
            yield finish_first()
        while digesting:
            digesting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        digester.shutdown(cancel_futures=True)


def _compress(
    disk: DiskReader, lot: _Lot, effort: Effort, buffers: "SimpleQueue[bytearray]"
) -> tuple[memoryview, bytes]:
    if isinstance(lot, bytes):
        chunk = memoryview(lot)
    else:
        chunk = memoryview(buffers.get_nowait())[: sum(segment.length for segment in lot)]
        filled = 0
        for segment in lot:
            disk.read_into(segment.start, chunk[filled : filled + segment.length])
            filled += segment.length
    return chunk, gzip_member.compress_chunk(chunk, effort)


def _digest(chunk: memoryview, digest: _StreamDigest, buffers: "SimpleQueue[bytearray]") -> None:
    digest.update(chunk)
    if isinstance(chunk.obj, bytearray):
        buffers.put(chunk.obj)


class _Splitter:
    """Encrypts what it is given and hands it on in parts."""

    def __init__(self, key: BundleKey, sink: PartSink) -> None:
        self._encryption = Encryption(key)
        self._sink = sink
        self._part = memoryview(mmap(-1, PART_BYTES + AES_BLOCK))  # from the beginning of a page on, as files want it
        self._filled = 0
        self.digests: list[str] = []
        self.total_bytes = 0

    def write(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            room = PART_BYTES - self._filled - self._encryption.pending_bytes
            self._filled += self._encryption.encrypt_into(rest[:room], self._part[self._filled :])
            rest = rest[room:]
            if self._filled == PART_BYTES:
                self._hand_on()

    def finish(self) -> None:
        last = self._encryption.finish()
        self._part[self._filled : self._filled + len(last)] = last
        self._filled += len(last)
        self._hand_on()

    def _hand_on(self) -> None:
        content = self._part[: self._filled]
        sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self._sink.take(len(self.digests), content, sha1)
        self.digests.append(sha1)
        self.total_bytes += self._filled
        self._filled = 0
