"""Looks at the files that a configuration names: whether they are there, and what their first bytes say they are."""

import struct
from pathlib import Path

from imagebuilder.xen.surroundings import FileFacts

# docs/interop/qcow2.txt of QEMU: magic, version, offset and length of the backing file's name.
_QCOW2_HEADER = struct.Struct(">4sIQI")
_QCOW_MAGIC = b"QFI\xfb"
_LONGEST_NAME = 1023
_MAGIC = {b"conectix": "vhd", b"QED\0": "qed", b"KDMV": "vmdk", b"vhdxfile": "vhdx"}
_MOST_FILES = 64  # of a chain: one that is longer goes in a circle


def look_at(path: Path) -> FileFacts:
    """What stands at `path`; of an image, also which of the files that it is an overlay of are missing."""
    try:
        if path.is_dir():
            return FileFacts(state="directory")
        if not path.exists():
            return FileFacts(state="absent")
        with path.open("rb") as stream:
            head = stream.read(_QCOW2_HEADER.size)
            backing = _backing_name(head)
            if backing is None:
                return FileFacts(state="there", format=_format(head) if path.is_file() else None)
            stream.seek(backing[0])
            name = stream.read(backing[1])
    except OSError:
        return FileFacts(state="unreadable")
    missing = _missing_below(path, name, _MOST_FILES)
    return FileFacts(state="there", format="qcow2", missing_backing_files=missing)


def _format(head: bytes) -> str:
    if head.startswith(_QCOW_MAGIC):
        return "qcow" if head[4:8] == b"\0\0\0\1" else "qcow2"
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "raw")


def _backing_name(head: bytes) -> tuple[int, int] | None:
    """Where in a qcow2 image the name of its backing file stands, and its length in bytes."""
    if len(head) < _QCOW2_HEADER.size or _format(head) != "qcow2":
        return None
    _, _, offset, length = _QCOW2_HEADER.unpack(head)
    return (offset, length) if offset and 0 < length <= _LONGEST_NAME else None


def _missing_below(path: Path, name: bytes, most: int) -> tuple[str, ...]:
    """The files of the chain below `path` that are not there; `name` is what it calls its backing file."""
    text = name.decode(errors="surrogateescape")
    if text.startswith("json:") or "://" in text:
        return ()  # no plain file
    below = path.parent / text.removeprefix("file:")
    facts = look_at(below) if most and below.exists() else None
    if facts is None:
        return (str(below),)
    return facts.missing_backing_files
