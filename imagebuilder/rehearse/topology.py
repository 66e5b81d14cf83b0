"""Who is on which network in a rehearsal: the guests with their interfaces, and the stranger outside. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from imagebuilder.edits.edit import Machine
from imagebuilder.errors import UsageError
from imagebuilder.plan.check import Instance
from imagebuilder.recipe.mac_address import mac_address
from imagebuilder.rehearse.outcome import Attachment
from imagebuilder.site import Site

# An instance of EC2's t3.small has 2 GiB, but what a worker needs to join is a fraction of that.
_WORKER_MEMORY_MIB = 1024


@dataclass(frozen=True, kw_only=True)
class GuestPlan:
    """One guest to start: a host of the cluster, or the copy number `copy` of the workers' image."""

    label: str
    """What it is called before it has a name: `local01`, `worker-1`."""
    machine: Machine
    attachments: tuple[Attachment, ...]
    memory_mib: int

    @property
    def instance(self) -> Instance:
        """How the guest knows itself while it is alone."""
        host = self.machine.host
        return Instance(name=self.machine.name, address=host.addresses["private"] if host else None)


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The address on the public network that a guest gets if it asks for one."""

    mac: str
    address: IPv4Address


@dataclass(frozen=True, kw_only=True)
class Topology:
    """All guests of a rehearsal, hosts before workers, and what the public network has beside them."""

    private: IPv4Network
    public: IPv4Network
    hosts: tuple[GuestPlan, ...]
    workers: tuple[GuestPlan, ...]
    stranger: IPv4Address
    """The namespace's own address on the public network: a machine that has no business with the cluster."""
    leases: tuple[Lease, ...]

    @property
    def guests(self) -> tuple[GuestPlan, ...]:
        """Every guest."""
        return (*self.hosts, *self.workers)

    def with_lease(self, attachment: Attachment) -> Attachment:
        """The attachment with the address that its guest has or will be given."""
        given = {lease.mac: str(lease.address) for lease in self.leases}
        return replace(attachment, address=attachment.address or given.get(attachment.mac))

    def public_address(self, guest: GuestPlan) -> str | None:
        """The guest's address on the public network, its own or the one that it will be given."""
        return next((self.with_lease(one).address for one in guest.attachments if one.network == "public"), None)


def make_topology(site: Site, hosts: Sequence[Machine], workers: int) -> Topology:
    """The guests for `hosts` and for that many copies of the workers' image.

    Raises UsageError if the public network has no free address for each of them.
    """
    cluster = site.cluster
    shared = [machine for machine in site.machines() if machine.host is None]
    plans = [_plan(site, machine, machine.name) for machine in hosts]
    copies = [_plan(site, machine, f"{machine.name}-{n}") for machine in shared for n in range(1, workers + 1)]
    free = _free_addresses(site)
    stranger = cluster.public.gateway or next(free, None)
    asking = [one.mac for plan in (*plans, *copies) for one in plan.attachments if one.address is None]
    leases = tuple(Lease(mac=mac, address=address) for mac, address in zip(asking, free, strict=False))
    if stranger is None or len(leases) < len(asking):
        what = f"the public network {cluster.public.subnet} has no free address for {len(asking)} workers"
        raise UsageError(what, fix="rehearse fewer with --workers, or widen networks.public.subnet in cluster.yaml")
    return Topology(
        private=cluster.private.subnet,
        public=cluster.public.subnet,
        hosts=tuple(plans),
        workers=tuple(copies),
        stranger=stranger,
        leases=leases,
    )


def _plan(site: Site, machine: Machine, label: str) -> GuestPlan:
    role = site.roles[machine.role]
    devices = role.interfaces.devices if role.interfaces else {}
    addresses = machine.host.addresses if machine.host else {}
    attachments = tuple(
        Attachment(
            device=name,
            network=device.network,
            mac=mac_address(site.cluster.recipe.name, label, name),
            address=str(addresses[device.network]) if device.method == "static" else None,
        )
        for name, device in sorted(devices.items())
    )
    memory = role.recipe.xen.memory_mib if role.recipe.xen else _WORKER_MEMORY_MIB
    return GuestPlan(label=label, machine=machine, attachments=attachments, memory_mib=memory)


def _free_addresses(site: Site) -> Iterator[IPv4Address]:
    """The addresses of the public network that nobody has, the last first: the first ones are often taken."""
    cluster = site.cluster
    taken = {host.addresses.get("public") for host in cluster.hosts} | {cluster.public.gateway}
    subnet = cluster.public.subnet
    for number in range(int(subnet.broadcast_address) - 1, int(subnet.network_address), -1):
        if (address := IPv4Address(number)) not in taken:
            yield address
