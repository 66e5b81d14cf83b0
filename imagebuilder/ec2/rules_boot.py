"""The rules by which an image boots on EC2, and can be watched doing so. Pure.

Where they come from: the user guide of EC2 ("Requirements for Nitro-based instances", "Boot modes", "Amazon EC2
instance console output"); what breaks each is a machine that starts and never answers.
"""

import re
from collections.abc import Iterator, Set
from pathlib import PurePosixPath

from imagebuilder.ec2.evidence import Evidence, follow, on_root
from imagebuilder.ec2.rule import Rule
from imagebuilder.image.grub_menu import GRUB_MENU, BootEntry

# Where UEFI firmware looks that knows nothing of the system yet, as it is on a new instance.
_EFI_LOADERS = {PurePosixPath("/efi/boot/bootx64.efi"), PurePosixPath("/efi/boot/bootaa64.efi")}

# The disks of Nitro instances, their network cards, the disks of the older Xen instances.
_DRIVERS = ("nvme", "ena", "xen-blkfront")

_BY_NAME = ("UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=")
_DEVICE = re.compile(r"/dev/(sd|xvd|vd|hd|nvme)")
_MODULE = re.compile(r"(.+)\.ko(\.(xz|zst|gz))?")
_FSTAB = PurePosixPath("/etc/fstab")
_CARD_NAMES = (
    PurePosixPath("/etc/udev/rules.d/70-persistent-net.rules"),
    PurePosixPath("/etc/udev/rules.d/75-persistent-net-generator.rules"),
)


def has_efi_loader(evidence: Evidence) -> bool:
    """Whether UEFI firmware finds a boot loader; a FAT file system does not tell capitals from small letters."""
    found = {PurePosixPath(str(path).lower()) for path in evidence.efi_files}
    return evidence.layout.efi_system is not None and bool(found & _EFI_LOADERS)


def _boot_loader(evidence: Evidence) -> Iterator[tuple[str, str]]:
    if evidence.layout.bios_trouble is not None and not has_efi_loader(evidence):
        yield "disk", evidence.layout.bios_trouble
        esp = evidence.layout.efi_system
        if esp is not None:
            yield f"partition {esp.number}", "the EFI system partition has no EFI/BOOT/BOOTX64.EFI"


def _kernel(evidence: Evidence) -> Iterator[tuple[str, str]]:
    entries = evidence.boot_entries()
    if not entries:
        yield str(GRUB_MENU), "there is no menu, or it boots no Linux kernel"
    for entry in entries:
        for path in (entry.kernel, *entry.archives):
            if on_root(evidence.listing, path) not in evidence.listing:
                yield str(GRUB_MENU), f"the menu names {path}, which is not there"
        if not entry.archives:
            yield str(GRUB_MENU), f"{entry.kernel} is loaded without an initramfs, and so without its drivers"


def _drivers(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for entry in evidence.boot_entries():
        if not entry.archives:
            continue
        there = _built_in(evidence, entry)
        for archive in entry.archives:
            there |= set(_modules(evidence.initramfs.get(on_root(evidence.listing, archive), frozenset())))
        for driver in (*_DRIVERS, evidence.root.kind):
            if _plain(driver) not in there:
                yield str(entry.archives[-1]), f"the driver {driver} is neither in it nor in the kernel"


def _built_in(evidence: Evidence, entry: BootEntry) -> set[str]:
    version = on_root(evidence.listing, entry.kernel).name.partition("-")[2]
    names = evidence.text(follow(evidence.listing, PurePosixPath("/lib/modules", version, "modules.builtin"))) or ""
    return set(_modules({PurePosixPath(line) for line in names.split()}))


def _modules(paths: Set[PurePosixPath]) -> Iterator[str]:
    return (_plain(match.group(1)) for path in paths if (match := _MODULE.fullmatch(path.name)))


def _plain(module: str) -> str:
    """A module's name as the kernel compares it: it takes - and _ for the same."""
    return module.replace("-", "_")


def _root(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for entry in evidence.boot_entries():
        match entry.values("root"):
            case [*_, last]:
                trouble = _not_the_root(last, evidence)
                if trouble is not None:
                    yield str(GRUB_MENU), f"root={last} {trouble}"
            case _:
                yield str(GRUB_MENU), f"{entry.kernel} is not told its root file system"


def _not_the_root(name: str, evidence: Evidence) -> str | None:
    if not name.startswith(_BY_NAME):
        return "is no UUID and no label: a device has another name on another instance type"
    known = {f"UUID={evidence.root.uuid}", f"LABEL={evidence.root.label}"}
    if name.startswith(("UUID=", "LABEL=")) and name.replace('"', "") not in known:
        return "is not the name of this image's root file system"
    return None


def _fstab(evidence: Evidence) -> Iterator[tuple[str, str]]:
    rows = [line.split("#", 1)[0].split() for line in (evidence.text(_FSTAB) or "").splitlines()]
    for row in (row for row in rows if len(row) >= 2):
        trouble = _not_the_root(row[0], evidence) if row[1] == "/" else None
        if trouble is None and _DEVICE.match(row[0]):
            trouble = "is no UUID and no label: a device has another name on another instance type"
        if trouble is not None:
            yield str(_FSTAB), f"{row[0]} on {row[1]} {trouble}"


def _console(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for entry in evidence.boot_entries():
        if not any(value.split(",")[0] == "ttyS0" for value in entry.values("console")):
            yield str(GRUB_MENU), f"{entry.kernel} is not told to use the console ttyS0"


def _card_names(evidence: Evidence) -> Iterator[tuple[str, str]]:
    return ((str(path), "names network cards of another machine") for path in _CARD_NAMES if path in evidence.listing)


RULES = (
    Rule(
        name="boot-loader",
        proves="the firmware of an instance finds a boot loader on the disk",
        fix="install GRUB: for BIOS into the first sector and a BIOS boot partition, for UEFI into an EFI partition",
        troubles=_boot_loader,
    ),
    Rule(
        name="kernel",
        proves="what GRUB's menu loads is on the disk",
        fix="run update-grub in the base, and build again",
        troubles=_kernel,
    ),
    Rule(
        name="drivers",
        proves="the drivers of EC2's disks and network cards, and of the root, are in the initramfs or the kernel",
        fix="name the drivers in /etc/initramfs-tools/modules of the base, and run update-initramfs there",
        troubles=_drivers,
    ),
    Rule(
        name="root",
        proves="the kernel finds its root by a UUID or a label, which is this file system's",
        fix="write root=UUID=… into the kernel's command line, and run update-grub in the base",
        troubles=_root,
    ),
    Rule(
        name="fstab",
        proves="no file system is mounted by the name of a device, which differs between instance types",
        fix="write UUID=… or LABEL=… into /etc/fstab",
        troubles=_fstab,
    ),
    Rule(
        name="serial-console",
        proves="the kernel prints to the first serial port, which EC2 shows as console output",
        fix="put console=ttyS0,115200 into the kernel's command line",
        troubles=_console,
    ),
    Rule(
        name="card-names",
        proves="no network card of another machine is remembered, for which eth0 would be kept free",
        fix="remove the file",
        troubles=_card_names,
    ),
)
