"""What attributes of a template need of each other."""

from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from imagebuilder.errors import Place
from imagebuilder.opennebula.attributes import Kind
from imagebuilder.opennebula.release import Generation
from imagebuilder.opennebula.template import Template, Vector

# Where (None for the whole template), what, and the fix.
Unmet = tuple[Place | None, str, str]


def unmet_requirements(template: Template, kind: Kind, generation: Generation) -> Iterator[Unmet]:
    """Everything in `template` that lacks what it needs."""
    match kind:
        case "vm":
            yield from _disks(template, generation)
            yield from _interfaces(template, generation)
            yield from _clouds(template, generation)
        case "image":
            if template.get("PATH") is None and template.get("SOURCE") is None and template.get("SIZE") is None:
                yield None, "there is neither PATH nor SOURCE", "add PATH = …; an empty DATABLOCK needs a SIZE"
        case "network":
            yield from _ranges(template)


def _disks(template: Template, generation: Generation) -> Iterator[Unmet]:
    for disk in template.vectors("DISK"):
        image = disk.get("IMAGE") or disk.get("IMAGE_ID")
        if disk.get("SOURCE"):  # a fault of its own where there are images
            continue
        if image and disk.get("TYPE"):
            yield disk.place, "DISK has an image and a TYPE, which is for a disk without one", "remove one of the two"
        elif not image and not disk.get("TYPE"):
            fix = "add SOURCE = …" if generation == "1" else "add IMAGE = …, or TYPE and SIZE of an empty disk"
            yield disk.place, "DISK has no image", fix
        elif not image and not disk.get("SIZE"):
            yield disk.place, "DISK without an image has no SIZE", "add SIZE = …, in MB"


def _interfaces(template: Template, generation: Generation) -> Iterator[Unmet]:
    for nic in template.vectors("NIC"):
        if generation == "1":
            if not (nic.get("NETWORK") or nic.get("BRIDGE") or nic.get("MAC")):
                yield nic.place, "NIC has neither NETWORK nor BRIDGE", "add BRIDGE = …"
        elif not (nic.get("NETWORK") or nic.get("NETWORK_ID") or nic.get("NETWORK_MODE")):
            yield nic.place, "NIC has no network", "add NETWORK = …"


def _clouds(template: Template, generation: Generation) -> Iterator[Unmet]:
    name = "EC2" if generation == "1" else "PUBLIC_CLOUD"
    for cloud in template.vectors(name):
        if generation == "1" and cloud.get("AUTHORIZED_PORTS") and not cloud.get("AUTHORIZEDPORTS"):
            what = "the driver reads AUTHORIZEDPORTS, and passes over AUTHORIZED_PORTS"
            yield cloud.place, what, "write AUTHORIZEDPORTS, or both"
        if (cloud.get("TYPE") or "").lower() == "ec2" and not cloud.get("AMI"):
            yield cloud.place, "PUBLIC_CLOUD for EC2 has no AMI", "add AMI = …"


def _ranges(template: Template) -> Iterator[Unmet]:
    network = _subnet(template)
    for one in template.vectors("AR"):
        kind = (one.get("TYPE") or "").upper()
        if kind.startswith("IP4") and not one.get("IP"):
            yield one.place, f"AR of type {kind} has no IP", "add IP = …, the first of the range"
        if kind in ("IP4", "IP6", "IP4_6", "ETHER") and not one.get("SIZE"):
            yield one.place, f"AR of type {kind} has no SIZE", "add SIZE = …, how many addresses it has"
        if network is not None and (outside := _outside(one, network)) is not None:
            yield one.place, f"AR reaches to {outside}, outside of {network}", "correct IP, SIZE or NETWORK_ADDRESS"


def _subnet(template: Template) -> IPv4Network | None:
    address, mask = template.get("NETWORK_ADDRESS"), template.get("NETWORK_MASK")
    try:
        return IPv4Network(f"{address}/{mask}") if address and mask else None
    except ValueError:
        return None


def _outside(one: Vector, network: IPv4Network) -> IPv4Address | None:
    """The first or last address of a range, if it is not in the network."""
    try:
        first = IPv4Address(one.get("IP") or "")
        last = first + int(one.get("SIZE") or "1") - 1
    except (AddressValueError, ValueError):
        return None
    return next((address for address in (first, last) if address not in network), None)
