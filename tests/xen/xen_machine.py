"""A machine that runs Xen: QEMU with dom0 and a job, followed on its two serial lines."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from imagebuilder.host.accelerator import QEMU
from imagebuilder.programs import RunningProgram, start_program
from imagebuilder.rehearse.guest import Console
from tests.xen.dom0 import Dom0
from tests.xen.job_disk import DIRECTORY

_CONNECT_LIMIT_S = 60.0
# Xen under TCG runs with neither more nor less than these: `max` has features that Xen 4.17 or dom0 stumble over.
_CPU = "qemu64,+svm,+npt"
# One processor for dom0: with two, its kernel now and then hung for ever where it rewrites its own code (QEMU 7.2).
_XEN_OPTIONS = "console=com1 com1=115200,8n1 dom0_mem=1024M,max:1024M dom0_max_vcpus=1 noreboot=1"
_DOM0_OPTIONS = (
    "console=hvc0 root=/dev/vda1 rw net.ifnames=0 mitigations=off init=/bin/sh -- "
    f'-c "mount /dev/vdb {DIRECTORY}; exec sh {DIRECTORY}/dom0.sh"'
)
_DEATH = re.compile(r"Kernel panic - not syncing.*|dom0: gives up|Panic on CPU.*|dom0: the console of .* has ended")


class XenError(Exception):
    """The machine did not come to where it was to come."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line, and when it began to be there, in seconds from power on."""

    at_s: float
    source: str
    text: str


class SerialLine:
    """What comes on one serial line, and when."""

    def __init__(self, source: str, started_s: float) -> None:
        self.console = Console()
        self._source = source
        self._started_s = started_s
        self._times: list[float] = []

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Take in all that comes, to its end."""
        while chunk := await reader.read(1 << 16):
            self.console.add(chunk.decode(errors="replace"))
            now = asyncio.get_running_loop().time() - self._started_s
            begun = self.console.text.count("\n") + (not self.console.text.endswith("\n"))
            self._times += [now] * (begun - len(self._times))

    def lines(self) -> list[Line]:
        """All lines so far."""
        texts = self.console.text.split("\n")
        return [Line(at_s=at, source=self._source, text=text) for at, text in zip(self._times, texts, strict=False)]


class XenMachine:
    """A running machine; made by `running_xen`."""

    def __init__(
        self, qemu: RunningProgram, dom0: SerialLine, guest: SerialLine, tasks: Sequence["asyncio.Task[None]"]
    ):
        self.dom0 = dom0
        """What Xen, dom0's kernel and its script say."""
        self.guest = guest
        """The console of the guest."""
        self._qemu = qemu
        self._tasks = tasks

    async def wait_for(self, line: SerialLine, pattern: str, *, limit_s: float) -> re.Match[str]:
        """The first match of `pattern` on `line`. Raises XenError if the machine dies before, or at the limit."""
        wanted = asyncio.create_task(line.console.wait_for(re.compile(pattern, re.MULTILINE)))
        deaths = [asyncio.create_task(one.console.wait_for(_DEATH)) for one in (self.dom0, self.guest)]
        await asyncio.wait({wanted, *deaths, *self._tasks}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        said = [death.result().group() for death in deaths if death.done()]
        for task in (wanted, *deaths):
            task.cancel()
        if wanted.done():
            return wanted.result()
        why = said[0] if said else f"QEMU ended ({self._qemu.exit_code})" if self._ended() else f"{limit_s:g} s passed"
        raise XenError(f"waited for {pattern!r}: {why}; last words: {self.transcript()[-5:]}")

    def _ended(self) -> bool:
        return any(task.done() for task in self._tasks)

    def transcript(self) -> list[str]:
        """All lines of both serial lines by time, each with its time and where it is from."""
        lines = sorted([*self.dom0.lines(), *self.guest.lines()], key=lambda line: line.at_s)
        return [f"{line.at_s:6.1f} {line.source:>9} | {line.text}".rstrip() for line in lines]


@asynccontextmanager
async def running_xen(dom0: Dom0, job: Path, *, guest_name: str, directory: Path) -> AsyncIterator[XenMachine]:
    """The machine, for as long as the block runs; nothing is written to its disks.

    All that is said comes into files in `directory` as well, as do QEMU's own words.

    Raises XenError if QEMU does not start.
    """
    async with AsyncExitStack() as undo:
        # Paths of sockets are short: 107 characters.
        sockets = Path(undo.enter_context(TemporaryDirectory(prefix="xen-")))
        first, second = await _listen(sockets / "0", undo), await _listen(sockets / "1", undo)
        command = ["setpriv", "--pdeathsig", "KILL", *_qemu_command(dom0, job, sockets)]
        started_s = asyncio.get_running_loop().time()
        qemu = start_program(command, directory=directory, log=directory / "qemu.log")
        undo.callback(qemu.end)
        readers = await _connected(first, second, log=directory / "qemu.log")
        lines = SerialLine("dom0", started_s), SerialLine(guest_name, started_s)
        tasks = [asyncio.create_task(line.listen(reader)) for line, reader in zip(lines, readers, strict=True)]
        for task in tasks:
            undo.callback(task.cancel)
        yield XenMachine(qemu, *lines, tasks=tasks)


async def _connected(*connections: "asyncio.Future[asyncio.StreamReader]", log: Path) -> Sequence[asyncio.StreamReader]:
    try:
        return await asyncio.wait_for(asyncio.gather(*connections), _CONNECT_LIMIT_S)
    except TimeoutError as error:
        raise XenError(f"QEMU does not start: {log.read_text(errors='replace')}") from error


async def _listen(path: Path, undo: AsyncExitStack) -> "asyncio.Future[asyncio.StreamReader]":
    """The one connection that QEMU will make to the socket `path`: its serial line."""
    connection: asyncio.Future[asyncio.StreamReader] = asyncio.get_running_loop().create_future()
    writers: list[asyncio.StreamWriter] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)  # or the connection would be closed
        undo.callback(writer.close)
        connection.set_result(reader)

    server = await asyncio.start_unix_server(accept, path)
    undo.callback(server.close)
    return connection


def _qemu_command(dom0: Dom0, job: Path, sockets: Path) -> list[str]:
    options = _DOM0_OPTIONS.replace(",", ",,")
    return [
        *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-sandbox", "on"),
        # Also where there is KVM: not every KVM lets its guests have guests.
        *("-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", _CPU, "-smp", "2", "-m", "3072"),
        *("-kernel", str(dom0.hypervisor), "-append", _XEN_OPTIONS),
        *("-initrd", f"{dom0.boot.kernel} {options},{dom0.boot.initrd}"),
        *("-drive", f"file={dom0.disk},format=raw,if=virtio,snapshot=on"),
        *("-drive", f"file={job},format=raw,if=virtio,snapshot=on"),
        *("-device", "virtio-rng-pci"),
        *("-chardev", f"socket,id=dom0,path={sockets / '0'},logfile=dom0.log", "-serial", "chardev:dom0"),
        *("-chardev", f"socket,id=guest,path={sockets / '1'},logfile=guest.log", "-serial", "chardev:guest"),
    ]
