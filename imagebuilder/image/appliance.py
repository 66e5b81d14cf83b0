"""libguestfs: opens disks in its appliance, reads what is on them and writes changes. The only importer of guestfs.

One appliance (one QEMU) serves any number of disks. An image is untrusted input: nothing of it is ever mounted on
this machine, and nothing in it is run.
"""

import hashlib
import os
import re
import shutil
import signal
import stat
import tarfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

from imagebuilder.errors import BuildError, HostError
from imagebuilder.plan.listing import Entry, Kind, Listing

T = TypeVar("T")
DiskFormat = Literal["raw", "qcow2"]

_KIND_OF_TYPE = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.LINK,
    stat.S_IFCHR: Kind.DEVICE,
    stat.S_IFBLK: Kind.DEVICE,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}
# lstatnslist and readlinklist answer in one message of at most 4 MiB; a name has at most 255 bytes.
_NAMES_PER_CALL = 1000
# So must the answer of pread; larger ones are not faster.
_BYTES_PER_CALL = 1 << 20
# What blkid calls a partition without content, and one that is never mounted.
_NO_FILE_SYSTEM = {"", "swap"}
_PIPE_BYTES = 1 << 16  # what a pipe holds
# A qcow2 overlay grows by clusters of 64 KiB: with less than this the next writes fail.
_LEAST_FREE_BYTES = 1 << 20
_SPACE_CHECK_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A disk image to open; `access` "write" changes it, "read" cannot."""

    path: Path
    format: DiskFormat
    access: Literal["read", "write"]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What libguestfs finds out about an operating system."""

    root_device: str
    """Partition of its root file system on the disk: `1` for the first, empty for a disk without partitions."""
    distribution: str
    version: str
    architecture: str
    packages: Mapping[str, str]


