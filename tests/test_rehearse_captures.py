"""What is found in captures of a rehearsal, by tcpdump itself."""

import asyncio
import shutil
import struct
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from imagebuilder.rehearse.packets import beside_vpn, count_packets

pytestmark = pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")

WORKER, SERVER, STRANGER, OTHER = "147.96.1.253", "147.96.1.100", "147.96.1.254", "147.96.1.7"
BESIDE = beside_vpn(WORKER, SERVER, port=1194, private="10.1.1.0/24", stranger=STRANGER)
TCP, UDP, ICMP = 6, 17, 1
UNREACHABLE, ECHO = 3, 8


def packet(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    """An Ethernet frame with an IPv4 packet."""
    addresses = IPv4Address(source).packed + IPv4Address(target).packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0) + addresses
    return bytes(12) + b"\x08\x00" + header + payload


def udp(source: str, target: str, port: int) -> bytes:
    return packet(source, target, UDP, struct.pack("!HHHH", 40000, port, 8, 0))


def tcp(source: str, target: str, port: int) -> bytes:
    return packet(source, target, TCP, struct.pack("!HHIIBBHHH", 40000, port, 0, 0, 0x50, 2, 1024, 0, 0))


def icmp(source: str, target: str, kind: int) -> bytes:
    return packet(source, target, ICMP, struct.pack("!BBHI", kind, 3, 0, 0))


def capture(file: Path, *frames: bytes) -> Path:
    """A pcap file, as QEMU writes it."""
    head = struct.pack("!IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 128, 1)
    rows = (struct.pack("!IIII", 0, 0, len(frame), len(frame)) + frame for frame in frames)
    file.write_bytes(head + b"".join(rows))
    return file


def count(file: Path, expression: str) -> int:
    return asyncio.run(count_packets([file], expression))[0]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(tcp(WORKER, SERVER, 2049), id="NFS to the public address"),
        pytest.param(udp(SERVER, WORKER, 111), id="an answer of the portmapper"),
        pytest.param(icmp(WORKER, SERVER, ECHO), id="a ping"),
        pytest.param(tcp("10.1.1.100", "10.1.1.99", 2049), id="the private network in the clear"),
        pytest.param(tcp(WORKER, "10.1.1.55", 22), id="to the private network by another way"),
    ],
)
def test_what_passes_beside_the_vpn_is_seen(frame: bytes, tmp_path: Path) -> None:
    file = capture(tmp_path / "worker.pcap", frame)

    assert count(file, BESIDE) == 1


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(udp(WORKER, SERVER, 1194), id="the VPN"),
        pytest.param(icmp(SERVER, WORKER, UNREACHABLE), id="the VPN is not there yet"),
        pytest.param(udp("0.0.0.0", "255.255.255.255", 67), id="DHCP"),
        pytest.param(tcp(STRANGER, "10.1.1.55", 22), id="what the stranger sent"),
        pytest.param(tcp(WORKER, OTHER, 80), id="the rest of the world"),
    ],
)
def test_what_is_no_business_of_the_private_network_is_left_out(frame: bytes, tmp_path: Path) -> None:
    file = capture(tmp_path / "worker.pcap", frame)

    assert count(file, "ip") == 1
    assert count(file, BESIDE) == 0


def test_packets_are_counted_over_all_captures(tmp_path: Path) -> None:
    files = [capture(tmp_path / name, udp(WORKER, SERVER, 1194), tcp(WORKER, SERVER, 22)) for name in ("a", "b")]

    total, first = asyncio.run(count_packets(files, "udp"))

    assert total == 2
    assert first.count("147.96.1.100.1194: UDP, length 0") == 2
