"""Jobs of a user: what the cluster is for."""

import asyncio
from collections.abc import Collection, Mapping

from imagebuilder.rehearse.guest import Guest
from imagebuilder.rehearse.queue import queue_command, queue_instances
from imagebuilder.rehearse.record import Skip, Trial, require
from imagebuilder.rehearse.running import JOIN_LIMIT_S, RunningCluster

PROVES = {
    "jobs.queue": "Grid Engine lists the queue on each machine that runs jobs, and it is well there.",
    "jobs.spread": "Jobs of a user run on all machines at once, one a slot, and leave their output in the NFS home.",
}

_START_LIMIT_S, _END_LIMIT_S = 180, 180
_GO = "/tmp/rehearsal-go"  # noqa: S108 - on the execution host

# A job runs until its machine is told to go on, so that all are seen to run at once. Not by a file in the home: NFS
# clients look only now and then whether there is a new one.
_JOB = f"""#!/bin/sh
echo "started on $(hostname) as $(id -un)"
until [ -e {_GO} ]; do sleep 1; done
echo "finished on $(hostname)"
"""


async def prove_jobs(cluster: RunningCluster) -> None:
    """Wait for the queue and run jobs on all of it."""
    hosts = cluster.execution_hosts
    async with cluster.record.check("jobs.queue") as trial:
        await cluster.wait_for_queue(trial, hosts, JOIN_LIMIT_S)
    async with cluster.record.check("jobs.spread") as trial:
        cluster.queue = await run_jobs(cluster, trial, "jobs", hosts)


async def run_jobs(cluster: RunningCluster, trial: Trial, name: str, hosts: Mapping[str, Guest]) -> str:
    """Have a user submit a job for each slot of `hosts`, see all run at once, and each leave its output at home.

    Returns what `qstat -f` printed while they ran. Raises CheckFailure if they do not; Skip if there is no user.
    """
    user = job_owner(cluster)
    slots = cluster.site.cluster.recipe.grid_engine.slots
    count = len(hosts) * slots
    for number in range(count):
        await submit(cluster, trial, user, f"{name}-{number + 1}", hosts)
    ran = await trial.until(
        cluster.server,
        *queue_command(user),
        so=lambda ran: {one.host for one in queue_instances(ran.output) if one.used == slots} >= set(hosts),
        within_s=_START_LIMIT_S,
        what=f"there is not a job in each of the {count} slots",
    )
    await asyncio.gather(*(guest.run("touch", _GO) for guest in hosts.values()))
    await trial.until(
        cluster.server,
        *("qstat", "-u", user),
        so=lambda ran: ran.code == 0 and not ran.output.strip(),
        within_s=_END_LIMIT_S,
        what="the jobs have not ended",
    )
    await asyncio.gather(*(guest.run("rm", "-f", _GO) for guest in hosts.values()))
    await see_output(cluster, trial, user, name, hosts)
    return ran.output


def job_owner(cluster: RunningCluster) -> str:
    """The user in whose name jobs are submitted."""
    users = cluster.site.cluster.recipe.users
    if not users:
        raise Skip("the cluster description has no users")
    return min(users)


async def submit(cluster: RunningCluster, trial: Trial, user: str, name: str, hosts: Collection[str]) -> None:
    """Submit the job `name`: to whatever queue Grid Engine chooses, unless only some of its hosts are meant."""
    queue = cluster.site.cluster.recipe.grid_engine.queue
    line = f"mkdir -p rehearsal && cd rehearsal && qsub -N {name} -j y -cwd"
    if set(hosts) != set(cluster.execution_hosts):
        line += f" -q {','.join(f'{queue}@{host}' for host in sorted(hosts))}"
    ran = await trial.run(cluster.server, "runuser", "-l", user, "-c", line, stdin=_JOB.encode())
    require(ran.code == 0, "the job was not taken")


async def see_output(cluster: RunningCluster, trial: Trial, user: str, name: str, hosts: Collection[str]) -> None:
    """Find in the user's home on the server that a job finished on each of `hosts`. Raises CheckFailure."""
    slots = cluster.site.cluster.recipe.grid_engine.slots
    ran = await trial.run(cluster.server, "sh", "-c", f"head -n 5 /home/{user}/rehearsal/{name}-*")
    lines = ran.output.splitlines()
    for host in hosts:
        require(lines.count(f"started on {host} as {user}") == slots, f"not {slots} jobs of {user} started on {host}")
        require(lines.count(f"finished on {host}") == slots, f"not {slots} jobs finished on {host}")


async def run_job_on(cluster: RunningCluster, trial: Trial, name: str, host: str) -> None:
    """See a job run and end on one host. Raises CheckFailure if it does not."""
    await run_jobs(cluster, trial, name, {host: cluster.execution_hosts[host]})
