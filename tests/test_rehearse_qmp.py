import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from imagebuilder.rehearse.qmp import Agent, GuestError, Monitor, Ran, socket_path
from tests.sockets import FakeAgent, FakeMonitor, Late, Refusal, Trouble, ended, serving

T = TypeVar("T")


def ask(agent: FakeAgent, directory: Path, talk: Callable[[Agent], Awaitable[T]], *, call_limit_s: float = 30) -> T:
    """What `talk` comes to with a client of `agent` that waits so long for an answer."""

    async def conversation() -> T:
        async with serving(directory, "one.agent", agent):
            client = await Agent.connect(directory, "one.agent", call_limit_s=call_limit_s)
            try:
                return await talk(client)
            finally:
                await client.close()

    return asyncio.run(conversation())


def watch(monitor: FakeMonitor, directory: Path, talk: Callable[[Monitor], Awaitable[T]]) -> T:
    """What `talk` comes to with a client of `monitor`."""

    async def conversation() -> T:
        async with serving(directory, "one.qmp", monitor):
            client = await Monitor.connect(directory, "one.qmp")
            try:
                return await talk(client)
            finally:
                await client.close()

    return asyncio.run(asyncio.wait_for(conversation(), 10))


def trouble_of(agent: FakeAgent, directory: Path, *, call_limit_s: float = 30, limit_s: float = 30) -> str:
    with pytest.raises(GuestError) as raised:
        ask(agent, directory, lambda client: client.run(["true"], limit_s=limit_s), call_limit_s=call_limit_s)
    return str(raised.value)


# The agent


def test_a_command_is_waited_for_and_gives_its_status_and_both_outputs(tmp_path: Path) -> None:
    agent = FakeAgent(
        guest_exec=[{"pid": 7}],
        guest_exec_status=[{"exited": False}, {"exited": False}, ended(3, "naïve\n", "no such thing\n")],
    )

    ran = ask(agent, tmp_path, lambda client: client.run(["ls", "-l", "/"]))

    assert ran == Ran(code=3, output="naïve\n", trouble="no such thing\n")
    assert ran.said == "naïve\nno such thing"
    assert agent.asked == [
        ("guest-exec", {"path": "ls", "arg": ["-l", "/"], "capture-output": True}),
        *[("guest-exec-status", {"pid": 7})] * 3,
    ]


def test_a_command_can_be_given_input(tmp_path: Path) -> None:
    agent = FakeAgent(guest_exec=[{"pid": 7}], guest_exec_status=[ended()])

    ask(agent, tmp_path, lambda client: client.run(["tee", "/a"], stdin=b"\x00text\n"))

    [(_, arguments), _] = agent.asked
    assert arguments["input-data"] == b64encode(b"\x00text\n").decode()
    assert arguments["arg"] == ["/a"]


def test_a_command_that_a_signal_ended_has_the_status_that_a_shell_would_give(tmp_path: Path) -> None:
    agent = FakeAgent(guest_exec=[{"pid": 7}], guest_exec_status=[{"exited": True, "signal": 15}])

    ran = ask(agent, tmp_path, lambda client: client.run(["sleep", "9"]))

    assert ran == Ran(code=143, output="", trouble="")


def test_output_that_is_no_text_is_read_all_the_same(tmp_path: Path) -> None:
    status = {"exited": True, "exitcode": 0, "out-data": b64encode(b"a\xffb").decode()}
    agent = FakeAgent(guest_exec=[{"pid": 7}], guest_exec_status=[status])

    ran = ask(agent, tmp_path, lambda client: client.run(["cat", "/dev/urandom"]))

    assert ran.output == "a\N{REPLACEMENT CHARACTER}b"


def test_commands_of_one_guest_take_turns(tmp_path: Path) -> None:
    agent = FakeAgent(
        guest_exec=[{"pid": 1}, {"pid": 2}],
        guest_exec_status=[{"exited": False}, ended(output="one"), ended(output="two")],
    )

    ran = ask(agent, tmp_path, lambda client: asyncio.gather(client.run(["one"]), client.run(["two"])))

    assert [one.output for one in ran] == ["one", "two"]
    assert [arguments.get("pid") for _, arguments in agent.asked] == [None, 1, 1, None, 2]


