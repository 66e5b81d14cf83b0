"""dom0: Xen, a kernel, and a small Debian with Xen's tools. Made as a base is made, once, and kept."""

import gzip
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from imagebuilder.image.bootstrap import BaseDescription, bootstrap, recipe_key
from imagebuilder.programs import run_program

_DEBIAN = BaseDescription(
    suite="bookworm",
    kernel="linux-image-amd64",  # the cloud kernel cannot be dom0
    packages=(
        *("xen-hypervisor-4.17-amd64", "xen-utils-4.17", "xenstore-utils"),
        "qemu-system-xen",  # reads qcow2 images for the guests
        *("iproute2", "iputils-arping", "iputils-ping", "kmod", "procps"),
    ),
    disk_size_gib=3,
    label="dom0",
)
# Where every base has its root file system; debugfs(8) takes it behind a question mark.
_ROOT = "?offset=2097152"


@dataclass(frozen=True, kw_only=True)
class BootFiles:
    """A kernel and its initial RAM disk."""

    kernel: Path
    initrd: Path


@dataclass(frozen=True, kw_only=True)
class Dom0:
    """All that QEMU starts."""

    hypervisor: Path
    boot: BootFiles
    disk: Path


def make_dom0(cache: Path) -> Dom0:
    """The dom0 in `cache`, made there if it is not there yet (a minute or two)."""
    place = cache / recipe_key(_DEBIAN)[:16]
    if not place.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache, prefix=".new-") as scratch:
            new = Path(scratch, "dom0")
            new.mkdir()
            bootstrap(_DEBIAN, disk=new / "disk.raw", log=new / "log", scratch=Path(scratch), on_step=lambda _: None)
            take_boot_files(new / "disk.raw", new)
            [compressed] = _copy_from(new / "disk.raw", "xen-4.17-amd64.gz", new)
            # QEMU's loader of multiboot kernels takes no compressed one.
            (new / "xen").write_bytes(gzip.decompress(compressed.read_bytes()))
            new.rename(place)
    return Dom0(hypervisor=place / "xen", boot=_boot_files(place), disk=place / "disk.raw")


def take_boot_files(disk: Path, directory: Path) -> BootFiles:
    """Kernel and initial RAM disk of a base, a raw disk, copied to `directory`."""
    _copy_from(disk, "vmlinuz-", directory)
    _copy_from(disk, "initrd.img-", directory)
    return _boot_files(directory)


def _boot_files(directory: Path) -> BootFiles:
    [kernel], [initrd] = directory.glob("vmlinuz-*"), directory.glob("initrd.img-*")
    return BootFiles(kernel=kernel, initrd=initrd)


def _copy_from(disk: Path, beginning: str, directory: Path) -> list[Path]:
    """Copies of the files in /boot of `disk` whose names begin so."""
    root = f"{disk}{_ROOT}"
    # A row is /number/mode/owner/group/name/size/.
    rows = run_program(["debugfs", "-R", "ls -p /boot", root]).splitlines()
    names = [row.split("/")[5] for row in rows if row.count("/") > 5]
    wanted = [name for name in names if name.startswith(beginning)]
    for name in wanted:
        run_program(["debugfs", "-R", f"dump /boot/{name} {directory / name}", root])
    return [directory / name for name in wanted]
