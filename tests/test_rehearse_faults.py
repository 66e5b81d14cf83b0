import asyncio
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from imagebuilder.plan.check import Instance
from imagebuilder.programs import RunningProgram, start_program
from imagebuilder.rehearse import faults
from imagebuilder.rehearse.outcome import CheckOutcome
from imagebuilder.rehearse.qmp import Ran
from imagebuilder.rehearse.topology import make_topology
from tests.guests import ScriptedGuest, cluster_of
from tests.machines import machine_of, shipped_site

TOPOLOGY = make_topology(shipped_site(), [machine_of(shipped_site(), "oneserver")], 2)
WORKER = Instance(name="workernode0", address=IPv4Address("10.1.1.100"))


def printed(output: str) -> Ran:
    return Ran(code=0, output=output, trouble="")


CURSOR = printed("the last line\n-- cursor: s=1;i=2\n")
CONNECTED = printed("Initialization Sequence Completed\n")
OFFERS_ANOTHER = "MULTI_sva: pool returned IPv4=10.1.1.101, IPv6=(Not enabled)\n"
OFFERS_THE_SAME = "MULTI_sva: pool returned IPv4=10.1.1.100, IPv6=(Not enabled)\n"
GIVES_IT_BACK = "SENT CONTROL [worker]: 'PUSH_REPLY,ping 5,ifconfig 10.1.1.100 255.255.255.0,peer-id 1' (status=1)\n"
GIVES_ANOTHER = "SENT CONTROL [worker]: 'PUSH_REPLY,ping 5,ifconfig 10.1.1.101 255.255.255.0,peer-id 1' (status=1)\n"
IDLE = printed("all.q@workernode0   BIP   0/0/1   1.37   lx-amd64   \n")
BUSY = printed("all.q@workernode0   BIP   0/1/1   1.37   lx-amd64   \n")
OUTPUT = printed("started on workernode0 as clouduser\nfinished on workernode0\n")
ADDRESS = printed("tap0   UNKNOWN   10.1.1.100/24 \n")
OTHER_ADDRESS = printed("tap0   UNKNOWN   10.1.1.101/24 \n")


@pytest.fixture
def program(tmp_path: Path) -> Iterator[RunningProgram]:
    running = start_program(["true"], directory=tmp_path, log=tmp_path / "log")
    yield running
    running.end()


def tunnel(said: str, program: RunningProgram, directory: Path, *, address: Ran = ADDRESS) -> CheckOutcome:
    """What comes of killing the only worker's OpenVPN when the server says this, and tap0 then has that address."""
    nothing = printed("")
    worker = ScriptedGuest(
        "workernode0",
        TOPOLOGY.workers[0],
        journalctl=[CURSOR, CONNECTED],
        systemctl=[nothing],
        ip=[address],
        hostname=[printed("workernode0\n")],
        touch=[nothing],
        rm=[nothing],
    )
    server = ScriptedGuest(
        "oneserver",
        TOPOLOGY.hosts[0],
        journalctl=[CURSOR, printed(said)],
        env=[IDLE, BUSY],
        runuser=[nothing],
        qstat=[nothing],
        sh=[OUTPUT],
    )

    async def course() -> list[CheckOutcome]:
        cluster = cluster_of([server, worker], TOPOLOGY, faults.PROVES, program, directory)
        cluster.instances[TOPOLOGY.workers[0].label] = WORKER
        await faults.prove_tunnel(cluster, worker)
        return cluster.record.outcomes

    [outcome] = asyncio.run(course())
    return outcome


def test_a_worker_that_is_given_its_address_back_passes_and_the_server_s_words_show_it(
    program: RunningProgram, tmp_path: Path
) -> None:
    outcome = tunnel(OFFERS_ANOTHER + GIVES_IT_BACK, program, tmp_path)

    evidence = [one.output for one in outcome.evidence if "--after-cursor s=1;i=2" in one.command]
    assert (outcome.verdict, outcome.reason) == ("passed", "")
    assert evidence == [CONNECTED.said, (OFFERS_ANOTHER + GIVES_IT_BACK).rstrip()]


def test_a_worker_that_is_given_another_address_fails(program: RunningProgram, tmp_path: Path) -> None:
    outcome = tunnel(OFFERS_ANOTHER + GIVES_ANOTHER, program, tmp_path)

    assert (outcome.verdict, outcome.reason) == ("failed", "the server does not give it 10.1.1.100 back")


def test_a_server_that_had_given_the_old_connection_up_proves_nothing(program: RunningProgram, tmp_path: Path) -> None:
    outcome = tunnel(OFFERS_THE_SAME + GIVES_IT_BACK, program, tmp_path)

    assert (outcome.verdict, outcome.reason) == ("failed", "the server held no old connection: this proves nothing")


def test_a_worker_that_has_another_name_afterwards_fails(program: RunningProgram, tmp_path: Path) -> None:
    outcome = tunnel(OFFERS_ANOTHER + GIVES_IT_BACK, program, tmp_path, address=OTHER_ADDRESS)

    assert (outcome.verdict, outcome.reason) == ("failed", "it is workernode1 now, and was workernode0")
