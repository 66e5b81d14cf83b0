"""The configuration of a Xen guest, in the language of xl.cfg(5) as of Xen 4.17."""

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.edits.edit import Machine
from imagebuilder.edits.interfaces import Interfaces
from imagebuilder.image.appliance import DiskFormat
from imagebuilder.site import XenDomain

# The block of MAC addresses that belongs to the Xen project, for use by anybody's guests.
_XEN_OUI = "00:16:3e"
_NAMESPACE = uuid.UUID("5b0ab1e7-4f55-4c0a-9a3f-6d1a4f6b9c1e")
_PVGRUB = {
    "pv": "/usr/lib/grub-xen/grub-x86_64-xen.bin",
    "pvh": "/usr/lib/grub-xen/grub-i386-xen_pvh.bin",
}


@dataclass(frozen=True, kw_only=True)
class NetworkInterface:
    """One interface of a guest: its MAC address and the bridge in dom0."""

    mac: str
    bridge: str


def make_configuration(
    machine: Machine, domain: XenDomain, interfaces: Interfaces | None, *, disk: Path, disk_format: DiskFormat
) -> str:
    """The xl configuration that starts `disk` as `machine`; the same machine always has the same UUID and MACs."""
    cluster = machine.cluster.recipe.name
    lines = [
        f"# {machine.name}, role {machine.role}, of the cluster {cluster}; xl.cfg(5)",
        f'name = "{machine.name}"',
        f'uuid = "{uuid.uuid5(_NAMESPACE, f"{cluster}/{machine.name}")}"',
        f'type = "{domain.type}"',
        f"vcpus = {domain.vcpus}",
        f"memory = {domain.memory_mib}",
        f"maxmem = {domain.memory_mib}",
        *_boot_lines(domain),
        # The target comes last: xl takes all that follows it for the file's name.
        f"disk = [ {_quoted(f'format={disk_format},vdev=xvda,access=rw,target={disk}')} ]",
        f"vif = [ {', '.join(_vif(one, domain) for one in network_interfaces(machine, interfaces))} ]",
        'on_poweroff = "destroy"',
        'on_reboot = "restart"',
        'on_crash = "destroy"',
    ]
    return "\n".join(lines) + "\n"


def network_interfaces(machine: Machine, interfaces: Interfaces | None) -> list[NetworkInterface]:
    """The guest's interfaces in the order of their names: eth0 is the first that Xen gives it."""
    recipe = machine.cluster.recipe
    devices = interfaces.devices if interfaces else {}
    return [
        NetworkInterface(
            mac=mac_address(f"{recipe.name}/{machine.name}/{name}"), bridge=recipe.networks[device.network].bridge
        )
        for name, device in sorted(devices.items())
    ]


def _quoted(text: str) -> str:
    """`text` as a string of xl.cfg, in which a backslash takes away the meaning of what follows."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def mac_address(identity: str) -> str:
    """A MAC address that always is the same for the same `identity`."""
    tail = hashlib.sha256(identity.encode()).digest()[:3]
    return ":".join([_XEN_OUI, *(f"{byte:02x}" for byte in tail)])


def _vif(interface: NetworkInterface, domain: XenDomain) -> str:
    # An hvm guest would otherwise see each interface twice: emulated and paravirtual.
    kind = ",type=vif" if domain.type == "hvm" else ""
    return f"'mac={interface.mac},bridge={interface.bridge}{kind}'"


def _boot_lines(domain: XenDomain) -> list[str]:
    match domain.type, domain.boot:
        case "hvm", _:
            return ['boot = "c"', 'serial = "pty"']
        case _, "pygrub":
            return ['bootloader = "pygrub"']
        case _, _:
            return [f'kernel = "{_PVGRUB[domain.type]}"']
