"""The cluster while it runs: its guests, who has joined, and what Grid Engine says of them."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path

from imagebuilder.host.accelerator import Accelerator
from imagebuilder.image.store import Image
from imagebuilder.operate.grid import QueueInstance
from imagebuilder.plan.check import Instance
from imagebuilder.rehearse.guest import Guest, Start
from imagebuilder.rehearse.networks import Networks
from imagebuilder.rehearse.qmp import GuestError
from imagebuilder.rehearse.queue import queue_command, queue_instances
from imagebuilder.rehearse.record import Record, Trial, Watcher
from imagebuilder.rehearse.topology import GuestPlan, Topology
from imagebuilder.site import Site

# From switching on to having joined: emulated guests that boot beside each other need two or three minutes.
JOIN_LIMIT_S = 600


@dataclass(kw_only=True)
class RunningCluster:
    """All that the checks of a rehearsal work with; `now` is when it began, by the calendar."""

    site: Site
    topology: Topology
    images: Mapping[str, Image]
    """The image of each machine, by the machine's name."""
    networks: Networks
    directory: Path
    log: Path
    accelerator: Accelerator
    record: Record
    watcher: Watcher
    now: datetime
    guests: list[Guest] = field(default_factory=list)
    """Every guest that was started, also one that has gone."""
    instances: dict[str, Instance] = field(default_factory=dict)
    """What each guest is in the cluster, by its label, once it has joined."""
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    queue: str = ""
    """What `qstat -f` printed while a job ran on each machine."""

    async def start(self, plan: GuestPlan) -> Guest:
        """Switch a guest on."""
        start = Start(
            plan=plan,
            number=self.topology.guests.index(plan),
            image=self.images[plan.machine.name],
            directory=self.directory,
            networks=self.networks,
            accelerator=self.accelerator,
            log=self.log,
        )
        self.watcher.guest(plan.label, "boots")
        guest = await Guest.start(start)
        self.guests.append(guest)
        self.stack.push_async_callback(guest.close)
        return guest

    async def start_all(self, plans: Iterable[GuestPlan]) -> None:
        """Switch guests on together."""
        await asyncio.gather(*(self.start(plan) for plan in plans))

    def guest(self, label: str) -> Guest:
        """The guest with this label. Raises GuestError if it was not started."""
        for guest in self.guests:
            if guest.plan.label == label:
                return guest
        raise GuestError("it was not started", where=label)

    def has_joined(self, plan: GuestPlan) -> bool:
        """Whether the guest is a part of the cluster."""
        return plan.label in self.instances

    @property
    def server(self) -> Guest:
        """The server's guest."""
        return self.guest(self.site.cluster.server.name)

    async def join(self, trial: Trial, guest: Guest) -> Instance:
        """Wait until the guest knows who it is in the cluster; a worker until the VPN has given it an address.

        Raises CheckFailure if it does not join.
        """
        if guest.plan.machine.host is not None:
            instance = guest.plan.instance
        else:
            tap = self.site.cluster.recipe.vpn.device
            command = ("ip", "-4", "-br", "addr", "show", "dev", tap)
            ran = await trial.until(
                guest,
                *command,
                so=lambda ran: ran.code == 0 and "/" in ran.output,
                within_s=JOIN_LIMIT_S,
                what=f"{tap} has no address",
            )
            address = IPv4Address(ran.output.split()[2].partition("/")[0])
            names = {given: name for name, given in self.site.cluster.workers.items()}
            instance = Instance(name=names.get(address, str(address)), address=address)
        if self.instances.get(guest.plan.label) != instance:
            self.instances[guest.plan.label] = instance
            guest.name, guest.address = instance.name, instance.address
            self.watcher.guest(guest.plan.label, f"is {instance.name}, {instance.address}")
        return instance

    def leave(self, guest: Guest) -> None:
        """Note that the guest is no part of the cluster any more."""
        del self.instances[guest.plan.label]
        self.watcher.guest(guest.plan.label, "is gone")

    @property
    def execution_hosts(self) -> dict[str, Guest]:
        """The guests that have joined and run jobs, by their names in the cluster."""
        return {
            self.instances[guest.plan.label].name: guest
            for guest in self.guests
            if self.has_joined(guest.plan) and "gridengine_execd" in self.site.roles[guest.plan.machine.role].edits
        }

    async def wait_for_queue(self, trial: Trial, hosts: Collection[str], within_s: float) -> str:
        """What `qstat -f` prints once the queue has a well instance on just these hosts. Raises CheckFailure."""
        names = ", ".join(sorted(hosts))
        ran = await trial.until(
            self.server,
            *queue_command(),
            so=lambda ran: is_well_on(queue_instances(ran.output), hosts),
            within_s=within_s,
            what=f"the queue is not well on {names} and on no other host",
        )
        return ran.output


def is_well_on(instances: Iterable[QueueInstance], hosts: Collection[str]) -> bool:
    """Whether the instances are those of `hosts`, and each takes jobs."""
    found = list(instances)
    return sorted(one.host for one in found) == sorted(hosts) and all(one.is_well for one in found)
