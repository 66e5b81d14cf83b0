"""A worker's end of the VPN."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import WriteFile

_DIRECTORY = PurePosixPath("/etc/openvpn/client")


class OpenvpnClient(Edit):
    """Joins the VPN at boot, as often as it takes; then takes the host name that its address has in /etc/hosts.

    `imgbuild-private.target`, and with it NIS, NFS and Grid Engine, waits for both.
    """

    overlay: ClassVar[str] = "openvpn-client"
    packages: ClassVar[tuple[str, ...]] = ("openvpn",)
    services: ClassVar[tuple[str, ...]] = ("openvpn-client@cluster.service",)
    unwanted_services: ClassVar[tuple[str, ...]] = ("openvpn.service",)

    def variables(self, machine: Machine) -> Mapping[str, object]:
        cluster = machine.cluster
        return {
            "server_address": cluster.server.addresses["public"],
            "server": cluster.server.name,
            "vpn": cluster.recipe.vpn,
        }

    def intents(self, machine: Machine) -> Iterator[WriteFile]:
        if machine.credentials is not None:
            yield from machine.credentials.files(_DIRECTORY, "client")
