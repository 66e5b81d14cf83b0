"""What EC2 gives a worker: the key by which one logs in, from the metadata service, and a volume of any size."""

import asyncio
from collections.abc import Collection

from imagebuilder.programs import run_program
from imagebuilder.rehearse.guest import Guest
from imagebuilder.rehearse.instances import (
    LOGIN_KEY,
    identity_of,
    make_key_pair,
    metadata,
    public_half,
    write_metadata,
)
from imagebuilder.rehearse.metadata_service import Request, read_requests
from imagebuilder.rehearse.record import Skip, Trial, require
from imagebuilder.rehearse.running import RunningCluster

PROVES = {
    "ec2.key": "The first worker has got its key from the metadata service, as root's only one.",
    "ec2.login": "With that key one logs in to it by ssh from the public side, and its host key is its own.",
    "ec2.metadata": "It asked the metadata service with a token each time (IMDSv2).",
    "ec2.volume": "Its root file system has taken all of a volume that is larger than the image.",
    "ec2.instance-id": "The server's note of the first worker has the id by which EC2 knows that.",
    "ec2.copy": "A copy of its disk that is another instance takes the key of that instance.",
}

# Nothing waits for cloud-init, and it gives way to all else; emulated, its Python alone takes half a minute.
_KEY_LIMIT_S = 300
_LOGIN_LIMIT_S = 120
_AUTHORIZED_KEYS = "/root/.ssh/authorized_keys"
_CLOUD_INIT_LOG = "/var/log/cloud-init.log"
_OTHER_KEY = "other-key"
# GRUB's partition, the ends of the disk, and what ext4 needs for itself.
_LEAST_PART = 0.95


_SSH_PORT = 22


async def prove_ec2(cluster: RunningCluster, worker: Guest) -> None:
    """What EC2 gives the first worker; skipped if its role leaves that to others."""
    record = cluster.record
    if record.wants("ec2.key"):
        async with record.check("ec2.key") as trial:
            _require_edit(cluster, worker)
            await _wait_for_keys(trial, worker, [public_half(cluster.directory, LOGIN_KEY)])
            complaints = await trial.run(worker, "grep", "-E", "WARNING|ERROR|Traceback", _CLOUD_INIT_LOG)
            require(complaints.code == 1, "cloud-init complains")
    if record.wants("ec2.login"):
        async with record.check("ec2.login") as trial:
            _require_edit(cluster, worker)
            await _log_in(cluster, trial, worker)
    if record.wants("ec2.metadata"):
        async with record.check("ec2.metadata") as trial:
            _require_edit(cluster, worker)
            _require_tokens(cluster, trial, worker)
    if record.wants("ec2.volume"):
        async with record.check("ec2.volume") as trial:
            _require_edit(cluster, worker)
            await _require_whole_volume(trial, worker)
    if record.wants("ec2.instance-id"):
        async with record.check("ec2.instance-id") as trial:
            await _require_noted(cluster, trial, worker)
    if record.wants("ec2.copy"):
        async with record.check("ec2.copy") as trial:
            _require_edit(cluster, worker)
            await _become_another(cluster, trial, worker)


def _require_edit(cluster: RunningCluster, worker: Guest) -> None:
    if "cloud_identity" not in cluster.site.roles[worker.plan.machine.role].edits:
        raise Skip("the workers' recipe does not use the edit cloud_identity")


async def _wait_for_keys(trial: Trial, worker: Guest, keys: Collection[str]) -> None:
    """Wait until root's authorized keys are just these lines. Raises CheckFailure."""
    await trial.until(
        worker,
        *("cat", _AUTHORIZED_KEYS),
        so=lambda ran: ran.code == 0 and set(ran.output.splitlines()) == set(keys),
        within_s=_KEY_LIMIT_S,
        what="root's authorized keys are not those that the metadata service tells",
    )


