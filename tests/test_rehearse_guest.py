import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest

from imagebuilder.errors import HostError
from imagebuilder.host.accelerator import Accelerator
from imagebuilder.image.store import Image
from imagebuilder.programs import start_program
from imagebuilder.rehearse.guest import Console, Guest, Start, qemu_command
from imagebuilder.rehearse.qmp import GuestError
from imagebuilder.rehearse.topology import make_topology
from tests.guests import networks_of
from tests.machines import machine_of, shipped_site
from tests.sockets import FakeAgent, FakeConsole, FakeMonitor, Trouble, ended, serving

T = TypeVar("T")
LOGIN = re.compile(r"^\S+ login: ", re.MULTILINE)
PANIC = b"[    1.09] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n"


# The serial console


def console_after(*chunks: str) -> Console:
    console = Console()
    for chunk in chunks:
        console.add(chunk)
    return console


def test_lines_of_a_terminal_are_lines_of_text() -> None:
    assert console_after("one\r\ntwo\r", "\nthree\n").text == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    "coloured",
    [
        "\x1b[0;1;32m  OK  \x1b[0m",  # systemd
        "\x1b[H\x1b[J\x1b[1;1H  OK  ",  # GRUB
        "\x1b(B\x1b[m  OK  ",
        "\x1bc\x1b[?7l\x1b[2J  OK  \x07",  # SeaBIOS
    ],
)
def test_what_colours_and_moves_is_left_out(coloured: str) -> None:
    assert console_after(coloured).text == "  OK  "


@pytest.mark.parametrize("cut", range(1, 22))
def test_a_control_sequence_may_be_cut_anywhere(cut: int) -> None:
    said = "a\x1b[0;1;32mb\x1b(Bc\x1b[0md"

    console = console_after(said[:cut], said[cut:])

    assert console.text == "abcd"


def test_a_control_sequence_may_come_one_character_at_a_time() -> None:
    assert console_after(*"a\x1b[0;1;32mb").text == "ab"


def test_an_escape_that_begins_nothing_does_not_hold_back_what_follows() -> None:
    assert console_after("\x1b", "\n", "x" * 100).text == "\n" + "x" * 100


def test_a_letter_that_is_cut_in_two_is_whole() -> None:
    async def listen() -> str:
        console, reader = Console(), asyncio.StreamReader()
        listening = asyncio.create_task(console.listen(reader))
        reader.feed_data("●".encode()[:2])
        await asyncio.sleep(0)
        reader.feed_data("●".encode()[2:])
        reader.feed_eof()
        await listening
        return console.text

    assert asyncio.run(listen()) == "●"


def test_a_pattern_is_found_across_pieces() -> None:
    async def wait() -> str:
        console = Console()
        waiting = asyncio.create_task(console.wait_for(LOGIN))
        console.add("Debian GNU/Linux 12 local01 ttyS0\r\n\r\nlocal01 lo")
        await asyncio.sleep(0)
        console.add("gin: ")
        return (await waiting).group()

    assert asyncio.run(wait()) == "local01 login: "


def test_everybody_who_waits_is_told() -> None:
    async def wait() -> list[str]:
        console = Console()
        patterns = [re.compile("one"), re.compile("two")]
        waiting = asyncio.gather(*(console.wait_for(pattern) for pattern in patterns))
        await asyncio.sleep(0)
        console.add("two")
        await asyncio.sleep(0)
        console.add("one")
        return [found.group() for found in await waiting]

    assert asyncio.run(wait()) == ["one", "two"]


def test_what_is_there_already_is_found_at_once_but_not_before_the_start() -> None:
    async def wait() -> tuple[int, int]:
        console = console_after("local01 login: \nrestarting\n", "local01 login: ")
        first = await console.wait_for(LOGIN)
        second = await console.wait_for(LOGIN, start=first.end())
        return first.start(), second.start()

    assert asyncio.run(wait()) == (0, 27)


