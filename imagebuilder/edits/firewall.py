"""What answers on the public side."""

from collections.abc import Mapping
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine


class Firewall(Edit):
    """Writes /etc/nftables.conf: on the public side nothing answers but what the cluster description lists.

    The server answers OpenVPN and `firewall.server_ports`; a worker `ec2.authorized_ports`. No machine routes
    packets between its networks.
    """

    overlay: ClassVar[str] = "firewall"
    packages: ClassVar[tuple[str, ...]] = ("nftables",)
    services: ClassVar[tuple[str, ...]] = ("nftables.service",)

    def variables(self, machine: Machine) -> Mapping[str, object]:
        recipe = machine.cluster.recipe
        is_server = machine.host is not None and machine.host.name == recipe.server
        return {
            "public_device": machine.public_device,
            "private_subnet": machine.cluster.private.subnet,
            "udp_ports": [recipe.vpn.port] if is_server else [],
            "tcp_ports": list(recipe.firewall.server_ports) if is_server else [recipe.ec2.authorized_ports],
        }
