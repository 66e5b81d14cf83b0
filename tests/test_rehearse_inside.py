import asyncio
from base64 import b64decode
from pathlib import Path

import pytest

from imagebuilder.errors import RemoteError
from imagebuilder.rehearse.inside import GuestShell
from imagebuilder.rehearse.leavings import KeptRehearsal
from imagebuilder.rehearse.networks import Holder
from tests.sockets import FakeAgent, Trouble, ended, serving


def shell_in(directory: Path, *, timeout_s: float = 30) -> GuestShell:
    kept = KeptRehearsal(directory=directory, holder=Holder(pid=0, started=""))
    return GuestShell(kept, "oneserver", timeout_s=timeout_s)


def run(agent: FakeAgent, directory: Path, *, timeout_s: float = 30) -> str:
    """What the server's shell prints, or says of itself, if its agent is this one."""

    async def conversation() -> str:
        async with serving(directory, "oneserver.agent", agent):
            return await asyncio.to_thread(shell_in(directory, timeout_s=timeout_s).run, "date\n", "end")

    return asyncio.run(conversation())


def test_a_script_is_run_by_a_shell_in_the_guest(tmp_path: Path) -> None:
    agent = FakeAgent(guest_exec=[{"pid": 7}], guest_exec_status=[ended(0, "today\nend\n")])

    output = run(agent, tmp_path)

    [(_, arguments), _] = agent.asked
    assert output == "today\nend\n"
    assert (arguments["path"], b64decode(arguments["input-data"])) == ("sh", b"date\n")


def test_a_guest_whose_agent_does_not_answer_cannot_be_reached(tmp_path: Path) -> None:
    agent = FakeAgent(guest_exec=[Trouble.SILENCE])

    with pytest.raises(RemoteError) as raised:
        run(agent, tmp_path, timeout_s=0.2)

    assert str(raised.value) == (
        f"oneserver in {tmp_path}: its agent does not answer within 0.2 s\n"
        "  fix: see its console, or `imgbuild rehearse --down` and rehearse again"
    )


def test_a_guest_that_is_not_there_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(RemoteError) as raised:
        shell_in(tmp_path).run("date\n", "end")

    assert str(raised.value).startswith(f"oneserver in {tmp_path}: cannot be reached by oneserver.agent: ")