# QEMU's command


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """What the second of two hosts, a node, is started with; `true` stands for what holds its networks."""
    directory = tmp_path / "rehearsal"
    directory.mkdir()
    site = shipped_site()
    topology = make_topology(site, [machine_of(site, name) for name in ("oneserver", "local01")], 1)
    program = start_program(["true"], directory=directory, log=tmp_path / "log")
    yield Start(
        plan=topology.hosts[1],
        number=1,
        image=image_in(tmp_path / "store/images/node/local01/key"),
        directory=directory,
        networks=networks_of(program),
        accelerator=Accelerator(name="tcg", reason="this machine has no /dev/kvm"),
        log=tmp_path / "log",
    )
    program.end()


def image_in(directory: Path) -> Image:
    return Image(
        role="node",
        name="local01",
        key="1" * 64,
        format="qcow2",
        directory=directory,
        base_digest="d" * 64,
        built_at="2026-11-25T12:00:00+00:00",
        inputs={},
    )


def test_a_guest_has_its_own_disk_sockets_and_interface_and_waits(start: Start) -> None:
    command = list(qemu_command(start))

    assert command == [
        "qemu-system-x86_64",
        *("-name", "local01", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc"),
        *("-accel", "tcg,thread=multi", "-cpu", "max,la57=off"),
        *("-m", "1024", "-smp", "1", "-sandbox", "on", "-S", "-daemonize"),
        *("-drive", "if=none,id=disk,file=local01.qcow2,format=qcow2,cache=unsafe,discard=unmap"),
        *("-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"),
        *("-chardev", "socket,id=qmp,path=local01.qmp,server=on,wait=off", "-mon", "chardev=qmp,mode=control"),
        "-chardev",
        "socket,id=console,path=local01.console,server=on,wait=off,logfile=local01.console.log",
        *("-serial", "chardev:console"),
        *("-chardev", "socket,id=agent,path=local01.agent,server=on,wait=off", "-device", "virtio-serial-pci"),
        *("-device", "virtserialport,id=agent,chardev=agent,name=org.qemu.guest_agent.0"),
        *("-netdev", "tap,id=net0,ifname=tap1.0,script=no,downscript=no,vnet_hdr=off"),
        *("-device", "virtio-net-pci,id=nic0,netdev=net0,mac=00:16:3e:03:90:41,romfile="),
        *("-object", "filter-dump,id=dump0,netdev=net0,file=local01.eth0.pcap,maxlen=128"),
    ]


def test_no_file_outside_the_guest_s_directory_is_named(start: Start) -> None:
    command = list(qemu_command(start))

    assert [word for word in command if "/" in word] == []


def test_kvm_is_used_where_it_works(start: Start) -> None:
    command = list(qemu_command(replace(start, accelerator=Accelerator(name="kvm", reason="a test guest ran"))))

    assert command[command.index("-accel") :][:4] == ["-accel", "kvm", "-cpu", "max,la57=off"]


# A guest that runs, as far as its three sockets tell


@dataclass(kw_only=True)
class Machine:
    """The other ends of a guest's sockets."""

    agent: FakeAgent = field(default_factory=FakeAgent)
    monitor: FakeMonitor = field(default_factory=FakeMonitor)
    console: FakeConsole = field(default_factory=FakeConsole)

    def agent_comes(self) -> None:
        self.monitor.tell("VSERPORT_CHANGE", id="agent", open=True)

    def agent_goes(self) -> None:
        self.monitor.tell("VSERPORT_CHANGE", id="agent", open=False)


def meet(start: Start, machine: Machine, talk: Callable[[Guest], Awaitable[T]], *, agent_limit_s: float = 60) -> T:
    """What `talk` comes to with the guest that `machine` is, whose agent is waited for so long."""

    async def conversation() -> T:
        label = start.plan.label
        async with AsyncExitStack() as stack:
            for name, end in (("qmp", machine.monitor), ("agent", machine.agent), ("console", machine.console)):
                await stack.enter_async_context(serving(start.directory, f"{label}.{name}", end))
            guest = await Guest.connect(start, agent_limit_s=agent_limit_s)
            stack.push_async_callback(guest.close)
            return await talk(guest)

    return asyncio.run(asyncio.wait_for(conversation(), 10))


def trouble_with(start: Start, machine: Machine, talk: Callable[[Guest], Awaitable[object]]) -> str:
    with pytest.raises(GuestError) as raised:
        meet(start, machine, talk)
    return str(raised.value)


def test_a_guest_that_waited_is_told_to_go_on(start: Start) -> None:
    machine = Machine()

    async def do_nothing(_: Guest) -> None: ...

    meet(start, machine, do_nothing)

    assert machine.monitor.orders[1:] == [("cont", {})]


def test_a_guest_is_called_as_it_is_labelled_until_it_has_a_name(start: Start) -> None:
    async def names(guest: Guest) -> tuple[str, Path, list[Path], list[Path]]:
        return guest.name, guest.image.disk, list(guest.captures("private")), list(guest.captures("public"))

    name, disk, private, public = meet(start, Machine(), names)

    assert (name, disk) == ("local01", start.image.disk)
    assert (private, public) == ([start.directory / "local01.eth0.pcap"], [])


def test_a_prompt_is_waited_for_and_timed(start: Start) -> None:
    machine = Machine()

    async def wait(guest: Guest) -> tuple[str, float | None]:
        machine.console.say(b"\r\nDebian GNU/Linux 12 local01 ttyS0\r\n\r\nlocal01 login: ")
        return await guest.prompt(), guest.prompt_s

    line, prompt_s = meet(start, machine, wait)

    assert line == "local01 login:"
    assert prompt_s is not None


def test_a_command_waits_for_the_agent(start: Start) -> None:
    machine = Machine(agent=FakeAgent(guest_exec=[{"pid": 7}], guest_exec_status=[ended(output="local01")]))

    async def run(guest: Guest) -> tuple[int, str]:
        running = asyncio.create_task(guest.run("hostname"))
        await asyncio.sleep(0.05)
        asked_before = len(machine.agent.questions)
        machine.agent_comes()
        return asked_before, (await running).output

    assert meet(start, machine, run) == (0, "local01")


def test_an_agent_that_is_not_in_step_is_not_there(start: Start) -> None:
    machine = Machine(agent=FakeAgent(guest_sync=[1 << 30]))

    async def run(guest: Guest) -> bool:
        machine.agent_comes()
        running = asyncio.create_task(guest.run("hostname"))
        done, _ = await asyncio.wait([running], timeout=0.1)
        running.cancel()
        return bool(done)

    assert not meet(start, machine, run)


def test_an_agent_that_goes_while_it_is_greeted_is_greeted_again_when_it_comes(start: Start) -> None:
    agent = FakeAgent(guest_sync=[Trouble.SILENCE], guest_exec=[{"pid": 7}], guest_exec_status=[ended(output="well")])
    machine = Machine(agent=agent)

    async def run(guest: Guest) -> str:
        machine.agent_comes()
        await asyncio.sleep(0.05)
        machine.agent_goes()
        machine.agent_comes()
        return (await guest.run("hostname")).output

    assert meet(start, machine, run) == "well"


def test_an_agent_that_never_comes_is_waited_for_once(start: Start) -> None:
    async def run_twice(guest: Guest) -> tuple[str, float]:
        clock = asyncio.get_running_loop().time
        with pytest.raises(GuestError) as raised:
            await guest.run("hostname")
        began_s = clock()
        with pytest.raises(GuestError):
            await guest.run("hostname")
        return str(raised.value), clock() - began_s

    trouble, took_s = meet(start, Machine(), run_twice, agent_limit_s=0.3)

    assert trouble == "local01: its agent does not answer\n  fix: have the package qemu-guest-agent in the base"
    assert took_s < 0.3


def test_a_panic_ends_the_waiting_for_a_prompt(start: Start) -> None:
    machine = Machine()

    async def wait(guest: Guest) -> None:
        machine.console.say(PANIC)
        await guest.prompt()

    assert trouble_with(start, machine, wait) == (
        "local01: it says: Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n"
        "  fix: read its serial log"
    )


def test_a_disk_that_cannot_be_written_ends_all_waiting(start: Start) -> None:
    machine = Machine()

    async def wait(guest: Guest) -> None:
        machine.monitor.tell("BLOCK_IO_ERROR", device="disk", nospace=True)
        await guest.prompt()

    with pytest.raises(HostError, match="the disk of local01 cannot be written"):
        meet(start, machine, wait)


def test_emergency_mode_ends_the_waiting_for_the_agent(start: Start) -> None:
    machine = Machine()

    async def wait(guest: Guest) -> None:
        machine.console.say(b'You are in emergency mode. After logging in, type "journalctl -xb" to view\r\n')
        await guest.run("hostname")

    assert "it says: You are in emergency mode" in trouble_with(start, machine, wait)


def test_a_qemu_that_is_killed_ends_a_command_at_once(start: Start) -> None:
    machine = Machine(agent=FakeAgent(guest_exec=[Trouble.SILENCE]))

    async def run(guest: Guest) -> None:
        machine.agent_comes()
        running = asyncio.create_task(guest.run("sleep", "60"))
        await asyncio.sleep(0.05)
        machine.monitor.hang_up()
        await running

    assert trouble_with(start, machine, run).startswith("local01: its QEMU has gone\n")


def test_an_agent_that_goes_ends_a_command_at_once_and_the_next_waits_for_its_return(start: Start) -> None:
    agent = FakeAgent(guest_exec=[Trouble.SILENCE, {"pid": 8}], guest_exec_status=[ended(output="again")])
    machine = Machine(agent=agent)

    async def run(guest: Guest) -> str:
        machine.agent_comes()
        running = asyncio.create_task(guest.run("sleep", "60"))
        await asyncio.sleep(0.05)
        machine.agent_goes()
        with pytest.raises(GuestError, match="local01: its agent went while a command ran"):
            await running
        machine.agent_comes()
        return (await guest.run("hostname")).output

    assert meet(start, machine, run) == "again"


def test_other_ports_that_open_are_not_the_agent(start: Start) -> None:
    machine = Machine()

    async def run(guest: Guest) -> bool:
        machine.monitor.tell("VSERPORT_CHANGE", id="other", open=True)
        running = asyncio.create_task(guest.run("hostname"))
        done, _ = await asyncio.wait([running], timeout=0.05)
        running.cancel()
        return bool(done)

    assert not meet(start, machine, run)


def test_a_reboot_is_over_when_the_agent_has_gone_and_its_prompt_is_a_new_one(start: Start) -> None:
    machine = Machine(agent=FakeAgent(guest_exec=[Trouble.SILENCE]))

    async def reboot(guest: Guest) -> tuple[str, bool, str]:
        machine.agent_comes()
        machine.console.say(b"local01 login: ")
        before = await guest.prompt()
        rebooting = asyncio.create_task(guest.reboot())
        await asyncio.sleep(0.05)
        machine.agent_goes()
        await rebooting
        waiting = asyncio.create_task(guest.prompt())
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        machine.console.say(b"\r\nlocal02 login: ")
        return before, bool(done), await waiting

    assert meet(start, machine, reboot) == ("local01 login:", False, "local02 login:")
    assert machine.agent.asked == [("guest-exec", {"path": "systemctl", "arg": ["reboot"], "capture-output": True})]


def test_a_reboot_whose_command_ends_in_time_waits_for_the_agent_to_go(start: Start) -> None:
    machine = Machine(agent=FakeAgent(guest_exec=[{"pid": 7}], guest_exec_status=[ended()]))

    async def reboot(guest: Guest) -> bool:
        machine.agent_comes()
        rebooting = asyncio.create_task(guest.reboot())
        done, _ = await asyncio.wait([rebooting], timeout=0.1)
        machine.agent_goes()
        await rebooting
        return bool(done)

    assert not meet(start, machine, reboot)


def test_a_cable_is_pulled_by_the_name_of_the_interface(start: Start) -> None:
    machine = Machine()

    meet(start, machine, lambda guest: guest.set_link("eth0", "down"))

    assert machine.monitor.orders[-1] == ("set_link", {"name": "nic0", "up": False})


def test_a_guest_whose_power_fails_is_gone_and_can_be_let_go(start: Start) -> None:
    machine = Machine()

    meet(start, machine, lambda guest: guest.kill())

    assert machine.monitor.orders[-1] == ("quit", {})


def test_a_guest_without_a_qemu_is_an_error(start: Start) -> None:
    with pytest.raises(GuestError, match=r"cannot be reached by local01\.qmp"):
        asyncio.run(Guest.connect(start))
