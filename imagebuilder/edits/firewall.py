"""What answers on the public side."""

from collections.abc import Mapping
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine


class Firewall(Edit):
    """Writes /etc/nftables.conf: on the public side nothing answers but what the cluster description lists.

    The server answers OpenVPN and `firewall.server_ports`; a worker `ec2.authorized_ports`; any other host
    nothing. No machine routes packets between its networks.
    """

    overlay: ClassVar[str] = "firewall"
    packages: ClassVar[tuple[str, ...]] = ("nftables",)
    services: ClassVar[tuple[str, ...]] = ("nftables.service",)

    def variables(self, machine: Machine) -> Mapping[str, object]:
        recipe = machine.cluster.recipe
        udp_ports: list[int] = []
        tcp_ports: list[str] = []
        if machine.host is None:
            tcp_ports = [recipe.ec2.authorized_ports]
        elif machine.host.name == recipe.server:
            udp_ports, tcp_ports = [recipe.vpn.port], list(recipe.firewall.server_ports)
        return {
            "public_device": machine.public_device,
            "private_subnet": machine.cluster.private.subnet,
            "udp_ports": udp_ports,
            "tcp_ports": tcp_ports,
        }
