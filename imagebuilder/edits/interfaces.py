"""The network interfaces."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import ClassVar, Literal

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import WriteFile
from imagebuilder.plan.check import Check, Instance, Matches
from imagebuilder.recipe.cluster import InterfaceName
from imagebuilder.recipe.mac_address import mac_address
from imagebuilder.recipe.model import Strict
from imagebuilder.recipe.source import Keys

# Only cards: a bridge has the MAC address of its first port.
_LINK = """\
# The name of this card, whatever the kernel or udev would call it: enX0 under Xen, ens3 elsewhere; systemd.link(5)
[Match]
MACAddress={mac}
Type=ether

[Link]
Name={name}
"""


class Device(Strict):
    """One network interface."""

    network: Literal["private", "public"]
    """The network of the cluster description that it is on."""
    method: Literal["static", "dhcp"] = "static"
    """`static` takes the host's address from the cluster description, `dhcp` asks the network."""
    bridge: InterfaceName | None = None
    """A bridge of the interface and the VPN's tap device, which then has the address; for the server."""


class Interfaces(Edit):
    """Writes /etc/network/interfaces (ifupdown), and the systemd target that says the private network is there.

    Whatever needs the private network comes after `imgbuild-private.target`, on every kind of machine.

    The interfaces of a host have their names by MAC address (systemd.link(5)), those that `imgbuild xen` gives it:
    so eth0 is eth0 also on a base of one's own whose kernel options leave the names to udev, which under Xen calls
    it enX0. With other MAC addresses names come about as they would have anyway.
    """

    overlay: ClassVar[str] = "interfaces"
    packages: ClassVar[tuple[str, ...]] = ("ifupdown", "iproute2")
    services: ClassVar[tuple[str, ...]] = ("networking.service",)

    devices: dict[InterfaceName, Device]
    """The interfaces by name; eth0 is the first that the machine has."""

    def variables(self, machine: Machine) -> Mapping[str, object]:
        return {
            "devices": [self._row(name, machine) for name in sorted(self.devices)],
            "tap": machine.cluster.recipe.vpn.device,
        }

    def intents(self, machine: Machine) -> Iterator[WriteFile]:
        if machine.host is None:  # many machines, whose MAC addresses nobody knows
            return
        for name in sorted(self.devices):
            mac = mac_address(machine.cluster.recipe.name, machine.name, name)
            yield WriteFile(
                path=PurePosixPath(f"/etc/systemd/network/10-imgbuild-{name}.link"),
                content=_LINK.format(mac=mac, name=name).encode(),
            )

    def _row(self, name: str, machine: Machine) -> dict[str, object]:
        device = self.devices[name]
        network = machine.cluster.recipe.networks[device.network]
        address = machine.host.addresses.get(device.network) if machine.host else None
        return {
            "name": name,
            "network": device.network,
            "method": device.method,
            "bridge": device.bridge,
            "address": f"{address}/{network.subnet.prefixlen}",
            "gateway": network.gateway,
        }

    def faults(self, machine: Machine) -> Iterator[tuple[Keys, str, str]]:
        first_on: dict[str, str] = {}
        for name, device in self.devices.items():
            if device.method == "static" and (machine.host is None or device.network not in machine.host.addresses):
                what = f"'{machine.name}' has no address on the {device.network} network for {name}"
                yield ("devices", name, "network"), what, "give the host one in cluster.yaml, or use `method: dhcp`"
            other = first_on.setdefault(device.network, name)
            if other != name:
                what = f"{name} is on the {device.network} network, on which {other} is already"
                yield ("devices", name, "network"), what, "give each interface a network of its own"
            if device.bridge is not None and (device.network != "private" or device.method != "static"):
                what = f"{device.bridge} would join the VPN to {name}, which has no static private address"
                yield ("devices", name, "bridge"), what, "remove `bridge`"

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        rows = [self._row(name, machine) for name in sorted(self.devices)]
        yield Check(
            name="addresses",
            proves="each interface is up and has its address",
            command=("ip", "-4", "-br", "addr", "show", "scope", "global"),
            expects=Matches(patterns=tuple(map(_has_address, rows))),
        )
        for row in rows:
            if row["bridge"]:
                tap = machine.cluster.recipe.vpn.device
                yield Check(
                    name="bridge",
                    proves=f"{row['bridge']} joins {row['name']} and the VPN's tap device",
                    command=("ip", "-br", "link", "show", "master", str(row["bridge"])),
                    expects=Matches(patterns=(rf"^{re.escape(str(row['name']))}\s+UP\s", rf"^{re.escape(tap)}\s")),
                )
            if row["gateway"] and row["method"] == "static":
                yield Check(
                    name=f"gateway-of-{row['network']}",
                    proves=f"what is on no network of the machine goes by the router of the {row['network']} network",
                    command=("ip", "-4", "route", "show", "default"),
                    expects=Matches(
                        patterns=(rf"^default via {re.escape(str(row['gateway']))} dev {re.escape(_holder(row))}\s",)
                    ),
                )

    @property
    def bridge(self) -> str | None:
        """The bridge that joins the private network and the VPN."""
        return next((device.bridge for device in self.devices.values() if device.bridge), None)

    def device_on(self, network: str) -> str | None:
        """The interface with the machine's address on `network`."""
        for name in sorted(self.devices):
            if self.devices[name].network == network:
                return self.devices[name].bridge or name
        return None


def _holder(row: Mapping[str, object]) -> str:
    """The device that has the address: the bridge, where there is one."""
    return str(row["bridge"] or row["name"])


def _has_address(row: Mapping[str, object]) -> str:
    address = r"[0-9.]+/[0-9]+" if row["method"] == "dhcp" else re.escape(str(row["address"]))
    return rf"^{re.escape(_holder(row))}\s+UP\s(.*\s)?{address}\s"