def test_an_agent_that_answers_what_it_is_asked_is_in_step(tmp_path: Path) -> None:
    ask(FakeAgent(), tmp_path, lambda client: client.synchronize())


def test_an_agent_that_answers_an_older_question_is_not_in_step(tmp_path: Path) -> None:
    agent = FakeAgent(guest_sync=[1 << 30])

    with pytest.raises(GuestError, match="answers 1073741824 to a guest-sync of"):
        ask(agent, tmp_path, lambda client: client.synchronize())


def test_a_program_that_the_guest_does_not_have_is_refused(tmp_path: Path) -> None:
    text = 'Failed to execute child process "nmap" (No such file or directory)'
    agent = FakeAgent(guest_exec=[Refusal(text)])

    assert trouble_of(agent, tmp_path) == f"its agent refuses guest-exec: {text}"


def test_a_refusal_is_not_the_end(tmp_path: Path) -> None:
    agent = FakeAgent(guest_exec=[Refusal("no"), {"pid": 7}], guest_exec_status=[ended(output="well")])

    async def twice(client: Agent) -> Ran:
        with pytest.raises(GuestError):
            await client.run(["nmap"])
        return await client.run(["true"])

    assert ask(agent, tmp_path, twice).output == "well"


def test_a_command_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    agent = FakeAgent(guest_exec=[{"pid": 7}], guest_exec_status=[{"exited": False}] * 9)

    assert trouble_of(agent, tmp_path, limit_s=0.1) == "true did not end within 0.1 s"


def test_an_agent_that_keeps_silent_is_given_up(tmp_path: Path) -> None:
    agent = FakeAgent(guest_exec=[Trouble.SILENCE])

    assert trouble_of(agent, tmp_path, call_limit_s=0.1) == "its agent does not answer within 0.1 s"


def test_an_answer_that_comes_too_late_is_not_taken_for_another(tmp_path: Path) -> None:
    agent = FakeAgent(guest_exec=[Late({"pid": 6}), {"pid": 7}], guest_exec_status=[ended(output="well")])

    async def twice(client: Agent) -> Ran:
        with pytest.raises(GuestError, match="does not answer"):
            await client.run(["slow"])
        return await client.run(["quick"])

    ran = ask(agent, tmp_path, twice, call_limit_s=0.3)

    assert ran.output == "well"
    assert agent.asked[-1] == ("guest-exec-status", {"pid": 7})


def test_an_agent_that_hangs_up_before_it_answers_has_gone(tmp_path: Path) -> None:
    agent = FakeAgent(guest_exec=[Trouble.HANG_UP])

    assert trouble_of(agent, tmp_path) == "its agent has gone: Disconnected"


def test_an_agent_that_hangs_up_while_a_command_runs_has_gone(tmp_path: Path) -> None:
    agent = FakeAgent(guest_exec=[{"pid": 7}], guest_exec_status=[{"exited": False}, Trouble.HANG_UP])

    assert trouble_of(agent, tmp_path) == "its agent has gone: Disconnected"


def test_an_agent_that_has_gone_answers_no_further_question_and_can_be_let_go(tmp_path: Path) -> None:
    agent = FakeAgent(guest_exec=[Trouble.HANG_UP])

    async def twice(client: Agent) -> None:
        with pytest.raises(GuestError):
            await client.run(["one"])
        await client.run(["two"])

    with pytest.raises(GuestError, match="its agent has gone"):
        ask(agent, tmp_path, twice)


def test_a_socket_that_nobody_listens_on_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match=r"cannot be reached by one\.agent"):
        asyncio.run(Agent.connect(tmp_path, "one.agent"))


