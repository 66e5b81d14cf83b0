"""The names of all machines."""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.check import Check, Instance, has_rows
from imagebuilder.recipe.cluster import Cluster


class Hosts(Edit):
    """Writes /etc/hosts with every host and every reserved worker name, the same on all machines.

    Grid Engine wants each address to lead back to the name that it was looked up by: so an address has exactly
    one name, and no machine calls itself 127.0.1.1. The server's public address has the name `SERVER-public`.
    """

    overlay: ClassVar[str] = "hosts"

    def variables(self, machine: Machine) -> Mapping[str, object]:
        cluster = machine.cluster
        rows = [(host.addresses["private"], host.name) for host in cluster.hosts]
        rows += [
            (host.addresses["public"], f"{host.name}-public") for host in cluster.hosts if "public" in host.addresses
        ]
        return {"hosts": sorted(rows), "workers": [(address, name) for name, address in cluster.workers.items()]}

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        known = names_to_try(machine.cluster)
        yield Check(
            name="names",
            proves="the names of the hosts, and of the first and the last worker, lead to their addresses",
            # Not `getent hosts`: that asks for an IPv6 address first, and so a name server that may not answer.
            command=("getent", "ahostsv4", *(name for _, name in known)),
            expects=has_rows((address, "STREAM", name) for address, name in known),
        )
        yield Check(
            name="addresses",
            proves="their addresses lead back to these names and no others",
            command=("getent", "hosts", *(str(address) for address, _ in known)),
            expects=has_rows(known),
        )


def names_to_try(cluster: Cluster) -> list[tuple[IPv4Address, str]]:
    """Addresses on the private network with their names: all hosts, the first and the last of the workers."""
    workers = [(address, name) for name, address in cluster.workers.items()]
    return [*((host.addresses["private"], host.name) for host in cluster.hosts), *workers[:1], *workers[1:][-1:]]
