"""A worker's end of the VPN."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import WriteFile
from imagebuilder.plan.check import Check, Instance, Matches, Prints

_DIRECTORY = PurePosixPath("/etc/openvpn/client")
# Behind any route of a device: the kernel gives those 0, a DHCP client up to some hundreds.
_UNREACHABLE_METRIC = 4096


class OpenvpnClient(Edit):
    """Joins the VPN at boot, as often as it takes; then takes the host name that its address has in /etc/hosts.

    `imgbuild-private.target`, and with it NIS, NFS and Grid Engine, waits for both. While there is no VPN, the private
    network cannot be reached, and nothing for it goes another way.
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
            "private_subnet": cluster.private.subnet,
            "unreachable_metric": _UNREACHABLE_METRIC,
        }

    def intents(self, machine: Machine) -> Iterator[WriteFile]:
        if machine.credentials is not None:
            yield from machine.credentials.files(_DIRECTORY, "client")

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        private = machine.cluster.private.subnet
        yield Check(
            name="no-other-way",
            proves="without the VPN nothing for the private network leaves the machine",
            command=("ip", "-4", "route", "show", "type", "unreachable"),
            expects=Matches(patterns=(rf"^unreachable {re.escape(str(private))} metric {_UNREACHABLE_METRIC}\s*$",)),
        )
        if instance.address is None:
            return
        device = machine.cluster.recipe.vpn.device
        server = machine.cluster.server.addresses["private"]
        units = ("imgbuild-join.service", "imgbuild-private.target")
        yield Check(
            name="joined",
            proves="the machine has joined the VPN, and what needs the private network was let go on",
            command=("systemctl", "is-active", *units),
            expects=Prints(text="\n".join("active" for _ in units)),
            needs="cluster",
        )
        yield Check(
            name="address",
            proves="the tap device has the address that the VPN gave",
            command=("ip", "-4", "-br", "addr", "show", "dev", device),
            expects=Matches(
                patterns=(
                    rf"^{re.escape(device)}\s+(UP|UNKNOWN)\s+{re.escape(f'{instance.address}/{private.prefixlen}')}\s",
                )
            ),
            needs="cluster",
        )
        yield Check(
            name="route",
            proves="the way to the server's private address is the VPN",
            command=("ip", "-4", "route", "get", str(server)),
            expects=Matches(
                patterns=(
                    rf"^{re.escape(str(server))} dev {re.escape(device)} src {re.escape(str(instance.address))}\s",
                )
            ),
            needs="cluster",
        )
        yield Check(
            name="name",
            proves="the machine has the name that is reserved for its address",
            command=("hostname",),
            expects=Prints(text=instance.name),
            needs="cluster",
        )
