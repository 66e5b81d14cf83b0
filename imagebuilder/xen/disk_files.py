"""Looks at the files that a configuration names: whether they are there, and what their first bytes say they are."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from imagebuilder.xen.surroundings import FileFacts

# docs/interop/qcow2.txt of QEMU: magic, version, offset and length of the backing file's name.
_QCOW2_HEADER = struct.Struct(">4sIQI")
_QCOW_MAGIC = b"QFI\xfb"
_LONGEST_NAME = 1023
_MAGIC = {b"conectix": "vhd", b"QED\0": "qed", b"KDMV": "vmdk", b"vhdxfile": "vhdx"}


def look_at(path: Path) -> FileFacts:
    """What stands at `path`; of an image, also the first file of those that it is an overlay of that cannot be used."""
    facts, below = _look_at_one(path)
    seen = {path.resolve()}
    while below is not None:
        under, further = _look_at_one(below)
        if under.state != "there" or below.resolve() in seen:  # a chain may lead round in a circle
            return replace(facts, missing_backing_files=(str(below),))
        seen.add(below.resolve())
        below = further
    return facts


def _look_at_one(path: Path) -> tuple[FileFacts, Path | None]:
    """What stands at `path`, and the file that it is an overlay of."""
    try:
        if path.is_dir():
            return FileFacts(state="directory"), None
        if not path.exists():
            return FileFacts(state="absent"), None
        if not path.is_file():  # of a device the first bytes are whatever a guest has written there
            return FileFacts(state="there"), None
        with path.open("rb") as stream:
            head = stream.read(_QCOW2_HEADER.size)
            name = _backing_name(stream, head)
    except OSError:
        return FileFacts(state="unreadable"), None
    return FileFacts(state="there", format=_format(head)), None if name is None else path.parent / name


def _format(head: bytes) -> str:
    if head.startswith(_QCOW_MAGIC):
        return "qcow" if head[4:8] == b"\0\0\0\1" else "qcow2"
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "raw")


def _backing_name(stream: BinaryIO, head: bytes) -> str | None:
    """What a qcow2 image calls its backing file, if it has one and that is a plain file."""
    if len(head) < _QCOW2_HEADER.size or _format(head) != "qcow2":
        return None
    _, _, offset, length = _QCOW2_HEADER.unpack(head)
    if not offset or not 0 < length <= _LONGEST_NAME:
        return None
    stream.seek(offset)
    name: str = stream.read(length).decode(errors="surrogateescape").removeprefix("file:")
    return None if name.startswith("json:") or "://" in name else name
