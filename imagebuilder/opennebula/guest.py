"""The templates of a local guest: its disk as an image, and its machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from imagebuilder.edits.edit import Machine
from imagebuilder.edits.interfaces import Interfaces
from imagebuilder.image.store import Image
from imagebuilder.opennebula.release import Release
from imagebuilder.opennebula.template import Attribute, Template, single, vector
from imagebuilder.recipe.cluster import ClusterRecipe
from imagebuilder.recipe.xen import XenDomain
from imagebuilder.xen.domain import network_interfaces

_KEY_CHARACTERS = 12  # as `imgbuild list` shows a key
_LISTEN = {"local": "127.0.0.1", "anywhere": "0.0.0.0"}  # noqa: S104 - said by the recipe only
# Where Xen's packages had it in 2008; Debian 12 has it in /usr/lib/xen-4.17/bin.
_PYGRUB = "/usr/bin/pygrub"


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A local machine and its finished image."""

    machine: Machine
    domain: XenDomain
    interfaces: Interfaces | None
    image: Image


@dataclass(frozen=True, kw_only=True)
class Port:
    """Where one interface of a guest is attached, and the address that is the guest's own there."""

    network: str
    bridge: str
    mac: str
    address: IPv4Address | None


def ports(guest: Guest) -> list[Port]:
    """The guest's interfaces, in the order of their names."""
    devices = sorted(guest.interfaces.devices.items()) if guest.interfaces else []
    host = guest.machine.host
    return [
        Port(
            network=device.network,
            bridge=one.bridge,
            mac=one.mac,
            address=host.addresses.get(device.network) if host else None,
        )
        for (_, device), one in zip(devices, network_interfaces(guest.machine, guest.interfaces), strict=True)
    ]


def network_name(cluster: ClusterRecipe, network: str) -> str:
    """The name of one of the cluster's networks in OpenNebula."""
    return f"{cluster.name}-{network}"


def image_name(cluster: ClusterRecipe, image: Image) -> str:
    """The name of an image in OpenNebula, where names are shared with other clusters."""
    return f"{cluster.name}-{image.name}"


def origin(image: Image) -> str:
    """The line of a comment that says what was taken from where."""
    return f"from the image build {image.key[:_KEY_CHARACTERS]}"


def is_thin(image: Image) -> bool:
    """Whether the image's file holds only what differs from its base, which OpenNebula would leave behind."""
    return image.format == "qcow2"


def guest_template(guest: Guest, release: Release) -> Template:
    """The template of the machine."""
    machine = guest.machine
    cluster = machine.cluster.recipe
    comment = f"{machine.name}, role {machine.role}, of the cluster {cluster.name}, for {release.title}"
    attributes = _of_2008(guest) if release.generation == "1" else _of_today(guest, cluster)
    return Template(comment=f"{comment}\n{origin(guest.image)}", attributes=tuple(attributes))


def image_template(image: Image, cluster: ClusterRecipe, release: Release, *, persistent: bool) -> Template:
    """The template of an image that OpenNebula shall copy into a datastore."""
    lines = [f"The disk of {image.name}, of the cluster {cluster.name}, for {release.title}", origin(image)]
    if is_thin(image):
        lines += ["It is a thin overlay, and its base is not copied: build with `imgbuild build --format raw`."]
    attributes = (
        single("NAME", image_name(cluster, image)),
        single("TYPE", "OS"),
        single("PATH", str(image.disk)),
        single("FORMAT" if release.generation == "7" else "DRIVER", image.format),
        single("DEV_PREFIX", "vd"),
        single("PERSISTENT", "YES" if persistent else "NO"),
    )
    return Template(comment="\n".join(lines), attributes=attributes)


def _capacity(guest: Guest) -> Iterator[Attribute]:
    yield single("NAME", guest.machine.name)
    yield single("CPU", guest.domain.vcpus)
    yield single("VCPU", guest.domain.vcpus)
    yield single("MEMORY", guest.domain.memory_mib)


def _graphics(cluster: ClusterRecipe) -> Iterator[Attribute]:
    if cluster.opennebula.screens != "none":
        yield vector("GRAPHICS", TYPE="vnc", LISTEN=_LISTEN[cluster.opennebula.screens])


def _of_2008(guest: Guest) -> Iterator[Attribute]:
    cluster = guest.machine.cluster.recipe
    yield from _capacity(guest)
    if guest.domain.type == "hvm":
        yield vector("OS", BOOT="hd")
    else:
        known = (
            "OpenNebula knows BOOTLOADER since 1.4; before, the host needs the image's kernel: KERNEL, INITRD, ROOT."
        )
        yield vector("OS", BOOTLOADER=_PYGRUB, comment=known)
    comment = "The guest runs on a copy: what imgbuild has built is never written to."
    if is_thin(guest.image):
        comment = f"Xen of 2008 reads raw disks only: build with `imgbuild build --format raw`.\n{comment}"
    disk = str(guest.image.disk)
    yield vector("DISK", TYPE="disk", SOURCE=disk, TARGET="xvda", READONLY="no", CLONE="yes", comment=comment)
    for port in ports(guest):
        yield vector("NIC", BRIDGE=port.bridge, MAC=port.mac, IP=port.address)
    yield from _graphics(cluster)
    yield single("REQUIREMENTS", f'HOSTNAME != "{cluster.opennebula.ec2_host}"')


def _of_today(guest: Guest, cluster: ClusterRecipe) -> Iterator[Attribute]:
    yield from _capacity(guest)
    yield vector("OS", ARCH="x86_64", BOOT="disk0")
    yield vector("DISK", IMAGE=image_name(cluster, guest.image))
    for port in ports(guest):
        mac = None if port.address else port.mac  # of a lease without an address, which the guest asks the network for
        yield vector("NIC", NETWORK=network_name(cluster, port.network), IP=port.address, MAC=mac, MODEL="virtio")
    yield from _graphics(cluster)
    yield context(cluster)
    yield single("SCHED_REQUIREMENTS", 'HYPERVISOR = "kvm"')


def context(cluster: ClusterRecipe) -> Attribute:
    """What OpenNebula tells the guest."""
    comment = "The image has its names and addresses in itself, and does not read this; see docs/opennebula.md."
    own = cluster.opennebula.ssh_key
    # What stands behind a key is a remark, in which a dollar would be a variable.
    key = " ".join(own.split()[:2]) if own else "$USER[SSH_PUBLIC_KEY]"
    return vector("CONTEXT", NETWORK="YES", SSH_PUBLIC_KEY=key, comment=comment)
