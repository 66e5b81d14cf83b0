"""What nmap 7.93 prints, in namespaces with the firewalls that the names say, and what is read in it."""

import asyncio
import shutil
import struct
from pathlib import Path

import pytest

from imagebuilder.errors import BuildError
from imagebuilder.rehearse.packets import count_packets, read_scan, scan_command, tcpdump_command

ALL_FILTERED = """\
Starting Nmap 7.93 ( https://nmap.org ) at 2026-11-25 04:26 UTC
Nmap scan report for 192.0.2.1
Host is up, received user-set.
All 100 scanned ports on 192.0.2.1 are in ignored states.
Not shown: 100 filtered tcp ports (no-response)

Nmap done: 1 IP address (1 host up) scanned in 2.14 seconds
"""
ONE_OPEN = """\
Starting Nmap 7.93 ( https://nmap.org ) at 2026-11-25 04:26 UTC
Nmap scan report for 192.0.2.1
Host is up, received user-set (0.000013s latency).
Not shown: 99 filtered tcp ports (no-response)
PORT   STATE SERVICE REASON
22/tcp open  ssh     syn-ack ttl 64

Nmap done: 1 IP address (1 host up) scanned in 1.04 seconds
"""
ALL_CLOSED = """\
Starting Nmap 7.93 ( https://nmap.org ) at 2026-11-25 04:26 UTC
Nmap scan report for 192.0.2.1
Host is up, received user-set (0.0000020s latency).
All 100 scanned ports on 192.0.2.1 are in ignored states.
Not shown: 100 closed tcp ports (reset)

Nmap done: 1 IP address (1 host up) scanned in 0.44 seconds
"""
MIXED = """\
Starting Nmap 7.93 ( https://nmap.org ) at 2026-11-25 04:26 UTC
Nmap scan report for 192.0.2.1
Host is up, received user-set (0.0000030s latency).
Not shown: 72 closed tcp ports (reset), 21 filtered tcp ports (no-response), 6 filtered tcp ports (admin-prohibited)
PORT   STATE SERVICE REASON
22/tcp open  ssh     syn-ack ttl 64

Nmap done: 1 IP address (1 host up) scanned in 0.33 seconds
"""
CLOSED_LISTED = """\
Starting Nmap 7.93 ( https://nmap.org ) at 2026-11-25 04:26 UTC
Nmap scan report for 192.0.2.1
Host is up, received user-set (0.000041s latency).

PORT   STATE  SERVICE REASON
21/tcp closed ftp     reset ttl 64
22/tcp open   ssh     syn-ack ttl 64
23/tcp closed telnet  reset ttl 64

Nmap done: 1 IP address (1 host up) scanned in 0.55 seconds
"""
UDP = """\
Starting Nmap 7.93 ( https://nmap.org ) at 2026-11-25 04:26 UTC
Nmap scan report for 192.0.2.1
Host is up, received user-set (0.00022s latency).

PORT     STATE         SERVICE       REASON
111/udp  open|filtered rpcbind       no-response
1194/udp open|filtered openvpn       no-response
2049/udp open|filtered nfs           no-response
2050/udp closed        av-emb-config port-unreach ttl 64

Nmap done: 1 IP address (1 host up) scanned in 1.91 seconds
"""
UDP_SILENT = """\
Starting Nmap 7.93 ( https://nmap.org ) at 2026-11-25 04:26 UTC
Nmap scan report for 192.0.2.1
Host is up, received user-set.
All 60 scanned ports on 192.0.2.1 are in ignored states.
Not shown: 60 open|filtered udp ports (no-response)

Nmap done: 1 IP address (1 host up) scanned in 2.17 seconds
"""
UDP_CLOSED = """\
Starting Nmap 7.93 ( https://nmap.org ) at 2026-11-25 04:26 UTC
Nmap scan report for 192.0.2.1
Host is up, received user-set (0.0000020s latency).
All 60 scanned ports on 192.0.2.1 are in ignored states.
Not shown: 60 closed udp ports (port-unreach)

Nmap done: 1 IP address (1 host up) scanned in 0.11 seconds
"""

needs_tcpdump = pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")

ETHERNET = 1
FROM_A_TO_B = bytes.fromhex(
    # Ethernet, then IPv4 and UDP without contents: 192.0.2.1 port 1 to 192.0.2.2 port 2.
    "02000000000202000000000108004500001c0000000040110000c0000201c00002020001000200080000"
)


def capture(file: Path, *frames: bytes) -> Path:
    """A file of packets as QEMU's filter-dump writes it, pcap(5)."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 128, ETHERNET)
    file.write_bytes(head + b"".join(struct.pack("<IIII", 1, 0, len(one), len(one)) + one for one in frames))
    return file


@pytest.mark.parametrize("text", [ALL_FILTERED, UDP_SILENT])
def test_a_host_that_keeps_silent_has_no_answers(text: str) -> None:
    found = read_scan(text)

    assert (found.answering, found.unlisted, found.open) == ((), 0, set())


def test_an_open_port_is_listed_among_silent_ones() -> None:
    found = read_scan(ONE_OPEN)

    assert (found.answering, found.unlisted, found.open) == (("22/tcp open",), 0, {"22/tcp"})


@pytest.mark.parametrize(("text", "count"), [(ALL_CLOSED, 100), (UDP_CLOSED, 60)])
def test_ports_that_say_they_are_closed_have_answered_though_nmap_hides_them(text: str, count: int) -> None:
    found = read_scan(text)

    assert (found.answering, found.unlisted) == ((), count)


def test_of_ports_that_are_not_shown_only_those_that_answered_count() -> None:
    found = read_scan(MIXED)

    assert (found.answering, found.unlisted) == (("22/tcp open",), 72)


def test_closed_ports_that_are_listed_have_answered_and_are_not_open() -> None:
    found = read_scan(CLOSED_LISTED)

    assert found.answering == ("21/tcp closed", "22/tcp open", "23/tcp closed")
    assert found.open == {"22/tcp"}


def test_a_udp_port_that_keeps_silent_is_no_answer() -> None:
    found = read_scan(UDP)

    assert (found.answering, found.open) == (("2050/udp closed",), set())


def test_a_scan_looks_up_no_names_and_asks_nobody_first() -> None:
    command = scan_command(("-sU", "-p", "111"), "192.0.2.1")

    assert command == ["nmap", "-n", "-Pn", "--reason", "-sU", "-p", "111", "192.0.2.1"]


@needs_tcpdump
def test_packets_are_counted_over_all_captures_and_the_first_are_shown(tmp_path: Path) -> None:
    captures = [capture(tmp_path / "a.pcap", *[FROM_A_TO_B] * 4), capture(tmp_path / "b.pcap", *[FROM_A_TO_B] * 3)]

    count, first = asyncio.run(count_packets(captures, "src host 192.0.2.1 and udp port 2"))

    assert count == 7
    assert len(first.splitlines()) == 5
    assert "192.0.2.1.1 > 192.0.2.2.2: UDP" in first


@needs_tcpdump
def test_a_wrong_expression_is_an_error_and_never_no_packets(tmp_path: Path) -> None:
    captured = capture(tmp_path / "a.pcap", FROM_A_TO_B)

    with pytest.raises(BuildError, match="tcpdump"):
        asyncio.run(count_packets([captured], "src hose 192.0.2.1"))


def test_a_capture_is_read_and_nothing_is_captured(tmp_path: Path) -> None:
    command = tcpdump_command(tmp_path / "a.pcap", "ip")

    assert command[-5:] == ["-n", "-q", "-r", str(tmp_path / "a.pcap"), "ip"]
