"""What is proved of a single guest: that it comes up, that nothing has failed, and what its edits bring."""

from collections.abc import Iterable

from imagebuilder.plan.check import Check
from imagebuilder.rehearse.guest import Guest
from imagebuilder.rehearse.record import Trial, require, within
from imagebuilder.rehearse.running import JOIN_LIMIT_S, RunningCluster
from imagebuilder.rehearse.topology import GuestPlan

_MOST_UNITS = 12


def boot_checks(labels: Iterable[str]) -> dict[str, str]:
    """What is proved of the boot of each guest, by name."""
    found = {}
    for label in labels:
        found[f"boot.{label}.prompt"] = f"{label} reaches its login prompt."
        found[f"boot.{label}.units"] = f"{label} has started all that it can, and no systemd unit has failed."
    return found


async def prove_prompt(cluster: RunningCluster, plan: GuestPlan) -> None:
    """Wait for the login prompt of a guest; a host is a part of the cluster from then on."""
    guest = cluster.guest(plan.label)
    async with cluster.record.check(f"boot.{plan.label}.prompt") as trial:
        line = await within(guest.prompt(), JOIN_LIMIT_S, "there is no login prompt")
        trial.show(plan.label, "(serial console)", f"{line}\nafter {guest.prompt_s:.1f} s")
        cluster.watcher.guest(plan.label, f"is up after {guest.prompt_s:.0f} s")
        if plan.machine.host is not None:
            await cluster.join(trial, guest)


async def prove_guest(cluster: RunningCluster, guest: Guest) -> None:
    """All that is to be so on a guest that is a part of the cluster."""
    label = guest.plan.label
    name = f"boot.{label}.units"
    if cluster.record.wants(name):
        async with cluster.record.check(name) as trial:
            await trial.until(
                guest,
                *("systemctl", "is-system-running"),
                so=lambda ran: ran.output.strip() in {"running", "degraded"},
                within_s=JOIN_LIMIT_S,
                what="it is still starting",
            )
            await _time_boot(trial, guest)
            await require_no_failed_unit(trial, guest)
    instance = cluster.instances[label]
    await prove_edits(cluster, guest, cluster.site.checks(guest.plan.machine, instance))


async def prove_edits(cluster: RunningCluster, guest: Guest, checks: dict[str, Check]) -> None:
    """What edits prove, one after the other: a guest's agent does one thing at a time."""
    for name, check in checks.items():
        await cluster.record.prove(guest, f"{guest.name}.{name}", check)


async def _time_boot(trial: Trial, guest: Guest) -> None:
    guest.boot_time = (await trial.run(guest, "systemd-analyze", "time")).output.strip()
    blame = await guest.run("systemd-analyze", "blame", "--no-pager")
    guest.slowest_units = tuple(line.strip() for line in blame.output.splitlines()[:_MOST_UNITS])


async def require_no_failed_unit(trial: Trial, guest: Guest) -> None:
    """Raise CheckFailure if systemd knows of a unit that has failed."""
    failed = await trial.run(guest, "systemctl", "--failed", "--no-legend", "--plain")
    require(failed.code == 0 and not failed.output.strip(), f"failed: {failed.output.strip()}")
