"""What there is of a cluster, beside what its description says there should be. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from typing import Literal

from imagebuilder.operate.grid import Job, QueueInstance
from imagebuilder.operate.reading import Reading, Worker

Kind = Literal["host", "worker", "other"]
Presence = Literal["in the queue", "joining", "absent", "not on the VPN"]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the recipes say of the cluster."""

    cluster: str
    server: str
    hosts: tuple[str, ...]
    """The hosts with names of their own that run jobs."""
    workers: Mapping[str, IPv4Address]
    """The names that are reserved for workers, in order, and their addresses on the VPN."""


@dataclass(frozen=True, kw_only=True)
class HostStatus:
    """One machine: what the queue has of it, and what the VPN."""

    name: str
    kind: Kind
    """`host` by its own name in the description, `worker` by a reserved one, `other` in the queue without either."""
    instances: tuple[QueueInstance, ...] = ()
    """The queues on it; none for a host that Grid Engine does not have."""
    worker: Worker | None = None
    vpn_address: IPv4Address | None = None
    """Of a worker: the address that goes with its name."""

    @property
    def is_on_vpn(self) -> bool:
        """Whether it is a worker that is connected."""
        return self.worker is not None and self.worker.is_connected

    @property
    def presence(self) -> Presence:
        """Whether the queue has it, and the VPN: a worker joins the VPN first, and leaves it first."""
        if not self.instances:
            return "joining" if self.is_on_vpn else "absent"
        return "not on the VPN" if self.kind == "worker" and not self.is_on_vpn else "in the queue"

    def state_of(self, instance: QueueInstance) -> str:
        """The state of one of its queue instances, in words."""
        if self.presence == "in the queue":
            return instance.state
        return f"{self.presence} ({instance.states})" if instance.states else self.presence

    def is_well_on(self, instance: QueueInstance) -> bool:
        """Whether one of its queue instances takes jobs."""
        return instance.is_well and self.presence == "in the queue"

    @property
    def is_well(self) -> bool:
        """Whether all its queue instances take jobs. A worker that is joining is well: that takes a while."""
        return self.presence != "absent" and all(map(self.is_well_on, self.instances))


@dataclass(frozen=True, kw_only=True)
class ClusterStatus:
    """A cluster at one moment."""

    cluster: str
    server: str
    time: datetime
    """The server's local time."""
    hosts: tuple[HostStatus, ...]
    """In the order of the description: hosts, workers, and then others by name."""
    pending: tuple[Job, ...]

    @property
    def is_well(self) -> bool:
        """Whether every host that should be there is, and every queue instance takes jobs."""
        return all(host.is_well for host in self.hosts)

    @property
    def instances(self) -> tuple[QueueInstance, ...]:
        """All queue instances."""
        return tuple(instance for host in self.hosts for instance in host.instances)

    @property
    def running(self) -> int:
        """How many jobs, or tasks, have been given to a host; one that runs on several counts once."""
        return len({job.label for instance in self.instances for job in instance.jobs})


def compare(expected: Expected, reading: Reading) -> ClusterStatus:
    """What was read, host by host, with the hosts that are missing."""
    return ClusterStatus(
        cluster=expected.cluster,
        server=expected.server,
        time=reading.time,
        hosts=tuple(_hosts(expected, reading)),
        pending=reading.grid.pending,
    )


def _hosts(expected: Expected, reading: Reading) -> Iterator[HostStatus]:
    found: dict[str, list[QueueInstance]] = {}
    for instance in reading.grid.instances:
        found.setdefault(instance.host, []).append(instance)
    for name in expected.hosts:
        yield HostStatus(name=name, kind="host", instances=tuple(found.pop(name, ())))
    for name, address in expected.workers.items():
        worker, instances = reading.workers.get(name), tuple(found.pop(name, ()))
        if instances or (worker is not None and worker.is_connected):
            yield HostStatus(name=name, kind="worker", instances=instances, worker=worker, vpn_address=address)
    for name in sorted(found):
        yield HostStatus(name=name, kind="other", instances=tuple(found[name]))


def to_json(status: ClusterStatus) -> dict[str, object]:
    """The status as plain values: the stable contract of `imgbuild cluster status --json` (docs/status.md)."""
    return {
        "cluster": status.cluster,
        "server": status.server,
        "time": status.time.isoformat(),
        "well": status.is_well,
        "hosts": [_host_json(host) for host in status.hosts],
        "pending": [_job_json(job) for job in status.pending],
    }


def _host_json(host: HostStatus) -> dict[str, object]:
    return {
        "name": host.name,
        "kind": host.kind,
        "well": host.is_well,
        "presence": host.presence,
        "vpn": None if host.kind != "worker" else _vpn_json(host),
        "queues": [_instance_json(host, instance) for instance in host.instances],
    }


def _vpn_json(host: HostStatus) -> dict[str, object]:
    worker = host.worker
    public_address = worker.public_address if worker else None
    return {
        "connected": host.is_on_vpn,
        "address": str(host.vpn_address),
        "public_address": str(public_address) if public_address else None,
        "instance_id": worker.instance_id if worker else None,
    }


def _instance_json(host: HostStatus, instance: QueueInstance) -> dict[str, object]:
    return {
        "queue": instance.queue,
        "slots_used": instance.used,
        "slots_total": instance.total,
        "load": instance.load,
        "states": instance.states,
        "state": host.state_of(instance),
        "well": host.is_well_on(instance),
        "jobs": [_job_json(job) for job in instance.jobs],
    }


def _job_json(job: Job) -> dict[str, object]:
    return {
        "id": job.number,
        "tasks": job.tasks or None,
        "name": job.name,
        "owner": job.owner,
        "state": job.state,
        "slots": job.slots,
        "since": job.since or None,
    }
