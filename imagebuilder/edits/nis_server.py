"""The NIS master."""

from collections.abc import Mapping
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine


class NisServer(Edit):
    """Serves users, groups and hosts by NIS to the private network only.

    The maps are made from the server's own files at each boot. /etc/ypserv.securenets lets in nobody but the
    private network and the server itself.
    """

    overlay: ClassVar[str] = "nis-server"
    packages: ClassVar[tuple[str, ...]] = ("ypserv", "yp-tools", "rpcbind", "make")
    services: ClassVar[tuple[str, ...]] = ("rpcbind.service", "ypserv.service", "imgbuild-nis-maps.service")
    unwanted_services: ClassVar[tuple[str, ...]] = ("yppasswdd.service", "ypxfrd.service")

    def variables(self, machine: Machine) -> Mapping[str, object]:
        cluster = machine.cluster
        return {
            "domain": cluster.recipe.nis.domain,
            "server": cluster.server.name,
            "subnet": cluster.private.subnet.network_address,
            "netmask": cluster.private.subnet.netmask,
        }
