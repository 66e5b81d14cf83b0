"""The network interfaces."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.recipe.cluster import InterfaceName
from imagebuilder.recipe.model import Strict
from imagebuilder.recipe.source import Keys


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
