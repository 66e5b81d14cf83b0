"""Faults that a cluster must get over by itself."""

import asyncio
import re
from collections.abc import Iterable

from imagebuilder.rehearse.guest import Guest
from imagebuilder.rehearse.jobs import run_job_on, run_jobs
from imagebuilder.rehearse.queue import queue_command
from imagebuilder.rehearse.record import CheckFailure, Trial, require, within
from imagebuilder.rehearse.running import JOIN_LIMIT_S, RunningCluster
from imagebuilder.rehearse.topology import GuestPlan

EARLY = {
    "faults.early-boot": "A worker that boots before the server reaches its login prompt without it.",
    "faults.early-join": "It joins by itself once the server is there.",
}
PROVES = {
    "faults.tunnel": "A worker whose VPN client is killed keeps its name and address, though the server still holds "
    "them for the old connection, and runs a job.",
    "faults.cut": "A worker whose way to the VPN is cut for a minute is back in its queue, and runs a job there.",
    "faults.reboot": "After a reboot of the server everybody is back by itself, with the same names, and runs jobs.",
}

_CUT_S = 60.0

_CLIENT, _SERVER = "openvpn-client@cluster.service", "openvpn-server@cluster.service"


async def prove_early_boot(cluster: RunningCluster, plan: GuestPlan) -> None:
    """Start a worker while there is no server yet, and see it come up."""
    async with cluster.record.check("faults.early-boot") as trial:
        worker = await cluster.start(plan)
        line = await within(worker.prompt(), JOIN_LIMIT_S, "there is no login prompt")
        trial.show(worker.name, "(serial console)", line)
        ran = await trial.run(worker, "systemctl", "is-active", "imgbuild-private.target")
        require(ran.output.strip() == "inactive", "it is on the private network, without a server")


async def prove_early_join(cluster: RunningCluster, plan: GuestPlan) -> None:
    """Wait for that worker to join, now that the server has been switched on."""
    async with cluster.record.check("faults.early-join") as trial:
        instance = await cluster.join(trial, cluster.guest(plan.label))
        trial.show(instance.name, "(name and address)", f"{instance.name} {instance.address}")


async def prove_tunnel(cluster: RunningCluster, worker: Guest) -> None:
    """Kill a worker's OpenVPN, so that it cannot take leave; systemd starts it again."""
    async with cluster.record.check("faults.tunnel") as trial:
        before = cluster.instances[worker.plan.label]
        of_worker, of_server = await _new_lines(worker, _CLIENT), await _new_lines(cluster.server, _SERVER)
        await trial.run(worker, "systemctl", "kill", "--signal=KILL", _CLIENT)
        cluster.watcher.guest(worker.plan.label, f"{before.name}, without a tunnel")
        await trial.until(
            worker,
            *of_worker,
            so=lambda ran: "Initialization Sequence Completed" in ran.output,
            within_s=JOIN_LIMIT_S,
            what="it does not connect again",
        )
        said = (await trial.run(cluster.server, *of_server)).output
        require(f",ifconfig {before.address} " in said, f"the server does not give it {before.address} back")
        offered = re.findall(r"pool returned IPv4=([0-9.]+)", said)
        require(
            offered and str(before.address) not in offered, "the server held no old connection: this proves nothing"
        )
        after = await cluster.join(trial, worker)
        require(after == before, f"it is {after.name} now, and was {before.name}")
        await _require_return(cluster, trial, [worker])
        await run_job_on(cluster, trial, "after-tunnel", before.name)
        cluster.watcher.guest(worker.plan.label, f"is {before.name} again")


async def _new_lines(guest: Guest, unit: str) -> tuple[str, ...]:
    """The command that prints what a unit's journal has from now on."""
    journal = ("journalctl", "--unit", unit, "--output", "cat", "--no-pager")
    ran = await guest.run(*journal, "--lines", "1", "--show-cursor")
    found = re.search(r"^-- cursor: (\S+)$", ran.output, re.MULTILINE)
    if found is None:
        raise CheckFailure(f"the journal of {unit} is empty")
    return (*journal, "--after-cursor", found[1])


async def prove_cut(cluster: RunningCluster, worker: Guest) -> None:
    """Pull the plug of a worker's public interface for a minute."""
    async with cluster.record.check("faults.cut") as trial:
        before = cluster.instances[worker.plan.label]
        [device] = [one.device for one in worker.plan.attachments if one.network == "public"]
        await worker.set_link(device, "down")
        cluster.watcher.guest(worker.plan.label, f"{before.name}, cut off")
        await asyncio.sleep(_CUT_S)
        await trial.run(cluster.server, *queue_command())
        await worker.set_link(device, "up")
        trial.show(worker.name, f"({device} was cut off for {_CUT_S:g} s)", "")
        await _require_return(cluster, trial, [worker])
        await run_job_on(cluster, trial, "after-cut", before.name)


async def prove_reboot(cluster: RunningCluster) -> None:
    """Reboot the server while everything runs."""
    async with cluster.record.check("faults.reboot") as trial:
        server = cluster.server
        label = server.plan.label
        cluster.watcher.guest(label, "reboots")
        await within(server.reboot(), JOIN_LIMIT_S, "it does not go down")
        line = await within(server.prompt(), JOIN_LIMIT_S, "there is no login prompt")
        trial.show(label, "systemctl reboot", line)
        cluster.watcher.guest(label, "is up again")
        hosts = cluster.execution_hosts
        await _require_return(cluster, trial, hosts.values())
        await run_jobs(cluster, trial, "after-reboot", hosts)


async def _require_return(cluster: RunningCluster, trial: Trial, guests: Iterable[Guest]) -> None:
    """Wait for the queue to be well, and see that these machines have the names that they had. Raises CheckFailure."""
    await cluster.wait_for_queue(trial, cluster.execution_hosts, JOIN_LIMIT_S)
    for guest in guests:
        before = cluster.instances[guest.plan.label]
        ran = await trial.run(guest, "hostname")
        require(ran.output.strip() == before.name, f"it is {ran.output.strip()} now, and was {before.name}")
