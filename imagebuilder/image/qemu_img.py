"""qemu-img: makes overlays and copies of disk images and says what an image is."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import BuildError
from imagebuilder.image.appliance import DiskFormat
from imagebuilder.programs import run_program

_QCOW2_MAGIC = b"QFI\xfb"


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Format and sizes of a disk image; `virtual_size_bytes` is what a machine sees."""

    format: str
    virtual_size_bytes: int
    allocated_bytes: int
    backing_file: str | None


def image_facts(path: Path, image_format: DiskFormat) -> ImageFacts:
    """What qemu-img says of `path`, read as `image_format`: the format is never guessed from the content."""
    text = run_program(["qemu-img", "info", "--output=json", "--force-share", "-f", image_format, path], timeout_s=60)
    value: Mapping[str, object] = json.loads(text)
    backing = value.get("backing-filename")
    return ImageFacts(
        format=str(value["format"]),
        virtual_size_bytes=int(str(value["virtual-size"])),
        allocated_bytes=int(str(value["actual-size"])),
        backing_file=None if backing is None else str(backing),
    )


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """One file of a chain of overlays."""

    path: Path
    format: str
    virtual_size_bytes: int


def backing_chain(path: Path, image_format: DiskFormat) -> tuple[ImageFile, ...]:
    """The files that `path` consists of: itself, what it is an overlay of, and so on."""
    options = ["--output=json", "--force-share", "--backing-chain", "-f", image_format]
    rows: list[Mapping[str, object]] = json.loads(run_program(["qemu-img", "info", *options, path], timeout_s=60))
    return tuple(
        ImageFile(
            path=Path(str(row["filename"])), format=str(row["format"]), virtual_size_bytes=int(str(row["virtual-size"]))
        )
        for row in rows
    )


@dataclass(frozen=True, kw_only=True)
class MapEntry:
    """A run of bytes of a disk that are alike: see MAP in qemu-img(1).

    `depth` says which file of the chain has them, 0 the overlay; `offset` where in it, unless they are compressed.
    """

    start: int
    length: int
    depth: int
    present: bool
    data: bool
    offset: int | None


def block_map(path: Path, image_format: DiskFormat) -> Iterator[MapEntry]:
    """How the bytes of the disk at `path` are spread over the files of its chain, in order and without a gap."""
    options = ["--output=json", "--force-share", "-f", image_format]
    for row in json.loads(run_program(["qemu-img", "map", *options, path], timeout_s=600)):
        yield MapEntry(
            start=row["start"],
            length=row["length"],
            depth=row["depth"],
            present=row["present"],
            data=row["data"],
            offset=row.get("offset"),
        )


def format_of(path: Path, stated: DiskFormat | None) -> DiskFormat:
    """The format of an image: as stated, else by its suffix. Raises BuildError if the content contradicts.

    A raw image whose first bytes are made to look like qcow2 could otherwise name any file of this machine as its
    backing file.
    """
    chosen: DiskFormat = stated or ("qcow2" if path.suffix == ".qcow2" else "raw")
    try:
        with path.open("rb") as stream:
            looks_like_qcow2 = stream.read(4) == _QCOW2_MAGIC
    except OSError as error:
        raise BuildError(f"cannot be read: {error.strerror}", where=path) from error
    if looks_like_qcow2 != (chosen == "qcow2"):
        seen = "qcow2" if looks_like_qcow2 else "not qcow2"
        fix = "state its format with `format:` in the base's recipe, or name the file by its format"
        raise BuildError(f"its content is {seen}, but it is to be read as {chosen}", where=path, fix=fix)
    return chosen


def make_overlay(path: Path, *, base: Path, base_format: DiskFormat) -> None:
    """Make `path` a qcow2 overlay on `base`, which it names by a relative path: the two can move together."""
    backing = os.path.relpath(base, path.parent)
    run_program(["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", base_format, path], timeout_s=60)


def name_backing_file(path: Path, backing: str, backing_format: DiskFormat) -> None:
    """Let the qcow2 overlay at `path` name its backing file by `backing`, the same content under another name."""
    options = ["-u", "-f", "qcow2", "-b", backing, "-F", backing_format]
    run_program(["qemu-img", "rebase", *options, path], timeout_s=60)


def enlarge(path: Path, by_bytes: int) -> None:
    """Make the qcow2 disk at `path` larger by so many bytes, which read as zeros."""
    run_program(["qemu-img", "resize", "-q", "-f", "qcow2", path, f"+{by_bytes}"], timeout_s=60)


def copy_to_raw(path: Path, *, base: Path, base_format: DiskFormat) -> None:
    """Make `path` a full raw copy of `base`: a reflink where the file system can, else with its holes."""
    if base_format == "raw":
        copy_file(path, image=base)
    else:
        run_program(["qemu-img", "convert", "-f", base_format, "-O", "raw", base, path])


def copy_to_qcow2(path: Path, *, image: Path, image_format: DiskFormat) -> None:
    """Make `path` a qcow2 copy of all that a machine sees on `image`; it needs no other file."""
    run_program(["qemu-img", "convert", "-f", image_format, "-O", "qcow2", image, path])


def copy_file(path: Path, *, image: Path) -> None:
    """Make `path` a copy of one image file as it is: a reflink where the file system can, else with its holes."""
    run_program(["cp", "--reflink=auto", "--sparse=always", "--no-preserve=mode", image, path])


def copy_flat(path: Path, *, image: Path, image_format: DiskFormat) -> None:
    """Make `path` a copy of `image` in the same format that needs no other file and has no compressed clusters.

    A base is read often, and by programs that look up where in the file its bytes are. Raises BuildError if the image
    cannot be read.
    """
    if image_format == "raw" or _is_plain(image):
        copy_file(path, image=image)
    else:
        run_program(["qemu-img", "convert", "-f", image_format, "-O", image_format, image, path])


def _is_plain(image: Path) -> bool:
    """Whether the qcow2 file has no backing file and nothing compressed in it."""
    is_alone = len(backing_chain(image, "qcow2")) == 1
    return is_alone and all(entry.offset is not None for entry in block_map(image, "qcow2") if entry.data)
