"""The course of a rehearsal when guests do not come up: what can still be proved is, and there is a report."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imagebuilder.host.accelerator import Accelerator
from imagebuilder.programs import RunningProgram, start_program
from imagebuilder.rehearse import scenario
from imagebuilder.rehearse.guest import Guest
from imagebuilder.rehearse.outcome import CheckOutcome
from imagebuilder.rehearse.qmp import GuestError
from imagebuilder.rehearse.record import Record
from imagebuilder.rehearse.running import RunningCluster
from imagebuilder.rehearse.stage import Script
from imagebuilder.rehearse.topology import GuestPlan, make_topology
from tests.guests import ScriptedGuest, Unwatched, networks_of
from tests.machines import machine_of, shipped_site

SITE = shipped_site()
TOPOLOGY = make_topology(SITE, [machine_of(SITE, "oneserver"), machine_of(SITE, "local01")], 3)
SCRIPT = Script(site=SITE, topology=TOPOLOGY, images={}, authority=None)


class DeadCluster(RunningCluster):
    """A cluster whose guests are all dead."""

    async def start(self, plan: GuestPlan) -> Guest:
        """Switch a guest on."""
        guest = ScriptedGuest(plan.label, plan)
        self.guests.append(guest)
        return guest


@pytest.fixture
def program(tmp_path: Path) -> Iterator[RunningProgram]:
    running = start_program(["true"], directory=tmp_path, log=tmp_path / "log")
    yield running
    running.end()


def outcomes_of(
    play: Callable[[RunningCluster, Script], Awaitable[None]], only: str, program: RunningProgram, directory: Path
) -> dict[str, CheckOutcome]:
    """What comes of the checks in `only`, in a cluster whose server, node and first worker have been switched on."""

    async def course() -> list[CheckOutcome]:
        watcher = Unwatched()
        cluster = DeadCluster(
            site=SITE,
            topology=TOPOLOGY,
            images={},
            networks=networks_of(program),
            directory=directory,
            log=directory / "log",
            accelerator=Accelerator(name="tcg", reason=""),
            record=Record(scenario.scenario_checks(TOPOLOGY), (only,), watcher),
            watcher=watcher,
            now=datetime(2026, 3, 1, 12, tzinfo=UTC),
        )
        await cluster.start_all([*TOPOLOGY.hosts, TOPOLOGY.workers[0]])
        await play(cluster, SCRIPT)
        cluster.record.give_up("what comes before it failed")
        return cluster.record.outcomes

    return {one.name: one for one in asyncio.run(course())}


def test_a_worker_that_never_joined_is_not_cut_off(program: RunningProgram, tmp_path: Path) -> None:
    outcomes = outcomes_of(scenario._prove_use, "faults.cut", program, tmp_path)

    assert outcomes["faults.cut"].verdict == "not reached"


def test_workers_that_never_joined_are_neither_inspected_nor_replaced(program: RunningProgram, tmp_path: Path) -> None:
    outcomes = outcomes_of(scenario._prove_use, "workers", program, tmp_path)

    assert outcomes["workers.more"].reason == "worker-2: its QEMU has gone"
    assert {name: one.verdict for name, one in outcomes.items()} == {
        "workers.first": "not reached",
        "workers.more": "failed",
        "workers.lost": "not reached",
        "workers.replaced": "not reached",
    }


def test_a_guest_that_was_not_started_is_a_guest_s_error(program: RunningProgram, tmp_path: Path) -> None:
    async def ask(cluster: RunningCluster, _: Script) -> None:
        with pytest.raises(GuestError, match="worker-2: it was not started"):
            cluster.guest("worker-2")

    outcomes_of(ask, "jobs", program, tmp_path)


def test_with_one_worker_nothing_is_promised_of_further_ones() -> None:
    topology = make_topology(SITE, [machine_of(SITE, "oneserver")], 2)

    names = set(scenario.scenario_checks(topology))

    assert {"workers.first", "boot.worker-1.prompt", "faults.cut"} < names
    assert not {"workers.more", "workers.lost", "workers.replaced", "boot.worker-2.prompt"} & names
