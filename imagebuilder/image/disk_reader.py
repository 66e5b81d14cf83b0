"""Reads a disk image where it lies: through its chain of overlays, without its holes and without a copy.

qemu-img says which file of the chain has which bytes of the disk; those are then read straight from the files.
"""

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import BuildError
from imagebuilder.image.appliance import DiskFormat
from imagebuilder.image.qemu_img import ImageFile, MapEntry, backing_chain, block_map


@dataclass(frozen=True, kw_only=True)
class Extent:
    """`length` bytes of the disk from `start` on, which are at `offset` of a file of the chain.

    `file` counts from 0, the overlay; None for zeros that an overlay has put over what is below it.
    """

    start: int
    length: int
    file: int | None
    offset: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.start + self.length


class DiskReader:
    """A disk image opened for reading; made by `open_disk`. All methods may be called from several threads."""

    def __init__(self, *, size_bytes: int, extents: Sequence[Extent], descriptors: Sequence[int]) -> None:
        self.size_bytes = size_bytes
        self.extents = tuple(extents)
        """What is allocated, in order and without overlap; all between is holes, which read as zeros."""
        self._starts = [extent.start for extent in extents]
        self._descriptors = descriptors

    def allocated_blocks(self, block_bytes: int) -> Iterator[int]:
        """The indexes of the blocks of `block_bytes` that hold at least one allocated byte, ascending."""
        done = -1
        for extent in self.extents:
            first, last = extent.start // block_bytes, (extent.end - 1) // block_bytes
            yield from range(max(first, done + 1), last + 1)
            done = max(done, last)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill `buffer` with the disk's bytes from `start` on; holes, and what is behind its end, are zeros.

        Raises BuildError if a file of the chain is shorter than it was.
        """
        end = start + len(buffer)
        filled = start
        for extent in self._overlapping(start, end):
            low, high = max(extent.start, start), min(extent.end, end)
            buffer[filled - start : low - start] = bytes(low - filled)
            part = buffer[low - start : high - start]
            if extent.file is None:
                part[:] = bytes(len(part))
            else:
                _read_fully(self._descriptors[extent.file], part, extent.offset + low - extent.start)
            filled = high
        buffer[filled - start :] = bytes(end - filled)

    def _overlapping(self, start: int, end: int) -> Iterator[Extent]:
        for index in range(max(bisect_right(self._starts, start) - 1, 0), len(self.extents)):
            extent = self.extents[index]
            if extent.start >= end:
                return
            if extent.end > start:
                yield extent


@contextmanager
def open_disk(path: Path, disk_format: DiskFormat) -> Iterator[DiskReader]:
    """The disk image at `path`, for as long as the block runs.

    Nobody may write to it, or to what it is an overlay of, in the meantime. Raises BuildError if it cannot be read
    or has compressed clusters.
    """
    files = backing_chain(path, disk_format)
    extents = list(_extents(block_map(path, disk_format), files))
    with ExitStack() as stack:
        descriptors = []
        for file in files:
            try:
                descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise BuildError(f"cannot be read: {error.strerror}", where=file.path) from error
            stack.callback(os.close, descriptor)
            descriptors.append(descriptor)
        yield DiskReader(size_bytes=files[0].virtual_size_bytes, extents=extents, descriptors=descriptors)


def _extents(entries: Iterable[MapEntry], files: Sequence[ImageFile]) -> Iterator[Extent]:
    for entry in entries:
        file = files[entry.depth]
        if entry.data and entry.offset is None:
            fix = "convert it with `qemu-img convert -O qcow2`, and build again"
            raise BuildError(
                "has compressed or encrypted clusters, which are not read in place", where=file.path, fix=fix
            )
        if entry.data and entry.offset is not None:
            yield Extent(start=entry.start, length=entry.length, file=entry.depth, offset=entry.offset)
        elif entry.present and file.format != "raw":  # a hole of a raw file is "present", too
            yield Extent(start=entry.start, length=entry.length, file=None, offset=0)


def _read_fully(descriptor: int, buffer: memoryview, offset: int) -> None:
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if count == 0:
            raise BuildError(f"a file of the image ends {len(buffer) - done} bytes too early, at {offset + done}")
        done += count
