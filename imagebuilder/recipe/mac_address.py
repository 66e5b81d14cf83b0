"""The MAC addresses of the hosts' interfaces, which Xen, the images and a rehearsal must agree on."""

import hashlib

# The block of MAC addresses that belongs to the Xen project, for use by anybody's guests.
_XEN_OUI = "00:16:3e"


def mac_address(cluster: str, machine: str, interface: str) -> str:
    """The MAC address of an interface, such as `eth0`, of a machine: always the same one for the same three names."""
    tail = hashlib.sha256(f"{cluster}/{machine}/{interface}".encode()).digest()[:3]
    return ":".join([_XEN_OUI, *(f"{byte:02x}" for byte in tail)])
