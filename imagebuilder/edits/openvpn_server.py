"""The server's end of the VPN."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import WriteFile
from imagebuilder.plan.check import Check, Instance, Matches
from imagebuilder.recipe.cluster import pool_bounds
from imagebuilder.recipe.source import Keys

_DIRECTORY = PurePosixPath("/etc/openvpn/server")


class OpenvpnServer(Edit):
    """Runs OpenVPN on the public address, bridged into the private network by its tap device.

    All workers come from one image and share its certificate (`duplicate-cn`); each gets an address of the pool.
    A client with a revoked certificate, or without the tls-crypt key, is refused.
    """

    overlay: ClassVar[str] = "openvpn-server"
    packages: ClassVar[tuple[str, ...]] = ("openvpn", "bridge-utils")
    services: ClassVar[tuple[str, ...]] = ("openvpn-server@cluster.service",)
    unwanted_services: ClassVar[tuple[str, ...]] = ("openvpn.service",)

    def variables(self, machine: Machine) -> Mapping[str, object]:
        cluster = machine.cluster
        first, last = pool_bounds(cluster.recipe)
        return {
            "public_address": cluster.server.addresses["public"],
            "private_address": cluster.server.addresses["private"],
            "netmask": cluster.private.subnet.netmask,
            "first": first,
            "last": last,
            "count": len(cluster.workers),
            "vpn": cluster.recipe.vpn,
        }

    def faults(self, machine: Machine) -> Iterator[tuple[Keys, str, str]]:
        if machine.bridge is None:
            what = "the machine has no bridge by which the VPN could reach the private network"
            yield (), what, "add `bridge: br0` to its interface on the private network"

    def intents(self, machine: Machine) -> Iterator[WriteFile]:
        if machine.credentials is not None:
            yield from machine.credentials.files(_DIRECTORY, "server")
            yield WriteFile(path=_DIRECTORY / "crl.pem", content=machine.credentials.crl.encode())

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        vpn = machine.cluster.recipe.vpn
        address = re.escape(str(machine.cluster.server.addresses["public"]))
        yield Check(
            name="listens",
            proves="OpenVPN listens on the public address, and nothing listens on its port elsewhere",
            command=("ss", "-H", "-l", "-n", "-u", "-p", "sport", "=", f":{vpn.port}"),
            expects=Matches(patterns=(rf'\AUNCONN\s+\d+\s+\d+\s+{address}:{vpn.port}\s.*\(\("openvpn",.*\n\Z',)),
        )
        yield Check(
            name="tap",
            proves="OpenVPN holds the tap device, and the bridge has it",
            command=("ip", "-br", "link", "show", "master", str(machine.bridge)),
            expects=Matches(patterns=(rf"^{re.escape(vpn.device)}\s.*\bLOWER_UP\b",)),
        )
