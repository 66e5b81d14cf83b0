"""The templates of the cluster's networks, with each machine's address as a lease of its own."""

from collections.abc import Iterable
from typing import Literal

from imagebuilder.opennebula.guest import Guest, Port, network_name, ports
from imagebuilder.opennebula.release import Release
from imagebuilder.opennebula.template import Attribute, Template, single, vector
from imagebuilder.recipe.cluster import ClusterRecipe


def network_template(
    name: Literal["private", "public"], cluster: ClusterRecipe, guests: Iterable[Guest], release: Release
) -> Template:
    """The template of the network `private` or `public`; of OpenNebula 4.14 and later.

    A range of one address for each machine: nothing else can be leased, so no other guest gets a machine's address
    or one of the VPN's pool. A lease that is held (`onevnet hold`) would be refused to the machine as well.
    """
    network = cluster.networks[name]
    lines = [
        f"The {name} network of the cluster {cluster.name}, for {release.title}",
        "Only these addresses can be leased: each is one machine's own, which asks for it.",
    ]
    if name == "private":
        lines.append("No filter of MAC or IP addresses here: the server bridges the VPN's clients into this network.")
    ranges = [_range(port, guest.machine.name) for guest in guests for port in ports(guest) if port.network == name]
    gateway = [single("GATEWAY", str(network.gateway))] if network.gateway else []
    return Template(
        comment="\n".join(lines),
        attributes=(
            single("NAME", network_name(cluster, name)),
            single("VN_MAD", "dummy"),
            single("BRIDGE", network.bridge),
            single("NETWORK_ADDRESS", str(network.subnet.network_address)),
            single("NETWORK_MASK", str(network.subnet.netmask)),
            *gateway,
            *ranges,
        ),
    )


def _range(port: Port, owner: str) -> Attribute:
    kind = "IP4" if port.address else "ETHER"
    return vector("AR", TYPE=kind, IP=port.address, MAC=port.mac, SIZE=1, comment=owner)
