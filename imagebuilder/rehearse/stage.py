"""Sets up what a rehearsal runs on, and reports on it afterwards; what is played on it is the scenario's business."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from imagebuilder import __version__
from imagebuilder.errors import HostError
from imagebuilder.host.accelerator import QEMU, Accelerator
from imagebuilder.image.store import Image
from imagebuilder.pki import Authority
from imagebuilder.programs import require_programs
from imagebuilder.rehearse.guest import Guest
from imagebuilder.rehearse.instances import prepare_instances
from imagebuilder.rehearse.leavings import HOLDER
from imagebuilder.rehearse.networks import open_networks
from imagebuilder.rehearse.outcome import GuestOutcome, NetworkOutcome, Report
from imagebuilder.rehearse.qmp import GuestError
from imagebuilder.rehearse.record import Record, Watcher
from imagebuilder.rehearse.running import RunningCluster
from imagebuilder.rehearse.topology import Topology
from imagebuilder.site import Site

_MEMINFO = Path("/proc/meminfo")
# Emulated, a guest costs its memory and QEMU's translated code besides.
_OVERHEAD_MIB: Mapping[str, int] = {"kvm": 100, "tcg": 700}

# What a guest writes into its overlay from its boot to the end of a rehearsal, doubled.
_OVERLAY_MIB = 200

Play = Callable[[RunningCluster, "Script"], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Script:
    """What is to be rehearsed: everything that `only` names, or everything."""

    site: Site
    topology: Topology
    images: Mapping[str, Image]
    authority: Authority | None
    only: tuple[str, ...] = ()
    timeout_s: float = 3600
    afterwards: Literal["end", "keep"] = "end"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where a rehearsal runs: a directory of its own, the log of the programs, how guests run, and who follows it."""

    directory: Path
    log: Path
    accelerator: Accelerator
    watcher: Watcher


async def perform(script: Script, play: Play, proves: Mapping[str, str], stage: Stage) -> Report:
    """Make the networks, have `play` start guests on them and prove what `proves` names, and report.

    Raises HostError if this machine cannot run it. With afterwards="keep" all runs on when this returns, until
    somebody ends the holder of its namespaces.
    """
    # All of them now: nobody wants to learn after a quarter of an hour that one is missing.
    require_programs(QEMU, "nmap", "tcpdump", "ssh", "ssh-keygen")
    require_memory(script.topology, stage.accelerator)
    require_space(script.topology, stage.directory)
    record = Record(proves, script.only, stage.watcher)
    prepare_instances(script.topology, stage.directory, log=stage.log)
    with open_networks(script.topology, directory=stage.directory, log=stage.log) as networks:
        (stage.directory / HOLDER).write_text(networks.holder.to_json(), encoding="utf-8")
        async with AsyncExitStack() as stack:
            cluster = RunningCluster(
                site=script.site,
                topology=script.topology,
                images=script.images,
                networks=networks,
                directory=stage.directory,
                log=stage.log,
                accelerator=stage.accelerator,
                record=record,
                watcher=stage.watcher,
                now=datetime.now(UTC),
                stack=stack,
            )
            await _play_in_time(play, cluster, script)
            report = _report(cluster)
            if script.afterwards == "keep":
                await _open_consoles(cluster)
                networks.keep()
    return report


async def _play_in_time(play: Play, cluster: RunningCluster, script: Script) -> None:
    """Play to the end; what cannot be reached any more is noted."""
    try:
        async with asyncio.timeout(script.timeout_s):
            await play(cluster, script)
        cluster.record.give_up("what comes before it failed")
    except TimeoutError:
        cluster.record.give_up(f"the time was over: {script.timeout_s:g} s")
    except GuestError as error:
        cluster.record.give_up(str(error).replace("\n  fix:", ";"))


def require_memory(topology: Topology, accelerator: Accelerator) -> None:
    """Raise HostError if the guests do not fit into this machine's free memory."""
    running = topology.guests
    needed = sum(plan.memory_mib + _OVERHEAD_MIB[accelerator.name] for plan in running)
    lines = dict(line.split(":", 1) for line in _MEMINFO.read_text(encoding="utf-8").splitlines())
    free = int(lines["MemAvailable"].split()[0]) >> 10
    if free < needed:
        what = f"{free} MiB of memory are free, but {len(running)} guests may need {needed} MiB"
        raise HostError(what, fix="rehearse fewer with --workers and --nodes, or make room")


def require_space(topology: Topology, directory: Path) -> None:
    """Raise HostError if the guests' overlays do not fit into `directory`."""
    needed = len(topology.guests) * _OVERLAY_MIB
    free = shutil.disk_usage(directory).free >> 20
    if free < needed:
        what = f"{free} MiB are free, but {len(topology.guests)} guests may need {needed} MiB"
        fix = "make room, or choose another store with --store or IMGBUILD_STORE"
        raise HostError(what, where=directory, fix=fix)


def _report(cluster: RunningCluster) -> Report:
    guests = [_describe(cluster, guest) for guest in cluster.guests]
    topology = cluster.topology
    return Report(
        cluster=cluster.site.cluster.recipe.name,
        started_at=cluster.now.isoformat(timespec="seconds"),
        took_s=round(cluster.record.elapsed_s, 1),
        accelerator=cluster.accelerator.name,
        imgbuild=__version__,
        networks=(
            NetworkOutcome(name="private", subnet=str(topology.private)),
            NetworkOutcome(name="public", subnet=str(topology.public), stranger=str(topology.stranger)),
        ),
        guests=tuple(guests),
        checks=tuple(cluster.record.outcomes),
        queue=cluster.queue,
    )


def _describe(cluster: RunningCluster, guest: Guest) -> GuestOutcome:
    plan = guest.plan
    is_worker = plan.machine.host is None
    return GuestOutcome(
        name=guest.name,
        role=plan.machine.role,
        image=guest.image.key,
        attachments=tuple(cluster.topology.with_lease(one) for one in plan.attachments),
        vpn_address=str(guest.address) if is_worker and guest.address is not None else None,
        started_s=round(guest.started_s - cluster.record.began_s, 1),
        prompt_s=None if guest.prompt_s is None else round(guest.prompt_s, 1),
        boot_time=guest.boot_time,
        slowest_units=guest.slowest_units,
        serial_log=guest.console.text,
    )


async def _open_consoles(cluster: RunningCluster) -> None:
    """Let root in at the guests' consoles without a password; their disks are thrown away."""
    for guest in cluster.guests:
        if cluster.has_joined(guest.plan):
            await guest.run("passwd", "--delete", "root")