class FileSystem:
    """The mounted root file system of one disk."""

    def __init__(self, handle: Any, where: str) -> None:
        self._handle = handle
        self._where = where

    def read_file(self, path: PurePosixPath) -> bytes:
        """The content of a regular file, of any size."""
        return self._call(lambda handle: bytes(handle.read_file(str(path))))

    def read_tree(self, directory: PurePosixPath, *, most_bytes: int) -> dict[PurePosixPath, bytes]:
        """The regular files below `directory` of at most `most_bytes` bytes, with their content, in one go."""
        found: dict[PurePosixPath, bytes] = {}
        read_end, write_end = os.pipe()

        def collect() -> None:
            with os.fdopen(read_end, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.isreg() and member.size <= most_bytes else None
                    if content is not None:
                        found[directory / PurePosixPath(member.name)] = content.read()
                # The padding behind the end of an archive: who writes it must not find the pipe closed.
                while stream.read(_PIPE_BYTES):
                    pass

        collector = threading.Thread(target=collect, daemon=True)
        collector.start()
        try:
            self._call(lambda handle: handle.tar_out(str(directory), f"/dev/fd/{write_end}", numericowner=True))
        finally:
            os.close(write_end)
            collector.join()
        return found

    def remove(self, paths: Iterable[PurePosixPath]) -> None:
        """Remove each of `paths`, directories with their content; one that is not there is no error."""
        names = [str(path) for path in paths]
        self._call(lambda handle: [handle.rm_rf(name) for name in names])

    def write_tar(self, archive: bytes) -> None:
        """Unpack a tar archive at the root, with the numeric owners and the modes it has."""
        with _pipe_from(archive) as source:
            self._call(lambda handle: handle.tar_in(source, "/"))

    def entries(
        self, paths: Iterable[PurePosixPath], *, digests: Literal["yes", "no"] = "yes"
    ) -> dict[PurePosixPath, Entry]:
        """What is at each of `paths`; a path that is not there is left out. Files have a digest unless "no"."""
        by_directory: dict[PurePosixPath, list[str]] = {}
        for path in paths:
            by_directory.setdefault(path.parent, []).append(path.name)
        found: dict[PurePosixPath, Entry] = {}
        for directory, names in by_directory.items():
            for start in range(0, len(names), _NAMES_PER_CALL):
                found |= self._entries_in(directory, names[start : start + _NAMES_PER_CALL])
        if digests == "yes":
            sums = self.digests({path: entry.size for path, entry in found.items() if entry.kind is Kind.FILE})
            found |= {path: _with_digest(found[path], digest) for path, digest in sums.items()}
        return found

    def _entries_in(self, directory: PurePosixPath, names: list[str]) -> dict[PurePosixPath, Entry]:
        folder = str(directory)
        states = self._call(lambda handle: handle.lstatnslist(folder, names))
        links = [name for name, state in zip(names, states, strict=True) if stat.S_ISLNK(state["st_mode"])]
        targets = self._call(lambda handle: handle.readlinklist(folder, links)) if links else []
        target_of = dict(zip(links, targets, strict=True))
        return {
            directory / name: _entry(state, target_of.get(name, ""))
            for name, state in zip(names, states, strict=True)
            if state["st_ino"] >= 0  # -1 marks a path that is not there
        }

    def listing(self, *, digests: Literal["yes", "no"] = "yes") -> Listing:
        """Every path of the file system; with "no", files lack their digest, which takes most of the time."""
        return Listing(self.entries(self.paths(), digests=digests))

    def paths(self) -> list[PurePosixPath]:
        """Every path of the file system. Raises BuildError for a name that is not UTF-8.

        libguestfs's Python binding (1.48) takes the whole process down if it is given a list with such a name.
        """
        with TemporaryDirectory(prefix="imgbuild-") as folder:
            file = Path(folder, "names")
            self._call(lambda handle: handle.find0("/", str(file)))
            names = [name for name in file.read_bytes().split(b"\0") if name]
        try:
            return [PurePosixPath("/", name.decode()) for name in names]
        except UnicodeDecodeError as error:
            fix = "rename the file in the image"
            what = f"holds the file name {error.object!r}, which is not UTF-8, and libguestfs cannot read that"
            raise BuildError(what, where=self._where, fix=fix) from error

    def read_start(self, path: PurePosixPath, size_bytes: int) -> bytes:
        """The first `size_bytes` of a regular file, at most 1 MiB; without the 0.1 s a download costs."""
        return self._read(path, 0, min(size_bytes, _BYTES_PER_CALL))

    def digests(self, sizes_bytes: Mapping[PurePosixPath, int]) -> dict[PurePosixPath, str]:
        """SHA-256, in hex, of regular files of which the size is known.

        They are hashed here: without KVM that is 30 times as fast as a `checksum` each for small files, and no
        slower than `checksums_out` for a whole system (17 against 20 s for 10,000 files of 0.5 GB).
        """
        return {path: self._digest(path, size) for path, size in sizes_bytes.items()}

    def _digest(self, path: PurePosixPath, size_bytes: int) -> str:
        digest = hashlib.sha256()
        for start in range(0, size_bytes, _BYTES_PER_CALL):
            digest.update(self._read(path, start, _BYTES_PER_CALL))
        return digest.hexdigest()

    def _read(self, path: PurePosixPath, start: int, size_bytes: int) -> bytes:
        return self._call(lambda handle: bytes(handle.pread(str(path), size_bytes, start)))

    def sync(self) -> None:
        """Have everything written on the disk."""
        self._call(lambda handle: handle.sync())

    def _call(self, operation: Callable[[Any], T]) -> T:
        try:
            return operation(self._handle)
        except UnicodeError as error:
            raise BuildError(
                "holds a name that is not UTF-8, which libguestfs cannot read", where=self._where
            ) from error
        except RuntimeError as error:
            raise BuildError(str(error), where=self._where) from error


class Appliance:
    """A running appliance with its disks; made by `open_appliance`."""

    def __init__(self, handle: Any, disks: Sequence[Disk]) -> None:
        self._handle = handle
        self._disks = disks
        self._devices: list[str] = handle.list_devices()

    @contextmanager
    def mounted(self, index: int, root_device: str) -> Iterator[FileSystem]:
        """Mount the root file system of the disk number `index` while the block runs."""
        disk = self._disks[index]
        device = self._devices[index] + root_device
        mount = self._handle.mount if disk.access == "write" else self._handle.mount_ro
        where = str(disk.path)
        try:
            mount(device, "/")
        except RuntimeError as error:
            fix = "check the image with guestfish, or use another"
            raise BuildError(f"its root file system cannot be mounted: {error}", where=where, fix=fix) from error
        try:
            yield FileSystem(self._handle, where)
            self._handle.umount_all()
        except RuntimeError as error:
            raise BuildError(str(error), where=where) from error

    @contextmanager
    def mounted_whole(self, index: int, mount_points: Mapping[PurePosixPath, str]) -> Iterator[FileSystem]:
        """Mount all file systems of the disk number `index`, read-only, while the block runs."""
        where = str(self._disks[index].path)
        try:
            for path in sorted(mount_points, key=lambda path: len(path.parts)):
                self._handle.mount_ro(self._devices[index] + mount_points[path], str(path))
        except RuntimeError as error:
            fix = "check the image with guestfish, or use another"
            raise BuildError(f"its file systems cannot be mounted: {error}", where=where, fix=fix) from error
        try:
            yield FileSystem(self._handle, where)
            self._handle.umount_all()
        except RuntimeError as error:
            raise BuildError(str(error), where=where) from error

    def mount_points(self, index: int) -> dict[PurePosixPath, str]:
        """Where each file system of the disk number `index` belongs, and its partition: `1`, or empty for the disk.

        The only file system of a disk is its root. Of several, the operating system on one of them says, which
        takes some seconds to find out; only then must there be one. Raises BuildError if nothing can be mounted.
        """
        where, device = str(self._disks[index].path), self._devices[index]
        try:
            partitions = [name for name in self._handle.list_partitions() if _is_partition(name, device)]
            types = {name: self._handle.vfs_type(name) for name in partitions or [device]}
            found = [name for name, kind in types.items() if kind not in _NO_FILE_SYSTEM]
            mounts = {"/": found[0]} if len(found) == 1 else self._mounts_of_system(found, device)
        except RuntimeError as error:
            raise BuildError(str(error), where=where) from error
        if mounts and set(mounts.values()) <= set(found):
            return {PurePosixPath(path): name.removeprefix(device) for path, name in mounts.items()}
        what = "no file system" if not found else "several file systems, but not one system on plain partitions"
        fix = "use an image with one Linux system on plain partitions, or with one file system"
        raise BuildError(f"holds {what} that libguestfs knows", where=where, fix=fix)

    def _mounts_of_system(self, devices: Collection[str], disk: str) -> dict[str, str]:
        """Where the one operating system on `devices` mounts what; nothing if there is none, or several."""
        roots = (self._handle.inspect_get_roots() or self._handle.inspect_os()) if devices else []
        match [root for root in roots if root in devices]:
            case [root]:
                # Two copies of one system have the same UUIDs in their fstab, and libguestfs may find them on the
                # other copy's disk; so only the number of a partition is taken from its answer.
                mounts = self._handle.inspect_get_mountpoints(root).items()
                return {path: re.sub(r"^/dev/[a-z]+(?=\d+$)", disk, name) for path, name in mounts} | {"/": root}
            case _:
                return {}

    def inspect(self, index: int) -> Inspection:
        """Find the operating system on the disk number `index`. Raises BuildError if there is none, or several."""
        where = str(self._disks[index].path)
        device = self._devices[index]
        try:
            roots = [root for root in self._handle.inspect_os() if root.startswith(device)]
            if len(roots) != 1:
                found = f"{len(roots)} operating systems" if roots else "no operating system that libguestfs knows"
                fix = "use an image with one Linux system on a plain partition, or on the whole disk"
                raise BuildError(f"holds {found}", where=where, fix=fix)
            [root] = roots
            mounts = self._handle.inspect_get_mountpoints(root)
            for path in sorted(mounts, key=len):
                self._handle.mount_ro(mounts[path], path)
            applications = self._handle.inspect_list_applications2(root)
            inspection = Inspection(
                root_device=root.removeprefix(device),
                distribution=self._handle.inspect_get_distro(root),
                version=f"{self._handle.inspect_get_major_version(root)}",
                architecture=self._handle.inspect_get_arch(root),
                packages={row["app2_name"]: row["app2_version"] for row in applications},
            )
            self._handle.umount_all()
        except RuntimeError as error:
            raise BuildError(f"cannot be inspected: {error}", where=where) from error
        if len(mounts) > 1:
            fix = "use an image whose system is on one file system"
            raise BuildError(f"has file systems of its own for {', '.join(sorted(mounts)[1:])}", where=where, fix=fix)
        return inspection


@contextmanager
def open_appliance(
    disks: Sequence[Disk], *, environment: Mapping[str, str], log: Path, verbose: bool = False
) -> Iterator[Appliance]:
    """An appliance with `disks`, which are on the disk for good when the block has ended without an error.

    `environment` chooses the back end, as libguestfs's own variables do. Raises HostError if libguestfs is missing
    or its appliance does not start, and BuildError for a disk it cannot open; never leaves a QEMU behind.
    """
    try:
        import guestfs  # noqa: PLC0415 - a build that has nothing to do needs none of it
    except ImportError as error:
        fix = "apt-get install python3-guestfs, and use a virtual environment with system site packages"
        raise HostError("libguestfs's Python binding is not installed", fix=fix) from error
    handle = guestfs.GuestFS(python_return_dict=True)
    with log.open("a", encoding="utf-8", errors="replace") as stream:
        try:
            _configure(guestfs, handle, environment, stream.write, verbose=verbose)
            _add_disks(handle, disks)
            _launch(handle, log)
            with _end_when_disk_full(disks, handle.get_pid()):
                yield Appliance(handle, disks)
                handle.shutdown()
        except RuntimeError as error:
            raise BuildError(str(error), where="libguestfs", fix=f"read {log}") from error
        finally:
            handle.close()


def _configure(
    guestfs: Any, handle: Any, environment: Mapping[str, str], write: Callable[[str], object], *, verbose: bool
) -> None:
    handle.set_verbose(verbose)
    handle.set_smp(min(2, os.cpu_count() or 1))  # emulated, a second processor starts it a sixth faster
    handle.set_pgroup(True)  # a Ctrl-C on the terminal is for us, who then close the appliance
    handle.set_backend(environment.get("LIBGUESTFS_BACKEND", "direct"))
    if settings := environment.get("LIBGUESTFS_BACKEND_SETTINGS"):
        handle.set_backend_settings(settings.split(":"))
    handle.set_event_callback(
        lambda _event, _handle, text, _array: write(f"{text.rstrip()}\n"),
        guestfs.EVENT_APPLIANCE | guestfs.EVENT_LIBRARY | guestfs.EVENT_WARNING,
    )


def _add_disks(handle: Any, disks: Sequence[Disk]) -> None:
    for disk in disks:
        try:
            # The caller publishes a disk only after a clean shutdown, so nothing is lost by skipping its flushes.
            handle.add_drive_opts(
                str(disk.path), format=disk.format, readonly=disk.access == "read", cachemode="unsafe"
            )
        except RuntimeError as error:
            raise BuildError(str(error), where=disk.path) from error


def _launch(handle: Any, log: Path) -> None:
    try:
        with _interrupts_deferred():
            handle.launch()
    except RuntimeError as error:
        fix = f"run `imgbuild doctor`, and read {log}"
        raise HostError(f"libguestfs's appliance does not start: {error}", fix=fix) from error


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back while the block runs, and act on them after it.

    While the appliance starts, libguestfs calls back into Python with its messages. Python would deliver a signal
    there, and libguestfs drops whatever a callback raises, an interrupt too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are delivered to the main thread only
        return
    pending: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: pending.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if pending:
            signal.raise_signal(pending[0])


@contextmanager
def _end_when_disk_full(disks: Sequence[Disk], qemu_pid: int) -> Iterator[None]:
    """End the appliance, and raise HostError, if the disks' file system fills up while the block runs.

    QEMU stops its guest when it cannot write for want of space (werror=enospc, its default, which libguestfs has no
    option to change), and waits for somebody to make room: without this a call would never return.
    """
    directories = {disk.path.parent for disk in disks if disk.access == "write"}
    over = threading.Event()
    full: list[Path] = []

    def watch() -> None:
        while not over.wait(_SPACE_CHECK_S):
            full.extend(path for path in directories if shutil.disk_usage(path).free < _LEAST_FREE_BYTES)
            if full:
                os.kill(qemu_pid, signal.SIGKILL)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except (BuildError, RuntimeError) as error:
        if not full:
            raise
        fix = "make room, or choose another store with --store or IMGBUILD_STORE"
        raise HostError("the disk is full", where=full[0], fix=fix) from error
    finally:
        over.set()
        watcher.join()


@contextmanager
def _pipe_from(content: bytes) -> Iterator[str]:
    """A name under which a C library can read `content` once; it never stands in a file."""
    read_end, write_end = os.pipe()

    def feed() -> None:
        # A reader that stops early has an error of its own to report.
        try:
            with os.fdopen(write_end, "wb") as stream:
                stream.write(content)
        except BrokenPipeError:
            pass

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        yield f"/dev/fd/{read_end}"
    finally:
        os.close(read_end)
        feeder.join()


def _is_partition(name: str, device: str) -> bool:
    return name.startswith(device) and name.removeprefix(device).isdigit()


def _entry(state: Mapping[str, int], target: str) -> Entry:
    mode = state["st_mode"]
    kind = _KIND_OF_TYPE[stat.S_IFMT(mode)]
    size = state["st_size"] if kind is Kind.FILE else 0
    return Entry(kind, stat.S_IMODE(mode), state["st_uid"], state["st_gid"], size=size, target=target)


def _with_digest(entry: Entry, digest: str) -> Entry:
    return Entry(entry.kind, entry.mode, entry.uid, entry.gid, size=entry.size, digest=digest)
