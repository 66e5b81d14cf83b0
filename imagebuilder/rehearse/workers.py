"""Workers that come and go: any number of them from one image, and the next in the place of one that is gone."""

from collections.abc import Mapping, Sequence

from imagebuilder.rehearse.queue import queue_command, queue_instances
from imagebuilder.rehearse.record import Trial, require
from imagebuilder.rehearse.running import JOIN_LIMIT_S, RunningCluster
from imagebuilder.rehearse.topology import GuestPlan

FIRST = {"workers.first": "The first worker joins by itself and takes the first name and address of the pool."}
PROVES = {
    "workers.more": "Further workers from the very same image take the next names and addresses, and join the queue.",
    "workers.lost": "When a worker vanishes, the queue shows it.",
    "workers.replaced": "A new worker takes the place of the one that is gone, with its name and address.",
}

# OpenVPN's server notices after a minute (keepalive), Grid Engine likewise (max_unheard).
_LOSS_LIMIT_S = 300


async def prove_first(cluster: RunningCluster, plan: GuestPlan) -> None:
    """Wait for the first worker."""
    async with cluster.record.check("workers.first") as trial:
        await _join(cluster, trial, [plan], first=0)


async def prove_more(cluster: RunningCluster, plans: Sequence[GuestPlan]) -> None:
    """Wait for further workers, which are booting."""
    async with cluster.record.check("workers.more") as trial:
        await _join(cluster, trial, plans, first=1)
        await cluster.wait_for_queue(trial, cluster.execution_hosts, JOIN_LIMIT_S)


async def _join(cluster: RunningCluster, trial: Trial, plans: Sequence[GuestPlan], first: int) -> None:
    """Wait for workers, which must get the names of the pool from number `first` on."""
    found = {}
    for plan in plans:
        guest = cluster.guest(plan.label)
        instance = await cluster.join(trial, guest)
        await trial.until(
            guest,
            "hostname",
            so=lambda ran, name=instance.name: ran.output.strip() == name,  # type: ignore[misc]
            within_s=JOIN_LIMIT_S,
            what=f"its host name is not {instance.name}",
        )
        found[instance.name] = instance.address
    expected = dict(list(cluster.site.cluster.workers.items())[first : first + len(plans)])
    require(found == expected, f"is {_listed(found)}, not {_listed(expected)}")


def _listed(workers: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {address}" for name, address in sorted(workers.items()))


async def prove_replacement(cluster: RunningCluster, lost: GuestPlan, fresh: GuestPlan) -> None:
    """Have a worker vanish, and start another."""
    guest = cluster.guest(lost.label)
    instance = cluster.instances[lost.label]
    async with cluster.record.check("workers.lost") as trial:
        await guest.kill()
        cluster.leave(guest)
        trial.show(guest.name, "(its power fails)", "")

        def is_shown(output: str) -> bool:
            instances = {one.host: one for one in queue_instances(output)}
            return instance.name not in instances or not instances[instance.name].is_well

        await trial.until(
            cluster.server,
            *queue_command(),
            so=lambda ran: ran.code == 0 and is_shown(ran.output),
            within_s=_LOSS_LIMIT_S,
            what=f"the queue on {instance.name} still looks well",
        )
    async with cluster.record.check("workers.replaced") as trial:
        # Its address is free when the VPN server has given the old connection up.
        await trial.until(
            cluster.server,
            *("cat", f"/run/imgbuild/workers/{instance.name}"),
            so=lambda ran: ran.output.startswith("gone"),
            within_s=_LOSS_LIMIT_S,
            what=f"the VPN server still holds the connection of {instance.name}",
        )
        newcomer = await cluster.start(fresh)
        joined = await cluster.join(trial, newcomer)
        require(joined == instance, f"it is {joined.name}, not {instance.name}")
        await cluster.wait_for_queue(trial, cluster.execution_hosts, JOIN_LIMIT_S)
