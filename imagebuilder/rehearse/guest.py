"""One guest of a rehearsal: a QEMU on a throw-away overlay, its serial console, and its agent.

QEMU runs in the networks' namespace and so ends with that, whatever becomes of this process. The guest is watched
through events: of QEMU (the agent comes and goes, the machine resets) and of its serial console (a login prompt, a
panic).
"""

import asyncio
import re
from codecs import getincrementaldecoder
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from imagebuilder.errors import HostError
from imagebuilder.host.accelerator import QEMU, Accelerator, qemu_accelerator_options
from imagebuilder.image.qemu_img import enlarge, make_overlay
from imagebuilder.image.store import Image
from imagebuilder.programs import require_programs, run_program
from imagebuilder.rehearse.instances import firmware_options
from imagebuilder.rehearse.networks import Networks, tap_name
from imagebuilder.rehearse.qmp import Agent, GuestError, Monitor, Ran, socket_path
from imagebuilder.rehearse.topology import GuestPlan

T = TypeVar("T")

_START_LIMIT_S = 60
# From power on to the agent an emulated guest on a busy machine took 250 s. Who has waited in vain once waits no more.
_AGENT_LIMIT_S, _NO_PATIENCE = 600.0, 1 / 600
_GREETING_PAUSE_S = 1.0
_LOGIN = re.compile(r"^\S+ login: ", re.MULTILINE)
_PANIC = re.compile(r"Kernel panic - not syncing.*|You are in emergency mode.*|grub rescue>")
# Terminal control: what GRUB and systemd colour their messages with (ECMA-48).
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[ -'*-Z\\-~]|[\x00-\x08\x0b-\x1f\x7f]")
_UNFINISHED = re.compile(r"\x1b(\[[0-?]*[ -/]*|[()])?\Z")
_LARGER_BYTES = 1 << 30
# Headers say who talks to whom and how; contents are not looked at.
_CAPTURED_BYTES = 128


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a guest is started with: its place in the topology, its image, and where it runs."""

    plan: GuestPlan
    number: int
    image: Image
    directory: Path
    networks: Networks
    accelerator: Accelerator
    log: Path


class Console:
    """What a guest says on its serial console, as text without control sequences."""

    def __init__(self) -> None:
        self.text = ""
        self._rest = ""
        self._grown = asyncio.Event()

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Take in all that comes, to its end."""
        decoder = getincrementaldecoder("utf-8")(errors="replace")
        while chunk := await reader.read(1 << 16):
            self.add(decoder.decode(chunk))

    def add(self, chunk: str) -> None:
        """Take in a piece; a control sequence may be cut in two."""
        chunk = self._rest + chunk
        unfinished = _UNFINISHED.search(chunk)
        end = unfinished.start() if unfinished else len(chunk)
        self._rest = chunk[end:]
        self.text += _CONTROL.sub("", chunk[:end])
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    async def wait_for(self, pattern: re.Pattern[str], *, start: int = 0) -> re.Match[str]:
        """The first match of `pattern` in the text behind its first `start` characters, as soon as it is there.

        A pattern matches within a line: each line is searched as it comes, and again only while it grows.
        """
        while True:
            if found := pattern.search(self.text, start):
                return found
            start = max(start, self.text.rfind("\n") + 1)
            await self._grown.wait()


class Guest:
    """A running guest; made by `Guest.start`."""

    def __init__(
        self, start: Start, monitor: Monitor, agent: Agent, line: asyncio.StreamWriter, *, agent_limit_s: float
    ) -> None:
        self.plan = start.plan
        self.image = start.image
        self.console = Console()
        self.started_s = asyncio.get_running_loop().time()
        """When it was switched on, by the event loop's clock."""
        self.prompt_s: float | None = None
        """From switching on to the first login prompt."""
        self.name = start.plan.label
        """What it is called in the cluster, once it is known."""
        self.address: IPv4Address | None = None
        """Its address on the private network, once it is known; also after the guest has gone."""
        self.boot_time = ""
        """What systemd-analyze(1) says of its boot, once it has been asked."""
        self.slowest_units: tuple[str, ...] = ()
        self._directory = start.directory
        self._monitor = monitor
        self._agent = agent
        self._line = line
        self._agent_is_up = asyncio.Event()
        self._agent_is_down = asyncio.Event()
        self._disk_has_failed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._boot_begins = 0
        self._agent_limit_s = agent_limit_s
        self._patience = 1.0

    @classmethod
    async def start(cls, start: Start) -> Self:
        """Switch a guest on. Raises BuildError or HostError if QEMU does not start."""
        require_programs(QEMU)
        label = start.plan.label
        overlay = start.directory / f"{label}.qcow2"
        make_overlay(overlay, base=start.image.disk, base_format=start.image.format)
        if start.plan.machine.host is None:
            # As on EC2, where a volume may be larger than the image that it is made of.
            await asyncio.to_thread(enlarge, overlay, _LARGER_BYTES)
        command = [*start.networks.enter, "env", "-C", str(start.directory), *qemu_command(start)]
        await asyncio.to_thread(run_program, command, log=start.log, timeout_s=_START_LIMIT_S)
        return await cls.connect(start)

    @classmethod
    async def connect(cls, start: Start, *, agent_limit_s: float = _AGENT_LIMIT_S) -> Self:
        """The guest whose QEMU waits in `start.directory` to be told to go on; it is. Raises GuestError without one.

        Its agent is waited for `agent_limit_s` seconds.
        """
        label = start.plan.label
        monitor = await Monitor.connect(start.directory, f"{label}.qmp")
        agent = await Agent.connect(start.directory, f"{label}.agent")
        async with socket_path(start.directory, f"{label}.console") as path:
            reader, line = await asyncio.open_unix_connection(path)
        guest = cls(start, monitor, agent, line, agent_limit_s=agent_limit_s)
        guest._tasks += [
            asyncio.create_task(guest.console.listen(reader)),
            asyncio.create_task(guest._follow()),
            asyncio.create_task(guest._note_prompt()),
        ]
        await monitor.order("cont")
        return guest

    async def _follow(self) -> None:
        """Note when the agent comes and goes, and when QEMU cannot write the disk any more."""
        greeting: asyncio.Future[None] | None = None
        async for event, detail in self._monitor.events():
            if event == "BLOCK_IO_ERROR":
                self._disk_has_failed.set()
            if event != "VSERPORT_CHANGE" or detail.get("id") != "agent":
                continue
            if greeting is not None:
                await _cancel(greeting)
            if detail.get("open"):
                greeting = asyncio.ensure_future(self._greet_agent())
            else:
                self._agent_is_up.clear()
                self._agent_is_down.set()

    async def _greet_agent(self) -> None:
        """Wait until the agent answers, however busy its guest is; if it goes, an event ends this."""
        while not self._agent_is_up.is_set():
            with suppress(GuestError):
                await self._agent.synchronize()
                self._agent_is_down.clear()
                self._agent_is_up.set()
                return
            await asyncio.sleep(_GREETING_PAUSE_S)

    async def _note_prompt(self) -> None:
        await self.console.wait_for(_LOGIN)
        self.prompt_s = asyncio.get_running_loop().time() - self.started_s

    async def prompt(self) -> str:
        """The line of its login prompt, once the guest has come so far in this boot. Raises GuestError if it dies."""
        found = await self._or_death(self.console.wait_for(_LOGIN, start=self._boot_begins))
        return found.group().strip()

    async def run(self, *argv: str, stdin: bytes = b"", limit_s: float = 60) -> Ran:
        """Run a command in the guest as root, without a shell, once its agent is there.

        Raises GuestError if the guest dies or restarts meanwhile, or if the command takes longer than `limit_s`.
        """
        await self._or_death(self._wait_for_agent())
        return await self._or_death(self._run(argv, stdin, limit_s))

    async def _wait_for_agent(self) -> None:
        """Return when its agent is there. Raises GuestError if it does not come; later calls then wait no more."""
        try:
            await asyncio.wait_for(self._agent_is_up.wait(), self._agent_limit_s * self._patience)
        except TimeoutError as error:
            self._patience = _NO_PATIENCE
            what, fix = "its agent does not answer", "have the package qemu-guest-agent in the base"
            raise GuestError(what, where=self.name, fix=fix) from error
        self._patience = 1.0

    async def _run(self, argv: Sequence[str], stdin: bytes, limit_s: float) -> Ran:
        call = asyncio.ensure_future(self._agent.run(argv, stdin=stdin, limit_s=limit_s))
        down = asyncio.ensure_future(self._agent_is_down.wait())
        try:
            await asyncio.wait({call, down}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise self._error("its agent went while a command ran")
            return call.result()
        finally:
            await _cancel(call, down)

    async def reboot(self) -> None:
        """Have the guest reboot itself, and return when it has gone down."""
        self._boot_begins = len(self.console.text)
        self._agent_is_down.clear()
        # The agent may go before it can say that the command has ended.
        with suppress(GuestError):
            await self.run("systemctl", "reboot")
        await self._or_death(self._agent_is_down.wait())

    async def set_link(self, device: str, state: Literal["up", "down"]) -> None:
        """Plug the cable of an interface in ("up") or out ("down")."""
        index = [one.device for one in self.plan.attachments].index(device)
        await self._monitor.order("set_link", name=f"nic{index}", up=state == "up")

    async def kill(self) -> None:
        """End the guest at once, as if its power had failed."""
        with suppress(GuestError):
            await self._monitor.order("quit")
        await self._monitor.gone()

    def captures(self, network: str) -> Iterator[Path]:
        """The files of the packets that passed its interfaces on `network`."""
        for attachment in self.plan.attachments:
            if attachment.network == network:
                yield self._directory / _capture_name(self.plan.label, attachment.device)

    async def close(self) -> None:
        """Let go of the guest; it runs on, unless its networks end."""
        await _cancel(*self._tasks)
        self._line.close()
        await self._agent.close()
        await self._monitor.close()

    async def _or_death(self, wanted: Awaitable[T]) -> T:
        """What `wanted` comes to, or GuestError if the guest dies before; HostError if its disk cannot be written.

        QEMU stops a guest when there is no space for what it writes (werror=enospc), and waits for somebody to make
        room.
        """
        task = asyncio.ensure_future(wanted)
        gone = asyncio.ensure_future(self._monitor.gone())
        full = asyncio.ensure_future(self._disk_has_failed.wait())
        panic = asyncio.ensure_future(self.console.wait_for(_PANIC, start=self._boot_begins))
        try:
            await asyncio.wait({task, gone, full, panic}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if full.done():
                fix = "make room, or choose another store with --store or IMGBUILD_STORE"
                raise HostError(f"the disk of {self.name} cannot be written", where=self._directory, fix=fix)
            raise self._error("its QEMU has gone" if gone.done() else f"it says: {panic.result().group()}")
        finally:
            await _cancel(task, gone, full, panic)

    def _error(self, what: str) -> GuestError:
        return GuestError(what, where=self.name, fix="read its serial log")


async def _cancel(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def qemu_command(start: Start) -> Iterator[str]:
    """The QEMU of a guest, paused until it is told to go on; all its files are in the directory it runs in."""
    label = start.plan.label
    yield from (QEMU, "-name", label, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc")
    yield from qemu_accelerator_options(start.accelerator)
    yield from firmware_options(start.plan)
    yield from ("-m", str(start.plan.memory_mib), "-smp", "1", "-sandbox", "on", "-S", "-daemonize")
    # The overlay is thrown away: nothing is lost by skipping its flushes.
    yield from ("-drive", f"if=none,id=disk,file={label}.qcow2,format=qcow2,cache=unsafe,discard=unmap")
    yield from ("-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci")
    yield from ("-chardev", f"socket,id=qmp,path={label}.qmp,server=on,wait=off", "-mon", "chardev=qmp,mode=control")
    yield from ("-chardev", f"socket,id=console,path={label}.console,server=on,wait=off,logfile={label}.console.log")
    yield from ("-serial", "chardev:console")
    yield from ("-chardev", f"socket,id=agent,path={label}.agent,server=on,wait=off", "-device", "virtio-serial-pci")
    yield from ("-device", "virtserialport,id=agent,chardev=agent,name=org.qemu.guest_agent.0")
    for index, attachment in enumerate(start.plan.attachments):
        tap = tap_name(start.number, index)
        capture = _capture_name(label, attachment.device)
        # vnet_hdr=off: QEMU 7.2 would capture each frame with a header of virtio's own in front, which no reader knows.
        yield from ("-netdev", f"tap,id=net{index},ifname={tap},script=no,downscript=no,vnet_hdr=off")
        yield from ("-device", f"virtio-net-pci,id=nic{index},netdev=net{index},mac={attachment.mac},romfile=")
        yield from ("-object", f"filter-dump,id=dump{index},netdev=net{index},file={capture},maxlen={_CAPTURED_BYTES}")


def _capture_name(label: str, device: str) -> str:
    return f"{label}.{device}.pcap"
