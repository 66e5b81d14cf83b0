"""Reads from a finished image what the rules for an AMI go by, in one appliance and one pass over its disk.

Every file is read and every allocated byte of the disk: what a deleted file has left behind is in no file.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import PurePosixPath
from typing import TypeVar

from imagebuilder.ec2.boot_sectors import DiskLayout, read_layout
from imagebuilder.ec2.evidence import (
    PACKAGES,
    Evidence,
    FileMark,
    RootFileSystem,
    is_read,
    on_root,
    unchanged_files,
)
from imagebuilder.ec2.initramfs import names_in_initramfs
from imagebuilder.ec2.marks import Mark, MarkKind, marks_in
from imagebuilder.image.appliance import Appliance, Disk, open_appliance
from imagebuilder.image.bases import Bench
from imagebuilder.image.disk_reader import DiskReader, open_disk
from imagebuilder.image.file_system import FileSystem
from imagebuilder.image.store import Image
from imagebuilder.pki.fingerprints import fingerprint_of_key, fingerprints_of_authorities
from imagebuilder.plan.listing import Entry, Kind, Listing

_CHUNK_BYTES = 4 << 20
# ext4's usual block; a file system with smaller ones keeps a key in one piece just as well, most of the time.
_BLOCK_BYTES = 4096
_ROOT = PurePosixPath("/")
_VPN = PurePosixPath("/etc/openvpn")
_FAT = {"vfat", "msdos"}

AnyBytes = TypeVar("AnyBytes", bytes, bytearray)


def inspect_image(image: Image, bench: Bench) -> Evidence:
    """What is on the disk of `image`, read whole. Raises BuildError for a disk that cannot be read."""
    bench.on_step(f"read the disk of {image.name}")
    with open_disk(image.disk, image.format) as disk:
        layout = read_layout(lambda start, length: _bytes_at(disk, start, length))
        sha256, disk_marks = _scan(disk)
        size_bytes = disk.size_bytes
    disks = [Disk(path=image.disk, format=image.format, access="read")]
    with open_appliance(
        disks, environment=bench.environment(), log=bench.log, on_step=bench.on_step, verbose=bench.verbose
    ) as appliance:
        bench.on_step(f"read the files of {image.name}")
        evidence = _read_files(appliance, layout)
    return replace(
        evidence,
        strays=tuple(mark for mark in disk_marks if not _is_in_a_file(mark, evidence.marks)),
        planned_secrets=_planned_secrets(image),
        size_bytes=size_bytes,
        sha256=sha256,
    )


def _planned_secrets(image: Image) -> dict[PurePosixPath, str]:
    rows = (row for row in image.plan_rows() if row["change"] == "secret file")
    return {PurePosixPath(str(row["path"])): str(row["sha256"]) for row in rows}


def _bytes_at(disk: DiskReader, start: int, length: int) -> bytes:
    buffer = bytearray(length)
    disk.read_into(start, memoryview(buffer))
    return bytes(buffer)


def _scan(disk: DiskReader) -> tuple[str, list[Mark]]:
    """The SHA-256 of the whole disk, and every secret on it with its offset on the disk."""
    digest = hashlib.sha256()
    allocated = set(disk.allocated_blocks(_CHUNK_BYTES))
    nothing = memoryview(bytes(_CHUNK_BYTES))
    marks: list[Mark] = []
    for is_allocated, group in groupby(range(-(-disk.size_bytes // _CHUNK_BYTES)), key=allocated.__contains__):
        blocks = list(group)
        if is_allocated:
            start = blocks[0] * _CHUNK_BYTES
            found = marks_in(_hashed(_read_blocks(disk, blocks), digest.update))
            marks += (replace(mark, offset=start + mark.offset) for mark in found)
        else:
            for block in blocks:
                digest.update(nothing[: _block_bytes(disk, block)])
    return digest.hexdigest(), marks


def _read_blocks(disk: DiskReader, blocks: Iterable[int]) -> Iterator[bytearray]:
    for block in blocks:
        buffer = bytearray(_block_bytes(disk, block))
        disk.read_into(block * _CHUNK_BYTES, memoryview(buffer))
        yield buffer


def _block_bytes(disk: DiskReader, block: int) -> int:
    return min(_CHUNK_BYTES, disk.size_bytes - block * _CHUNK_BYTES)


def _hashed(chunks: Iterable[AnyBytes], update: Callable[[AnyBytes], None]) -> Iterator[AnyBytes]:
    """`chunks`, each of which has gone through `update` before anybody else sees it."""
    for chunk in chunks:
        update(chunk)
        yield chunk


def _is_in_a_file(mark: Mark, known: Iterable[FileMark]) -> bool:
    return any(mark.is_part_of(one.mark, block_bytes=_BLOCK_BYTES) for one in known)


def _read_files(appliance: Appliance, layout: DiskLayout) -> Evidence:
    mounts = appliance.mount_points(0)
    names = appliance.file_system_names(0, mounts[_ROOT])
    with appliance.mounted_whole(0, mounts) as system:
        evidence = _read_system(system, layout, RootFileSystem(kind=names.kind, label=names.label, uuid=names.uuid))
    return replace(evidence, efi_files=_efi_files(appliance, layout))


def _read_system(system: FileSystem, layout: DiskLayout, root: RootFileSystem) -> Evidence:
    """What the files say: each is read once, and the few that matter whole."""
    entries = dict(system.listing(digests="no"))
    contents: dict[PurePosixPath, bytes] = {}
    marks: list[FileMark] = []
    for path, entry in entries.items():
        if entry.kind is not Kind.FILE:
            continue
        digest = hashlib.sha256()
        chunks: Iterable[bytes] = _hashed(system.chunks(path, entry.size), digest.update)
        if is_read(path, entry):
            contents[path] = b"".join(chunks)
            chunks = (contents[path],)
        marks += (_file_mark(path, mark) for mark in marks_in(chunks))
        entries[path] = replace(entry, digest=digest.hexdigest())
    listing = Listing(entries)
    evidence = Evidence(listing=listing, contents=contents, root=root, layout=layout, marks=tuple(marks))
    return replace(
        evidence,
        initramfs=_initramfs(evidence, system),
        published=_published(evidence, system),
        authorities=_authorities(contents),
    )


def _file_mark(path: PurePosixPath, mark: Mark) -> FileMark:
    is_key = mark.kind is MarkKind.PRIVATE_KEY
    pem = mark.body.reveal().replace(rb"\n", b"\n")  # as JSON has it
    return FileMark(path=path, mark=mark, fingerprint=fingerprint_of_key(pem) if is_key else None)


def _initramfs(evidence: Evidence, system: FileSystem) -> dict[PurePosixPath, frozenset[PurePosixPath]]:
    """The names in each archive that the menu loads; one that is not there is the business of a rule."""
    named = {on_root(evidence.listing, path) for entry in evidence.boot_entries() for path in entry.archives}
    return {
        path: names_in_initramfs(_whole(system, path, entry))
        for path in sorted(named)
        if (entry := evidence.listing.get(path)) is not None and entry.kind is Kind.FILE
    }


def _published(evidence: Evidence, system: FileSystem) -> frozenset[PurePosixPath]:
    marked = {one.path for one in evidence.marks}
    if not marked:
        return frozenset()
    sums = (path for path in evidence.files_below(PACKAGES) if path.suffix == ".md5sums")
    return unchanged_files(
        evidence.listing,
        (_whole(system, path, evidence.listing[path]).decode(errors="replace") for path in sums),
        {path: _whole(system, path, evidence.listing[path]) for path in marked},
    )


def _authorities(contents: Mapping[PurePosixPath, bytes]) -> frozenset[str]:
    found = (fingerprints_of_authorities(text) for path, text in contents.items() if path.is_relative_to(_VPN))
    return frozenset().union(*found)


def _whole(system: FileSystem, path: PurePosixPath, entry: Entry) -> bytes:
    return b"".join(system.chunks(path, entry.size))


def _efi_files(appliance: Appliance, layout: DiskLayout) -> frozenset[PurePosixPath]:
    partition = layout.efi_system
    if partition is None or appliance.file_system_names(0, str(partition.number)).kind not in _FAT:
        return frozenset()
    with appliance.mounted(0, str(partition.number)) as system:
        return frozenset(system.paths())