def test_a_directory_may_have_a_longer_name_than_a_socket_can(tmp_path: Path) -> None:
    directory = tmp_path / "a-store-deep-in-a-home-directory" / ("x" * 120)
    directory.mkdir(parents=True)
    agent = FakeAgent(guest_exec=[{"pid": 7}], guest_exec_status=[ended(output="well")])

    ran = ask(agent, directory, lambda client: client.run(["true"]))

    assert ran.output == "well"
    assert (directory / "one.agent").is_socket()


def test_a_short_name_of_a_socket_is_one_of_its_directory(tmp_path: Path) -> None:
    (tmp_path / "one.agent").write_text("here", encoding="utf-8")

    async def read() -> tuple[int, str]:
        async with socket_path(tmp_path, "one.agent") as path:
            return len(path), Path(path).read_text(encoding="utf-8")

    length, text = asyncio.run(read())

    assert length < 40
    assert text == "here"


# QEMU's monitor


def test_an_order_is_executed_with_its_arguments_as_qemu_spells_them(tmp_path: Path) -> None:
    monitor = FakeMonitor()

    watch(monitor, tmp_path, lambda client: client.order("set_link", name="nic0", up=False, some_thing=1))

    assert monitor.orders == [
        ("qmp_capabilities", {"enable": ["oob"]}),
        ("set_link", {"name": "nic0", "up": False, "some-thing": 1}),
    ]


def test_an_order_that_qemu_refuses_is_an_error_with_its_reason(tmp_path: Path) -> None:
    monitor = FakeMonitor(set_link="Device 'nic9' not found")

    with pytest.raises(GuestError) as raised:
        watch(monitor, tmp_path, lambda client: client.order("set_link", name="nic9", up=True))

    assert str(raised.value) == "QEMU does not execute set_link: Device 'nic9' not found"


def test_events_come_in_order_with_what_they_say(tmp_path: Path) -> None:
    monitor = FakeMonitor()

    async def first_two(client: Monitor) -> list[tuple[str, object]]:
        monitor.tell("VSERPORT_CHANGE", id="agent", open=True)
        monitor.tell("SHUTDOWN", guest=True, reason="guest-reset")
        events = client.events()
        return [await anext(events), await anext(events)]

    found = watch(monitor, tmp_path, first_two)

    assert found == [
        ("VSERPORT_CHANGE", {"id": "agent", "open": True}),
        ("SHUTDOWN", {"guest": True, "reason": "guest-reset"}),
    ]


def test_whoever_waits_learns_that_qemu_has_gone(tmp_path: Path) -> None:
    monitor = FakeMonitor()

    async def wait_for_its_end(client: Monitor) -> str:
        waiting = [asyncio.create_task(client.gone()) for _ in range(2)]
        await asyncio.sleep(0)
        monitor.hang_up()
        await asyncio.gather(*waiting)
        return "gone"

    assert watch(monitor, tmp_path, wait_for_its_end) == "gone"


def test_a_qemu_that_has_gone_executes_nothing(tmp_path: Path) -> None:
    monitor = FakeMonitor()

    async def order_too_late(client: Monitor) -> None:
        monitor.hang_up()
        await client.gone()
        await client.order("cont")

    with pytest.raises(GuestError, match="QEMU does not execute cont"):
        watch(monitor, tmp_path, order_too_late)


def test_a_qemu_that_quits_has_gone(tmp_path: Path) -> None:
    async def quit_and_wait(client: Monitor) -> str:
        await client.order("quit")
        await client.gone()
        return "gone"

    assert watch(FakeMonitor(), tmp_path, quit_and_wait) == "gone"


def test_something_else_on_the_socket_is_no_qemu(tmp_path: Path) -> None:
    async def greet_wrongly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")

    async def connect() -> None:
        async with serving(tmp_path, "one.qmp", greet_wrongly):
            await Monitor.connect(tmp_path, "one.qmp")

    with pytest.raises(GuestError, match=r"cannot be reached by one\.qmp"):
        asyncio.run(connect())
