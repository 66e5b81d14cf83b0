"""Makes the folder that goes into a dom0: one machine's disk, its texts, and the checksums of all that.

    DIRECTORY/NAME/   disk.raw, or disk.qcow2 and base.raw|qcow2; NAME.cfg; start; README; what it boots from, if the
                      configuration names such files; export.json; SHA256SUMS
    DIRECTORY/.lock

A folder is made under a name that begins with `.new-`, and renamed when all in it is on the disk. Its disk is newer
than SHA256SUMS as soon as the machine has run on it.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal

from imagebuilder.errors import BuildError, CheckError, HostError, UsageError
from imagebuilder.image.appliance import DiskFormat
from imagebuilder.image.qemu_img import backing_chain, copy_file, copy_to_qcow2, copy_to_raw, name_backing_file
from imagebuilder.image.store import Image, disk_name, name_for_used
from imagebuilder.programs import ask_program
from imagebuilder.whole_files import flush

MANIFEST, SUMS = "export.json", "SHA256SUMS"

# Part of every key: raise it when the same image and texts are to give another folder.
_VERSION = 1
_NEW, _LOCK = ".new-", ".lock"


@dataclass(frozen=True, kw_only=True)
class Content:
    """What goes into the folder of a machine: a disk of `disk_format`, texts and files by their names in it."""

    image: Image
    disk_format: DiskFormat
    texts: Mapping[str, str]
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """SHA-256 of all that decides what the folder will hold; the image counts by its own key."""
        parts = [
            _VERSION,
            [self.image.role, self.image.name, self.image.key, self.image.format, self.image.base_digest],
            self.disk_format,
            sorted(self.texts.items()),
            sorted((name, file_digest(path)) for name, path in self.files.items()),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Export:
    """A whole folder; `outcome` says what was done for it, `kept` where an earlier one is that has run."""

    name: str
    folder: Path
    key: str
    outcome: Literal["exported", "unchanged"]
    kept: Path | None = None


def is_exported(content: Content, directory: Path) -> bool:
    """Whether the folder of this machine in `directory` is there already. Raises UsageError for a foreign one."""
    folder = directory / content.image.name
    return _key_of(folder, content.image.name) == content.key and _is_complete(folder)


def export(content: Content, directory: Path, *, on_wait: Callable[[Path], None]) -> Export:
    """Make the folder of a machine in `directory`, unless it is there already; whole or not at all.

    A folder with another key gives way when the new one is whole. If the machine has run on it, it is kept, under
    NAME.used-N. Calls `on_wait` with the directory if another process is at work there.

    Raises UsageError if something else has the folder's name, CheckError if the machine runs here or has written to
    the image in the store, HostError if the disk is full, BuildError if the image cannot be read.
    """
    name = content.image.name
    folder = directory / name
    if not content.image.is_untouched():
        fix = f"end the machine that runs on it, and `imgbuild build {name}`"
        raise CheckError("was written to since it was built", where=content.image.disk, fix=fix)
    with _write_errors(directory), _alone_in(directory, on_wait):
        key = content.key
        if is_exported(content, directory):
            return Export(name=name, folder=folder, key=key, outcome="unchanged")
        if folder.exists() and _is_running(name):
            fix = f"end it by `xl shutdown -w {name}`, or export into another directory"
            raise CheckError(f"{name} runs on this machine, maybe from this folder", where=folder, fix=fix)
        with _new_folder(directory) as new:
            _fill(new, content, key)
            kept = _put_in_place(new, folder)
    return Export(name=name, folder=folder, key=key, outcome="exported", kept=kept)


def was_used(folder: Path) -> bool:
    """Whether somebody has written to the disk in an exported folder, as a machine does that runs on it."""
    sums = folder / SUMS
    disks = [disk for disk in folder.glob("disk.*") if disk.is_file()]
    return sums.is_file() and any(disk.stat().st_mtime_ns > sums.stat().st_mtime_ns for disk in disks)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def allocated_bytes(folder: Path) -> int:
    """What the files of a folder take on the disk, without their holes."""
    return sum(file.stat().st_blocks * 512 for file in folder.iterdir())


def _fill(new: Path, content: Content, key: str) -> None:
    _write_disk(new, content)
    for name, path in content.files.items():
        copy_file(new / name, image=path)
    for name, text in content.texts.items():
        (new / name).write_text(text, encoding="utf-8")
    image = content.image
    manifest = {"name": image.name, "role": image.role, "image": image.key, "key": key}
    (new / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    files = sorted(new.iterdir())
    for file in files:
        file.chmod(0o700 if file.name == "start" else 0o600)  # the disk has the keys of the VPN in it
    # Written last: whether the disk is newer says whether it was used.
    sums = "".join(f"{file_digest(file)}  {file.name}\n" for file in files)
    (new / SUMS).write_text(sums, encoding="utf-8")
    (new / SUMS).chmod(0o600)


def _write_disk(new: Path, content: Content) -> None:
    image, disk = content.image, new / disk_name(content.disk_format)
    match content.disk_format, image.format:
        case "raw", _:
            copy_to_raw(disk, base=image.disk, base_format=image.format)
        case "qcow2", "raw":
            copy_to_qcow2(disk, image=image.disk, image_format="raw")
        case _:
            _copy_overlay(disk, image)


def _copy_overlay(disk: Path, image: Image) -> None:
    """Copy an overlay and what it lies on, side by side."""
    chain = backing_chain(image.disk, image.format)
    copy_file(disk, image=image.disk)
    if len(chain) == 1:
        return
    if len(chain) > 2:
        raise BuildError("is an overlay on an overlay", where=image.disk, fix="export it with --disk raw")
    base_format: DiskFormat = "qcow2" if chain[1].format == "qcow2" else "raw"
    base = disk.with_name(f"base.{base_format}")
    copy_file(base, image=chain[1].path)
    name_backing_file(disk, base.name, base_format)


def _put_in_place(new: Path, folder: Path) -> Path | None:
    """Give the folder `new` its name; return where the one is that had it, if that is kept."""
    for file in new.iterdir():
        flush(file)
    flush(new)
    if not folder.exists():
        new.rename(folder)
        flush(folder.parent)
        return None
    is_used = was_used(folder)
    earlier = name_for_used(folder) if is_used else new.with_name(f"{new.name}.old")
    try:
        folder.rename(earlier)
        new.rename(folder)
    except BaseException:  # an interrupt, too
        if not folder.exists():
            earlier.rename(folder)
        raise
    flush(folder.parent)
    return earlier if is_used else None


def _key_of(folder: Path, name: str) -> str | None:
    """The key of an exported folder, or None if there is none. Raises UsageError for something else."""
    if not folder.exists() and not folder.is_symlink():
        return None
    with suppress(OSError, ValueError):
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if isinstance(manifest, dict) and manifest.get("name") == name and not folder.is_symlink():
            return str(manifest.get("key"))
    raise UsageError(f"is there and is no export of {name}", where=folder, fix="export into another directory")


def _is_complete(folder: Path) -> bool:
    """Whether nobody has taken a file out of an exported folder."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
    return all((folder / line.partition("  ")[2]).is_file() for line in lines)


