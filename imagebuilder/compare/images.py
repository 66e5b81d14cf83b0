"""Compares two images: by what the store knows of them, and by what has to be read from their disks.

An image of the store is compared as it was built, by its listing, which takes no appliance. Of an image file, the
disk is read, and so it is of any image whose contents are to be shown. One appliance serves both.
"""

import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Literal

from imagebuilder.compare.contents import (
    MOST_BYTES,
    ContentDifference,
    Secrecy,
    UnshownDifference,
    compare_contents,
    secrecy_of,
)
from imagebuilder.compare.difference import (
    Aspect,
    Difference,
    compare_listings,
    is_within,
    undecided_files,
    with_digests,
)
from imagebuilder.compare.sides import Side
from imagebuilder.errors import BuildError, UsageError
from imagebuilder.image.appliance import Appliance, Disk
from imagebuilder.image.bases import Bench
from imagebuilder.image.file_system import FileSystem
from imagebuilder.image.store import Image
from imagebuilder.plan.listing import Entry, Kind, Listing, parents

ContentChoice = Literal["none", "changed", "all"]
"""Of which files to compare the text: of none, of those in both images, or also of those in one only."""

# Their contents are in memory together, at most 1 MiB each from either side.
_FILES_AT_ONCE = 200

# Steps are remembered by their names, so these do not have the names of files.
_ORDINALS = ("first", "second")

_SHOWN = {
    "none": set[Aspect](),
    "changed": {Aspect.CONTENT},
    "all": {Aspect.CONTENT, Aspect.ONLY_IN_A, Aspect.ONLY_IN_B},
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two images differ in; `contents` has the paths of which the text was asked for."""

    a: Side
    b: Side
    differences: tuple[Difference, ...]
    contents: Mapping[PurePosixPath, ContentDifference]


def compare_images(
    a: Side, b: Side, bench: Bench, *, limits: Collection[PurePosixPath] = (), contents: ContentChoice = "none"
) -> Comparison:
    """Everything that differs at or below `limits`, or anywhere if there are none.

    Raises UsageError for a limit that is in neither image, and BuildError for a disk that cannot be read.
    """
    with ExitStack() as stack:
        disks = _Disks((a, b), bench, stack)
        listings = disks.list_both(limits)
        differences = tuple(
            difference for difference in compare_listings(*listings) if is_within(difference.path, limits)
        )
        shown = [difference for difference in differences if _SHOWN[contents] & set(difference.aspects)]
        texts = disks.compare_files([difference for difference in shown if _has_content(difference)], listings)
    return Comparison(a=a, b=b, differences=differences, contents=texts)


class _Disks:
    """The disks of both sides, in an appliance that starts when something first has to be read from them."""

    def __init__(self, sides: tuple[Side, Side], bench: Bench, stack: ExitStack) -> None:
        self._sides = sides
        self._bench = bench
        self._stack = stack
        self._mount_points: dict[int, Mapping[PurePosixPath, str]] = {}

    def list_both(self, limits: Collection[PurePosixPath]) -> tuple[Listing, Listing]:
        """What is in both images; of image files, at least at `limits`, above and below."""
        a, b = self._list(0, limits), self._list(1, limits)
        for limit in limits:
            if limit not in a and limit not in b and limit != PurePosixPath("/"):
                raise UsageError(f"{limit} is in neither image", fix="give real paths in the images, without links")
        undecided = {path: size for path, size in undecided_files(a, b).items() if is_within(path, limits)}
        return self._complete(0, a, undecided), self._complete(1, b, undecided)

    def _list(self, index: int, limits: Collection[PurePosixPath]) -> Listing:
        side = self._sides[index]
        if side.build is not None:
            return _read_listing(side.build)
        with self._mounted(index) as system:
            self._bench.on_step(f"list the files of the {_ORDINALS[index]} image")
            above = parents(limits)
            paths = [path for path in system.paths() if path in above or is_within(path, limits)]
            try:
                return Listing(system.entries(paths, digests="no"))
            except UnicodeDecodeError as error:
                what = f"holds a link to {error.object!r}, which is not UTF-8, and libguestfs cannot read that"
                raise BuildError(what, where=side.disk, fix="change the link in the image") from error

    def _complete(self, index: int, listing: Listing, sizes_bytes: Mapping[PurePosixPath, int]) -> Listing:
        wanted = {path: size for path, size in sizes_bytes.items() if not listing[path].digest}
        if not wanted:
            return listing
        with self._mounted(index) as system:
            self._bench.on_step(f"hash files of the {_ORDINALS[index]} image")
            return with_digests(listing, system.digests(wanted))

    def compare_files(
        self, differences: Sequence[Difference], listings: tuple[Listing, Listing]
    ) -> dict[PurePosixPath, ContentDifference]:
        """How the contents of these files differ."""
        compared: dict[PurePosixPath, ContentDifference] = {}
        for start in range(0, len(differences), _FILES_AT_ONCE):
            batch = differences[start : start + _FILES_AT_ONCE]
            small = [difference for difference in batch if _size_bytes(difference) <= MOST_BYTES]
            contents_a = self._read(0, {one.path: one.a for one in small if one.a is not None})
            contents_b = self._read(1, {one.path: one.b for one in small if one.b is not None})
            for difference in batch:
                path = difference.path
                compared[path] = self._compare(path, contents_a.get(path), contents_b.get(path), listings)
        return compared

    def _compare(
        self, path: PurePosixPath, a: bytes | None, b: bytes | None, listings: tuple[Listing, Listing]
    ) -> ContentDifference:
        if a is None and b is None:
            return UnshownDifference(why="larger than 1 MiB")
        names = [
            "/dev/null" if content is None else f"{side.name}:{path}"
            for side, content in zip(self._sides, (a, b), strict=True)
        ]
        is_secret = "secret" in {secrecy_of(path, listing) for listing in listings}
        secrecy: Secrecy = "secret" if is_secret else "open"
        return compare_contents(a, b, name_a=names[0], name_b=names[1], secrecy=secrecy)

    def _read(self, index: int, entries: Mapping[PurePosixPath, Entry]) -> dict[PurePosixPath, bytes]:
        if not entries:
            return {}
        side = self._sides[index]
        with self._mounted(index) as system:
            self._bench.on_step(f"read texts of the {_ORDINALS[index]} image")
            contents = {path: system.read_start(path, entry.size) for path, entry in entries.items()}
        for path, content in contents.items():
            known = entries[path].digest
            if side.build is not None and known != sha256(content).hexdigest():
                fix = f"compare the disk as it is now: {side.disk}"
                raise BuildError(f"its {path} has changed since it was built", where=side.name, fix=fix)
        return contents

    @contextmanager
    def _mounted(self, index: int) -> Iterator[FileSystem]:
        if index not in self._mount_points:
            self._mount_points[index] = self._appliance.mount_points(index)
        with self._appliance.mounted_whole(index, self._mount_points[index]) as system:
            yield system

    @cached_property
    def _appliance(self) -> Appliance:
        disks = [Disk(path=side.disk, format=side.format, access="read") for side in self._sides]
        return self._stack.enter_context(self._bench.appliance(disks))


def _has_content(difference: Difference) -> bool:
    return Kind.FILE in {entry.kind for entry in (difference.a, difference.b) if entry is not None}


def _size_bytes(difference: Difference) -> int:
    return max(entry.size for entry in (difference.a, difference.b) if entry is not None)


def _read_listing(image: Image) -> Listing:
    try:
        return image.listing()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        fix = f"compare the image file itself: {image.disk}"
        raise BuildError(f"its listing cannot be read: {error}", where=image.name, fix=fix) from error
