"""What was seen on the networks: asks tcpdump and nmap, and reads their answers."""

import asyncio
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import BuildError
from imagebuilder.programs import run_program

_READ_LIMIT_S = 120
_MOST_READS, _READ_PAUSE_S = 5, 0.2
_SCAN_LIMIT_S = 300

_PORT = re.compile(r"^(?P<port>\d+)/(?P<protocol>tcp|udp)\s+(?P<state>\S+)", re.MULTILINE)
# Ports that nmap does not list one by one, because they are many and alike.
_NOT_SHOWN = re.compile(r"(?P<count>\d+) (?P<state>closed|filtered|open\|filtered|unfiltered) (?:tcp|udp) ports?")
# Of these states an answer came back; the others mean silence, or a filter's word.
_ANSWERING = {"open", "closed", "unfiltered"}


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What nmap found at one address: the ports that answered, listed as `22/tcp open`; and how many more did."""

    text: str
    answering: tuple[str, ...]
    unlisted: int

    @property
    def open(self) -> set[str]:
        """The ports on which something listens, as `22/tcp`."""
        return {line.split()[0] for line in self.answering if line.endswith(" open")}


def read_scan(text: str) -> Scan:
    """The answer in the output of one nmap run on one address."""
    listed = tuple(
        f"{found['port']}/{found['protocol']} {found['state']}"
        for found in _PORT.finditer(text)
        if found["state"] in _ANSWERING
    )
    hidden = sum(int(found["count"]) for found in _NOT_SHOWN.finditer(text) if found["state"] in _ANSWERING)
    return Scan(text=text, answering=listed, unlisted=hidden)


async def scan(enter: Iterable[str], options: Iterable[str], address: object, *, log: Path) -> Scan:
    """Scan ports of `address` from the namespace that `enter` leads into."""
    command = [*enter, *scan_command(options, address)]
    return read_scan(await asyncio.to_thread(run_program, command, log=log, timeout_s=_SCAN_LIMIT_S))


def scan_command(options: Iterable[str], address: object) -> list[str]:
    """The nmap that scans `address`: no names are looked up, and nobody is asked first whether the host is up."""
    return ["nmap", "-n", "-Pn", "--reason", *options, str(address)]


def beside_vpn(worker: object, server: object, *, port: int, private: object, stranger: object) -> str:
    """What a worker must not send or get on the public network, as a pcap-filter(7) expression.

    That is all between it and the server but the VPN, and all of the private network. What the stranger sent does not
    count, nor does the server's word that the VPN is not there yet.
    """
    # Not `!=`: that would be true of ICMP only.
    not_there_yet = "icmp[icmptype] == icmp-unreach"
    beside = f"host {worker} and host {server} and not udp port {port} and not {not_there_yet}"
    return f"ip and not host {stranger} and (({beside}) or net {private})"


async def count_packets(captures: Collection[Path], expression: str) -> tuple[int, str]:
    """How many packets in the captures match the pcap-filter(7) expression, and the first few of them as text."""
    lines: list[str] = []
    for capture in captures:
        lines += (await _read_capture(capture, expression)).splitlines()
    return len(lines), "\n".join(lines[:5])


async def _read_capture(capture: Path, expression: str) -> str:
    """What tcpdump prints of a capture, to which QEMU goes on writing: its last packet may be there in part."""
    command = tcpdump_command(capture, expression)
    for _ in range(_MOST_READS - 1):
        try:
            return await asyncio.to_thread(run_program, command, timeout_s=_READ_LIMIT_S)
        except BuildError as error:
            if "truncated" not in error.what:
                raise
            await asyncio.sleep(_READ_PAUSE_S)
    return await asyncio.to_thread(run_program, command, timeout_s=_READ_LIMIT_S)


def tcpdump_command(capture: Path, expression: str) -> list[str]:
    """The tcpdump that prints a line for each matching packet in a file."""
    # As root it would become a user who may not read the file.
    return ["tcpdump", *_own_user(), "-n", "-q", "-r", str(capture), expression]


def _own_user() -> Iterator[str]:
    if os.geteuid() == 0:
        yield from ("-Z", "root")