def _is_running(name: str) -> bool:
    """Whether this machine is a dom0 in which a machine of this name runs."""
    try:
        return ask_program(["xl", "list", name], timeout_s=60).exit_code == 0
    except HostError:  # there is no xl
        return False


@contextmanager
def _alone_in(directory: Path, on_wait: Callable[[Path], None]) -> Iterator[None]:
    """Hold the lock of `directory`, which is made if need be, and sweep what dead runs left there."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait(directory)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        _sweep(directory)
        yield
    finally:
        os.close(descriptor)


def _sweep(directory: Path) -> None:
    for leaving in directory.glob(f"{_NEW}*"):
        shutil.rmtree(leaving, ignore_errors=True)


@contextmanager
def _new_folder(directory: Path) -> Iterator[Path]:
    """A folder to fill, readable to its owner only; gone after the block unless it was renamed, as is its `.old`."""
    new = Path(mkdtemp(prefix=_NEW, dir=directory))
    try:
        yield new
    finally:
        _sweep(directory)


@contextmanager
def _write_errors(directory: Path) -> Iterator[None]:
    """Say of a disk that is full, or may not be written to, what can be done."""
    try:
        yield
    except BuildError as error:
        if os.strerror(errno.ENOSPC) not in error.what:
            raise
        raise HostError("the disk is full", where=directory, fix=_ROOM) from error
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else f"cannot be written: {error.strerror}"
        raise HostError(what, where=error.filename or directory, fix=_ROOM) from error


_ROOM = "make room, or export into another directory"
