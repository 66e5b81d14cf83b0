"""What answers on the public side."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.check import Check, Instance, Prints

_NOT_ROUTING = {
    "net.ipv4.ip_forward": 0,
    "net.ipv6.conf.all.forwarding": 0,
    "net.ipv4.conf.all.rp_filter": 1,
    "net.ipv4.conf.default.rp_filter": 1,
}


@dataclass(frozen=True, kw_only=True)
class OpenPorts:
    """The ports of a machine that answer on the public side; the ranges ascend and do not touch each other."""

    udp: tuple[range, ...] = ()
    tcp: tuple[range, ...] = ()


class Firewall(Edit):
    """Writes /etc/nftables.conf: on the public side nothing answers but what the cluster description lists.

    The server answers OpenVPN and `firewall.server_ports`; a worker `ec2.authorized_ports`; any other host
    nothing. No machine routes packets between its networks.
    """

    overlay: ClassVar[str] = "firewall"
    packages: ClassVar[tuple[str, ...]] = ("nftables",)
    services: ClassVar[tuple[str, ...]] = ("nftables.service",)

    def open_ports(self, machine: Machine) -> OpenPorts:
        """What answers on the machine's public side beside ping."""
        recipe = machine.cluster.recipe
        if machine.host is None:
            return OpenPorts(tcp=_ranges([recipe.ec2.authorized_ports]))
        if machine.host.name == recipe.server:
            return OpenPorts(udp=_ranges([str(recipe.vpn.port)]), tcp=_ranges(recipe.firewall.server_ports))
        return OpenPorts()

    def variables(self, machine: Machine) -> Mapping[str, object]:
        ports = self.open_ports(machine)
        return {
            "public_device": machine.public_device,
            "private_subnet": machine.cluster.private.subnet,
            "udp_ports": list(map(_as_text, ports.udp)),
            "tcp_ports": list(map(_as_text, ports.tcp)),
        }

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        yield Check(
            name="rules",
            proves="the kernel has just these rules: what may come in on the public side, and nothing is passed on",
            command=("nft", "--stateless", "list", "table", "inet", "cluster"),
            expects=Prints(text="\n".join(_table(machine, self.open_ports(machine)))),
        )
        yield Check(
            name="no-routing",
            proves="the machine does not route, and drops what comes with a forged source",
            command=("sysctl", *_NOT_ROUTING),
            expects=Prints(text="\n".join(f"{name} = {value}" for name, value in _NOT_ROUTING.items())),
        )


def _ranges(ports: Iterable[str]) -> tuple[range, ...]:
    """The ports in order, those that overlap or touch as one range, which is how nft(8) lists them."""
    merged: list[range] = []
    for first, last in sorted((int(part[0]), int(part[-1])) for part in (text.split("-") for text in ports)):
        if merged and first <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, last + 1))
        else:
            merged.append(range(first, last + 1))
    return tuple(merged)


def _as_text(ports: range) -> str:
    return str(ports[0]) if len(ports) == 1 else f"{ports[0]}-{ports[-1]}"


def _table(machine: Machine, ports: OpenPorts) -> Iterator[str]:
    """The rules in overlays/firewall as nft(8) lists them."""
    policy = "drop" if machine.public_device else "accept"
    yield "table inet cluster {"
    yield "\tchain input {"
    yield f"\t\ttype filter hook input priority filter; policy {policy};"
    if machine.public_device:
        yield f'\t\tiifname != "{machine.public_device}" accept'
        yield f"\t\tip daddr {machine.cluster.private.subnet} drop"
        yield "\t\tct state established,related accept"
        yield "\t\tct state invalid drop"
        yield "\t\tmeta l4proto { icmp, ipv6-icmp } accept"
        for protocol, open_ports in (("udp", ports.udp), ("tcp", ports.tcp)):
            texts = [_as_text(each) for each in open_ports]
            if texts:
                listed = texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}"
                yield f"\t\t{protocol} dport {listed} accept"
    yield "\t}"
    yield ""
    yield "\tchain forward {"
    yield "\t\ttype filter hook forward priority filter; policy drop;"
    yield "\t}"
    yield "}"