async def _log_in(cluster: RunningCluster, trial: Trial, worker: Guest) -> None:
    """Log in from the namespace's own address, as anybody outside would, and see which machine that is."""
    first, _, last = cluster.site.cluster.recipe.ec2.authorized_ports.partition("-")
    if not int(first) <= _SSH_PORT <= int(last or first):
        raise Skip(f"ec2.authorized_ports does not have port {_SSH_PORT}")
    address = cluster.topology.public_address(worker.plan)
    await _wait_for_keys(trial, worker, [public_half(cluster.directory, LOGIN_KEY)])
    ran = await trial.run(worker, "cat", "/etc/ssh/ssh_host_ed25519_key.pub", "/etc/machine-id")
    host_key, machine_id = ran.output.splitlines()
    known_hosts = cluster.directory / "known_hosts"
    known_hosts.write_text(f"{address} {host_key}\n", encoding="utf-8")
    options = ("BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={known_hosts}")
    command = ["ssh", "-F", "none", "-i", str(cluster.directory / LOGIN_KEY)]
    command += [word for option in (*options, f"ConnectTimeout={_LOGIN_LIMIT_S}") for word in ("-o", option)]
    command += [f"root@{address}", "cat /etc/machine-id"]
    text = await asyncio.to_thread(
        run_program, [*cluster.networks.enter, *command], log=cluster.log, timeout_s=2 * _LOGIN_LIMIT_S
    )
    trial.show("stranger", f"ssh -i {LOGIN_KEY} root@{address} cat /etc/machine-id", text)
    require(text.strip() == machine_id, "this is another machine")


def _require_tokens(cluster: RunningCluster, trial: Trial, worker: Guest) -> None:
    address = cluster.topology.public_address(worker.plan)
    requests = [one for one in read_requests(cluster.directory) if one.client == address]
    trial.show("host", f"(requests of {address} to the metadata service)", "\n".join(map(_shown, requests)))
    told = [one for one in requests if one.method == "GET" and one.status == 200]
    require(told, "it was told nothing")
    without = [one for one in requests if one.method == "GET" and not one.token]
    require(not without, f"{len(without)} requests came without a token that is good")


def _shown(request: Request) -> str:
    token = "with a token" if request.token else "without a token"
    return f"{request.method} {request.path} {token}: {request.status}"


async def _require_whole_volume(trial: Trial, worker: Guest) -> None:
    """Wait until the root file system is about as large as the disk under it. Raises CheckFailure."""
    script = "blockdev --getsize64 /dev/vda && df --block-size=1 --output=size / | tail -n 1"

    def is_whole(output: str) -> bool:
        disk, _, system = output.partition("\n")
        return int(system or 0) >= _LEAST_PART * int(disk or 1)

    await trial.until(
        worker,
        *("sh", "-c", script),
        so=lambda ran: ran.code == 0 and is_whole(ran.output),
        within_s=_KEY_LIMIT_S,
        what="the root file system is smaller than its disk",
    )


async def _require_noted(cluster: RunningCluster, trial: Trial, worker: Guest) -> None:
    """See that the server knows which instance the worker is. Raises CheckFailure."""
    ran = await trial.run(cluster.server, "cat", f"/run/imgbuild/instances/{worker.name}")
    instance_id = identity_of(worker.plan.label).instance_id
    require(ran.code == 0 and ran.output.strip() == instance_id, f"it is not noted that {worker.name} is {instance_id}")


async def _become_another(cluster: RunningCluster, trial: Trial, worker: Guest) -> None:
    """Let the metadata service tell the worker that it is another instance, with another key, and have it ask again."""
    address = cluster.topology.public_address(worker.plan)
    require(address is not None, "it has no address on the public network")
    first = public_half(cluster.directory, LOGIN_KEY)
    await _wait_for_keys(trial, worker, [first])
    second = make_key_pair(cluster.directory, _OTHER_KEY, log=cluster.log)
    told = metadata(cluster.topology, first)
    others = metadata(cluster.topology, second, launch="again")
    write_metadata(cluster.directory, {**told, str(address): others[str(address)]})
    ran = await trial.run(worker, "systemctl", "restart", "imgbuild-cloud-identity.service")
    require(ran.code == 0, "it does not ask again")
    await _wait_for_keys(trial, worker, [first, second])
