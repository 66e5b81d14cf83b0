"""What an xl configuration is checked against: the cluster, and the files of this machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from imagebuilder.site import Site
from imagebuilder.xen.domain import domain_uuid, network_interfaces

Look = Callable[[Path], "FileFacts"]


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What stands at a path. `format` is None where it cannot be told: a device, or a file that is not there."""

    state: Literal["there", "absent", "unreadable", "directory"]
    format: str | None = None
    missing_backing_files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The bridges are None, and the owners empty, where there is no description of a cluster."""

    look: Look
    is_dom0: bool
    bridges: frozenset[str] | None = None
    macs: Mapping[str, str] = field(default_factory=dict)
    """The name of the machine that has each MAC address."""
    uuids: Mapping[str, str] = field(default_factory=dict)
    """The name of the machine that has each UUID."""


def surroundings_in(site: Site, *, look: Look, is_dom0: bool) -> Surroundings:
    """The surroundings of the guests of a cluster: its bridges, and who has which address."""
    guests = [machine for machine in site.machines() if site.roles[machine.role].recipe.xen is not None]
    return Surroundings(
        look=look,
        is_dom0=is_dom0,
        bridges=frozenset(network.bridge for network in site.cluster.recipe.networks.values()),
        macs={
            interface.mac: machine.name
            for machine in guests
            for interface in network_interfaces(machine, site.roles[machine.role].interfaces)
        },
        uuids={str(domain_uuid(machine)): machine.name for machine in guests},
    )
