"""The names of all machines."""

from collections.abc import Mapping
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine


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
