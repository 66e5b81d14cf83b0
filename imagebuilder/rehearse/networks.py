"""The networks of a rehearsal: bridges in a namespace of their own, which vanish with it.

Nothing of them is in this machine's own network. A small program holds the namespaces; everything that runs in them
ends when it does, and it ends when this process does, however that comes about, for its standard input is then
closed. So a rehearsal leaves neither guest nor bridge behind.
"""

import json
import os
import select
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from imagebuilder.errors import BuildError, HostError
from imagebuilder.image.namespace import namespace_fix
from imagebuilder.programs import RunningProgram, require_programs, run_program, start_program
from imagebuilder.rehearse.instances import METADATA_ADDRESS, metadata_command
from imagebuilder.rehearse.topology import Topology

# Prints its own number as this machine counts, then lives until its input ends; once told, for as long as nobody
# ends it.
_HOLDER = 'read -r pid rest </proc/self/stat && echo "$pid" && read -r word && exec sleep infinity'

_TAP_DEVICE = Path("/dev/net/tun")
_SETUP_LIMIT_S = 30
_END_LIMIT_S = 30


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds the namespaces, told from another that got its number later by when it started."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """The holder with this number, which is running."""
        return cls(pid=pid, started=_start_time(pid) or "")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The holder that `to_json` wrote down. Raises ValueError if it did not."""
        value = json.loads(text)
        return cls(pid=int(value["pid"]), started=str(value["started"]))

    def to_json(self) -> str:
        """The holder as JSON text."""
        return json.dumps(asdict(self))

    def is_alive(self) -> bool:
        """Whether it still holds its namespaces."""
        return _start_time(self.pid) == self.started

    def end(self) -> None:
        """End it, and with it all that runs in its namespaces; return when all of that has gone.

        It is the first process of its process namespace, so the kernel lets it go last.
        """
        with suppress(ProcessLookupError):
            process = os.pidfd_open(self.pid)
            try:
                if self.is_alive():
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    select.select([process], [], [], _END_LIMIT_S)
            finally:
                os.close(process)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The two networks while they are there; made by `open_networks`."""

    enter: tuple[str, ...]
    """The words before a command that let it run on them."""
    holder: Holder
    _program: RunningProgram
    _end: ExitStack

    def keep(self) -> None:
        """Let them, and all that runs on them, outlive this process."""
        self._program.tell("keep")
        self._end.pop_all()


def tap_name(guest: int, interface: int) -> str:
    """The name in the namespace of the tap device behind a guest's interface, each by its number."""
    return f"tap{guest}.{interface}"


@contextmanager
def open_networks(topology: Topology, *, directory: Path, log: Path) -> Iterator[Networks]:
    """The networks of `topology`, while the block runs; longer if told to `keep`.

    On the public one are DHCP and the metadata service, which tells what `prepare_instances` has put into `directory`.

    Raises HostError if this machine cannot make them, saying what it lacks.
    """
    require_programs("unshare", "nsenter", "ip", "dnsmasq")
    _require_taps()
    with ExitStack() as end:
        program = _start_holder(directory=directory, log=log)
        end.callback(program.end)
        holder = Holder.of(_holder_pid(program, log))
        end.callback(holder.end)
        enter = ("nsenter", "--target", str(holder.pid), *_namespaces(), "--")
        _make_bridges(topology, enter, log)
        server = start_program([*enter, "dnsmasq", *dnsmasq_options(topology)], directory=directory, log=log)
        end.callback(server.end)
        metadata = start_program([*enter, *metadata_command(directory)], directory=directory, log=log)
        end.callback(metadata.end)
        yield Networks(enter=enter, holder=holder, _program=program, _end=end)


def _namespaces() -> tuple[str, ...]:
    own = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
    return (*own, "--net", "--pid")


def _start_holder(*, directory: Path, log: Path) -> RunningProgram:
    own = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    enter = ["unshare", *own, "--net", "--pid", "--fork", "--kill-child=KILL"]
    return start_program([*enter, "sh", "-c", _HOLDER], directory=directory, log=log)


def _holder_pid(program: RunningProgram, log: Path) -> int:
    line = program.read_line()
    if not line.isdecimal():
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = lines[-1] if lines else "no message"
        fix = namespace_fix(said, as_root=os.geteuid() == 0)
        raise HostError(f"cannot make a network namespace ({said})", fix=fix)
    return int(line)


def _require_taps() -> None:
    if not os.access(_TAP_DEVICE, os.R_OK | os.W_OK):
        there = _TAP_DEVICE.exists()
        what = f"you may not use {_TAP_DEVICE}" if there else f"this machine has no {_TAP_DEVICE}"
        fix = f"sudo chmod 0666 {_TAP_DEVICE}, which is Debian's default" if there else "sudo modprobe tun"
        raise HostError(what, fix=fix)


def _make_bridges(topology: Topology, enter: tuple[str, ...], log: Path) -> None:
    commands = "".join(f"{line}\n" for line in bridge_commands(topology))
    try:
        run_program([*enter, "ip", "-batch", "-"], stdin=commands.encode(), log=log, timeout_s=_SETUP_LIMIT_S)
    except BuildError as error:
        fix = "sudo modprobe bridge tun"
        raise HostError(f"this machine's kernel makes no bridge or tap device ({error.what})", fix=fix) from error


def bridge_commands(topology: Topology) -> Iterator[str]:
    """The networks as commands of ip(8): a bridge each, a tap device for each interface of each guest."""
    yield "link set lo up"
    for name in ("private", "public"):
        # Frames at once, and no multicast kept back: as on a switch that nobody configured.
        yield f"link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        yield f"link set {name} addrgenmode none up"
    yield f"addr add {topology.stranger}/{topology.public.prefixlen} dev public"
    yield f"addr add {METADATA_ADDRESS}/32 dev public"
    for number, guest in enumerate(topology.guests):
        for index, attachment in enumerate(guest.attachments):
            tap = tap_name(number, index)
            yield f"tuntap add dev {tap} mode tap"
            yield f"link set {tap} addrgenmode none master {attachment.network} up"


def dnsmasq_options(topology: Topology) -> Iterator[str]:
    """The options of dnsmasq(8): each guest that asks gets the address meant for it; no names, no router.

    EC2's router is also the way to the metadata service; here the guests are told that it is on their link.
    """
    yield from ("--conf-file=/dev/null", "--port=0", "--interface=public", "--bind-dynamic", "--leasefile-ro")
    # It would change to a user of its own, which a user namespace does not have.
    yield "--no-daemon"
    yield "--log-dhcp"
    yield f"--dhcp-range={topology.public.network_address},static,{topology.public.netmask},1h"
    yield from ("--dhcp-option=option:router", "--dhcp-option=option:dns-server")
    yield f"--dhcp-option=option:classless-static-route,{METADATA_ADDRESS}/32,0.0.0.0"
    for lease in topology.leases:
        yield f"--dhcp-host={lease.mac},{lease.address}"


def _start_time(pid: int) -> str | None:
    """When the process began, in ticks since this machine's boot, proc(5); None if there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = status.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
