"""What a Xen guest is to be: all that its configuration says, before it is text.

`make_domain` makes one for a machine; `configuration.py` writes it in the language of xl.cfg(5).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid5

from imagebuilder.edits.edit import Machine
from imagebuilder.edits.interfaces import Interfaces
from imagebuilder.image.appliance import DiskFormat
from imagebuilder.recipe.mac_address import mac_address
from imagebuilder.recipe.xen import XenBoot, XenDomain, XenType

_NAMESPACE = UUID("5b0ab1e7-4f55-4c0a-9a3f-6d1a4f6b9c1e")
# Where Debian's grub-xen-host keeps them in dom0.
_PVGRUB: Mapping[XenType, Path] = {
    "pv": Path("/usr/lib/grub-xen/grub-x86_64-xen.bin"),
    "pvh": Path("/usr/lib/grub-xen/grub-i386-xen_pvh.bin"),
}


@dataclass(frozen=True, kw_only=True)
class NetworkInterface:
    """One interface of a guest: its MAC address and the bridge in dom0."""

    mac: str
    bridge: str


@dataclass(frozen=True, kw_only=True)
class DomainDisk:
    """The disk of a guest; `path` is the image's in dom0."""

    path: Path
    format: DiskFormat
    device: str


@dataclass(frozen=True, kw_only=True)
class BootFiles:
    """A kernel and an initramfs outside of the image, and the options that the image's GRUB menu gives the kernel."""

    kernel: Path
    ramdisk: Path
    options: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pygrub:
    """pygrub reads the menu in the image, and gives the kernel `extra` options behind those in the menu."""

    extra: str | None = None


@dataclass(frozen=True, kw_only=True)
class DirectKernel:
    """Xen loads a kernel and an initramfs from dom0's own files."""

    kernel: Path
    ramdisk: Path
    command_line: str


@dataclass(frozen=True, kw_only=True)
class Pvgrub:
    """Xen loads a GRUB, which then reads the menu in the image."""

    binary: Path


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """The guest has a BIOS, which starts its disk."""


Boot = Pygrub | DirectKernel | Pvgrub | Firmware


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One Xen guest. `title` is for whoever reads the configuration; memory is in MiB."""

    title: str
    name: str
    uuid: UUID
    type: XenType
    vcpus: int
    memory_mib: int
    maxmem_mib: int
    boot: Boot
    disk: DomainDisk
    interfaces: tuple[NetworkInterface, ...]
    on_poweroff: Literal["destroy"] = "destroy"
    on_reboot: str
    on_crash: str
    vnc: bool


def make_domain(  # noqa: PLR0913 - each is known by somebody else
    machine: Machine,
    options: XenDomain,
    interfaces: Interfaces | None,
    *,
    disk: Path,
    disk_format: DiskFormat,
    boot_files: BootFiles | None = None,
) -> Domain:
    """The guest that runs `disk` as `machine`; the same machine always has the same UUID and MACs.

    Raises ValueError if it is to boot by `kernel` and there are no `boot_files`.
    """
    cluster = machine.cluster.recipe.name
    return Domain(
        title=f"{machine.name}, role {machine.role}, of the cluster {cluster}",
        name=machine.name,
        uuid=domain_uuid(machine),
        type=options.type,
        vcpus=options.vcpus,
        memory_mib=options.memory_mib,
        maxmem_mib=options.maxmem_mib or options.memory_mib,
        boot=_boot(options, boot_files),
        disk=DomainDisk(path=disk, format=disk_format, device=_disk_device(options.type)),
        interfaces=tuple(network_interfaces(machine, interfaces)),
        on_reboot=options.on_reboot,
        on_crash=options.on_crash,
        vnc=options.type == "hvm" and options.vnc is not False,
    )


def domain_uuid(machine: Machine) -> UUID:
    """The UUID of a machine's guest, the same in every build."""
    return uuid5(_NAMESPACE, f"{machine.cluster.recipe.name}/{machine.name}")


def network_interfaces(machine: Machine, interfaces: Interfaces | None) -> list[NetworkInterface]:
    """The guest's interfaces in the order of their names: eth0 is the first that Xen gives it."""
    recipe = machine.cluster.recipe
    devices = interfaces.devices if interfaces else {}
    return [
        NetworkInterface(
            mac=mac_address(recipe.name, machine.name, name), bridge=recipe.networks[device.network].bridge
        )
        for name, device in sorted(devices.items())
    ]


def _disk_device(kind: XenType) -> str:
    # The BIOS of an hvm guest sees emulated disks only: hd* and sd*, not xvd* (xen-vbd-interface(7)).
    return "hda" if kind == "hvm" else "xvda"


def _boot(options: XenDomain, files: BootFiles | None) -> Boot:
    way: XenBoot = options.boots_by
    match way:
        case "pygrub":
            return Pygrub(extra=options.extra)
        case "pvgrub":
            return Pvgrub(binary=_PVGRUB[options.type])
        case "firmware":
            return Firmware()
        case "kernel":
            if files is None:
                raise ValueError("a guest that boots by a kernel of dom0 needs one")
            words = _with_console(files.options, "ttyS0" if options.type == "hvm" else "hvc0")
            line = " ".join([*words, *([options.extra] if options.extra else [])])
            return DirectKernel(kernel=files.kernel, ramdisk=files.ramdisk, command_line=line)


def _with_console(words: tuple[str, ...], device: str) -> tuple[str, ...]:
    """`words` with `device` as the last of the consoles: the last is where init and its messages are."""
    named = [word for word in words if word.split(",")[0] == f"console={device}"]
    return (*(word for word in words if word not in named), *(named or [f"console={device}"]))
