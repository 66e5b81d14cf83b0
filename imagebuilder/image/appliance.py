"""libguestfs: opens disks in its appliance and finds what is on them. The only importer of guestfs.

One appliance (one QEMU) serves any number of disks. An image is untrusted input: nothing of it is ever mounted on
this machine, and nothing in it is run.
"""

import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from imagebuilder.errors import BuildError, HostError
from imagebuilder.image.file_system import FileSystem
from imagebuilder.image.launch import Overdue, bounded_launch

DiskFormat = Literal["raw", "qcow2"]

# What blkid calls a partition without content, and one that is never mounted.
_NO_FILE_SYSTEM = {"", "swap"}
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
class Launch:
    """One try at starting the appliance."""

    processors: int
    limit_s: float


# Emulated, a second processor starts the appliance a sixth faster; but QEMU's multi-threaded emulation has hung in
# early boot, once in some hundreds of launches. With one processor it has one thread. The limit is about ten times what
# an emulated launch takes on two cores.
LAUNCHES = (
    Launch(processors=min(2, os.cpu_count() or 1), limit_s=240),
    Launch(processors=1, limit_s=240),
)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What libguestfs finds out about an operating system."""

    root_device: str
    """Partition of its root file system on the disk: `1` for the first, empty for a disk without partitions."""
    distribution: str
    version: str
    architecture: str
    packages: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class FileSystemNames:
    """The type of a file system as `mount -t` names it, its label and its UUID, empty if it has none."""

    kind: str
    label: str
    uuid: str


class Appliance:
    """A running appliance with its disks; made by `open_appliance`."""

    def __init__(self, handle: Any, disks: Sequence[Disk]) -> None:
        self._handle = handle
        self._disks = disks
        self._devices: list[str] = handle.list_devices()

    def mounted(self, index: int, root_device: str) -> AbstractContextManager[FileSystem]:
        """Mount the root file system of the disk number `index` while the block runs."""
        return self.mounted_whole(index, {PurePosixPath("/"): root_device})

    @contextmanager
    def mounted_whole(self, index: int, mount_points: Mapping[PurePosixPath, str]) -> Iterator[FileSystem]:
        """Mount all file systems of the disk number `index` while the block runs."""
        disk = self._disks[index]
        where = str(disk.path)
        mount = self._handle.mount if disk.access == "write" else self._handle.mount_ro
        try:
            for path in sorted(mount_points, key=lambda path: len(path.parts)):
                mount(self._devices[index] + mount_points[path], str(path))
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

    def file_system_names(self, index: int, partition: str) -> FileSystemNames:
        """What the file system on a partition of the disk number `index` is called; empty for the whole disk."""
        disk = self._disks[index]
        device = self._devices[index] + partition
        try:
            return FileSystemNames(
                kind=self._handle.vfs_type(device),
                label=self._handle.vfs_label(device),
                uuid=self._handle.vfs_uuid(device),
            )
        except RuntimeError as error:
            raise BuildError(str(error), where=disk.path) from error

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
def open_appliance(  # noqa: PLR0913 - each is known by somebody else
    disks: Sequence[Disk],
    *,
    environment: Mapping[str, str],
    log: Path,
    on_step: Callable[[str], None],
    verbose: bool = False,
    launches: Sequence[Launch] = LAUNCHES,
) -> Iterator[Appliance]:
    """An appliance with `disks`, which are on the disk for good when the block has ended without an error.

    `environment` chooses the back end, as libguestfs's own variables do. Each of `launches` is tried if the one
    before it took too long. Raises HostError if libguestfs is missing or its appliance does not start, and BuildError
    for a disk it cannot open; never leaves a QEMU behind.
    """
    try:
        import guestfs  # noqa: PLC0415 - a build that has nothing to do needs none of it
    except ImportError as error:
        fix = "apt-get install python3-guestfs, and use a virtual environment with system site packages"
        raise HostError("libguestfs's Python binding is not installed", fix=fix) from error
    with log.open("a", encoding="utf-8", errors="replace") as stream:

        def prepare(handle: Any) -> None:
            _configure(guestfs, handle, environment, stream.write, verbose=verbose)
            _add_disks(handle, disks)

        try:
            on_step("start the appliance")
            handle = _launch(guestfs, prepare, launches, on_step, log)
            with closing(handle), _end_when_disk_full(disks, handle.get_pid()):
                yield Appliance(handle, disks)
                handle.shutdown()
        except RuntimeError as error:
            raise BuildError(str(error), where="libguestfs", fix=f"read {log}") from error


def _launch(
    guestfs: Any,
    prepare: Callable[[Any], None],
    launches: Sequence[Launch],
    on_step: Callable[[str], None],
    log: Path,
) -> Any:
    """A handle that `prepare` was called with and that has been launched; the caller closes it."""
    fix = f"run `imgbuild doctor`, and read {log}"
    for number, launch in enumerate(launches):
        if number:
            late = f"it was not up after {launches[number - 1].limit_s:g} s"
            on_step(f"start the appliance again, with {launch.processors} processor: {late}")
        with ExitStack() as unless_launched:
            handle = unless_launched.enter_context(closing(guestfs.GuestFS(python_return_dict=True)))
            prepare(handle)
            handle.set_smp(launch.processors)
            try:
                with bounded_launch(launch.limit_s):
                    handle.launch()
            except Overdue:
                continue
            except RuntimeError as error:
                raise HostError(f"libguestfs's appliance does not start: {error}", fix=fix) from error
            unless_launched.pop_all()
            return handle
    limits = ", then for ".join(f"{launch.limit_s:g} s" for launch in launches)
    raise HostError(f"libguestfs's appliance does not start: it was waited for in vain for {limits}", fix=fix)


def _configure(
    guestfs: Any, handle: Any, environment: Mapping[str, str], write: Callable[[str], object], *, verbose: bool
) -> None:
    handle.set_verbose(verbose)
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


def _is_partition(name: str, device: str) -> bool:
    return name.startswith(device) and name.removeprefix(device).isdigit()
