"""The course of a rehearsal: which guests start when, and what is proved in which order."""

import asyncio

from imagebuilder.plan.check import Instance
from imagebuilder.rehearse import ec2, faults, inspection, isolation, jobs, workers
from imagebuilder.rehearse.outcome import Report
from imagebuilder.rehearse.record import require
from imagebuilder.rehearse.running import RunningCluster
from imagebuilder.rehearse.stage import Script, Stage, perform
from imagebuilder.rehearse.topology import Topology
from imagebuilder.site import Site


def scenario_checks(topology: Topology) -> dict[str, str]:
    """What a rehearsal proves beside the edits' own checks, by name, in the order in which it does."""
    booting = [plan.label for plan in (*topology.hosts, *topology.workers[:-1])]
    distinct = {"boot.distinct": "No two machines share a machine id or an ssh host key."}
    # The last worker only takes the place of one of those beside the first.
    more = workers.PROVES if topology.workers[1:-1] else {}
    return {
        **faults.EARLY,
        **inspection.boot_checks(booting),
        **workers.FIRST,
        **distinct,
        **ec2.PROVES,
        **jobs.PROVES,
        **isolation.PROVES,
        **more,
        **faults.PROVES,
    }


def all_checks(site: Site, topology: Topology) -> dict[str, str]:
    """What a rehearsal proves, by the names of its checks; of workers as they are named if all goes well."""
    instances = [(plan.machine, plan.instance) for plan in topology.hosts]
    names = list(site.cluster.workers.items())[: len(topology.workers) - 1]
    instances += [(topology.workers[0].machine, Instance(name=name, address=address)) for name, address in names]
    of_edits = {
        f"{instance.name}.{name}": check.proves
        for machine, instance in instances
        for name, check in site.checks(machine, instance).items()
    }
    return {**scenario_checks(topology), **of_edits}


async def rehearse(script: Script, stage: Stage) -> Report:
    """Boot the cluster, prove what it is for, and report; a check that fails does not stop the others."""
    return await perform(script, _play, scenario_checks(script.topology), stage)


async def _play(cluster: RunningCluster, script: Script) -> None:
    await _bring_up(cluster)
    await _prove_configuration(cluster)
    await _prove_use(cluster, script)


async def _bring_up(cluster: RunningCluster) -> None:
    """Have the server, the nodes and the first worker come up; that one ahead of the others if it is to wait."""
    hosts, first = cluster.topology.hosts, cluster.topology.workers[0]
    is_early = cluster.record.wants_any("faults.early")
    if is_early:
        await faults.prove_early_boot(cluster, first)
        await cluster.start_all(hosts)
    else:
        await cluster.start_all([first, *hosts])
    await asyncio.gather(*(inspection.prove_prompt(cluster, plan) for plan in (*hosts, first)))
    if is_early:
        await faults.prove_early_join(cluster, first)
    await workers.prove_first(cluster, first)


async def _prove_configuration(cluster: RunningCluster) -> None:
    """What the edits prove, on all guests at once; and that the guests are machines of their own."""
    joined = [guest for guest in cluster.guests if cluster.has_joined(guest.plan)]
    await asyncio.gather(*(inspection.prove_guest(cluster, guest) for guest in joined))
    if cluster.record.wants("boot.distinct"):
        async with cluster.record.check("boot.distinct") as trial:
            identities: list[str] = []
            for guest in joined:
                ran = await trial.run(guest, "cat", "/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub")
                require(ran.code == 0, f"{guest.name} lacks one")
                machine_id, key = ran.output.splitlines()
                identities += [machine_id, key.split()[1]]
            require(len(set(identities)) == len(identities), "there are fewer ids and keys than machines")


async def _prove_use(cluster: RunningCluster, script: Script) -> None:
    """Jobs, further workers, isolation and faults, as far as they are wanted."""
    record, topology = cluster.record, cluster.topology
    first = cluster.guest(topology.workers[0].label)
    more = topology.workers[1:-1]
    if record.wants_any("ec2."):
        await ec2.prove_ec2(cluster, first)
    if record.wants_any("jobs."):
        await jobs.prove_jobs(cluster)
    wants_more = bool(more) and any(map(record.wants, workers.PROVES))
    if wants_more:
        await cluster.start_all(more)
    if record.wants_any("isolation."):
        await isolation.prove_isolation(cluster, first, script.authority)
    if wants_more:
        await asyncio.gather(*(inspection.prove_prompt(cluster, plan) for plan in more))
        await workers.prove_more(cluster, more)
        joined = [plan for plan in more if cluster.has_joined(plan)]
        await asyncio.gather(*(inspection.prove_guest(cluster, cluster.guest(plan.label)) for plan in joined))
        if joined:
            await workers.prove_replacement(cluster, joined[-1], topology.workers[-1])
    if record.wants("faults.tunnel") and cluster.has_joined(first.plan):
        await faults.prove_tunnel(cluster, first)
    if record.wants("faults.cut") and cluster.has_joined(first.plan):
        await faults.prove_cut(cluster, first)
    if record.wants("faults.reboot"):
        await faults.prove_reboot(cluster)
