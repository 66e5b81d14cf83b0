"""Boots one image all alone, and proves what its edits prove without the rest of the cluster."""

from imagebuilder.rehearse.inspection import boot_checks, prove_edits, prove_prompt, require_no_failed_unit
from imagebuilder.rehearse.outcome import Report
from imagebuilder.rehearse.running import RunningCluster
from imagebuilder.rehearse.stage import Script, Stage, perform


async def boot_alone(script: Script, stage: Stage) -> Report:
    """Boot the one guest of the script's topology, on networks with nobody else, and report."""
    [plan] = script.topology.guests
    return await perform(script, _play, boot_checks([plan.label]), stage)


async def _play(cluster: RunningCluster, script: Script) -> None:
    [plan] = script.topology.guests
    guest = await cluster.start(plan)
    guest.name = plan.instance.name
    await prove_prompt(cluster, plan)
    checks = cluster.site.checks(plan.machine, plan.instance)
    await prove_edits(cluster, guest, {name: check for name, check in checks.items() if check.needs == "machine"})
    # Last, when there was time for all that does not wait for others.
    async with cluster.record.check(f"boot.{plan.label}.units") as trial:
        await require_no_failed_unit(trial, guest)
