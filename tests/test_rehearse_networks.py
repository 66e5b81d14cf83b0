"""Networks in namespaces of their own. Nothing here sends a packet, in there or elsewhere."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from imagebuilder.host.checks import check_rehearsal
from imagebuilder.image.store import Store
from imagebuilder.rehearse.leavings import HOLDER, end_kept, kept_rehearsals
from imagebuilder.rehearse.networks import Holder, bridge_commands, dnsmasq_options, open_networks, tap_name
from imagebuilder.rehearse.topology import Topology, make_topology
from tests.machines import PROJECT, machine_of, shipped_site

AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def _succeeds(*command: str | Path) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


HERE = check_rehearsal(os.geteuid())
needs_namespaces = pytest.mark.skipif(HERE.state != "ok", reason=HERE.found)
needs_another_user = pytest.mark.skipif(
    os.geteuid() != 0
    or not _succeeds(*AS_NOBODY, "unshare", "--user", "--map-root-user", "--net", "true")
    or not _succeeds(*AS_NOBODY, "test", "-r", Path(__file__)),
    reason="cannot become a plain user who has namespaces and may read the project",
)


def topology() -> Topology:
    site = shipped_site()
    return make_topology(site, [machine_of(site, name) for name in ("oneserver", "local01")], 2)


def links(*enter: str) -> list[str]:
    """The names of the network interfaces."""
    text = subprocess.run([*enter, "ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in text.splitlines()]


def network_of(pid: int) -> str:
    """What tells the network namespace of a process from others."""
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def wait_until_nobody_is_in(network: str) -> list[int]:
    """The processes that are in a network namespace after five seconds; none as soon as that is so."""
    end = time.monotonic() + 5
    while (found := list(_members(network))) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def _members(network: str) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str((process / "ns/net").readlink()) == network:
                yield int(process.name)


@contextmanager
def opener(directory: Path, afterwards: str, *, user: tuple[str, ...] = ()) -> Iterator["subprocess.Popen[str]"]:
    """A process that opens networks; killed after the block if it still runs."""
    command = [*user, sys.executable, "-m", "tests.open_networks", str(directory), afterwards]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def names_printed(process: "subprocess.Popen[str]") -> list[str]:
    """The interfaces that the process sees in there."""
    assert process.stdout is not None
    return [line.split()[0] for line in iter(process.stdout.readline, "\n")]


def holder_in(directory: Path) -> Holder:
    return Holder.from_json((directory / HOLDER).read_text(encoding="utf-8"))


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


# What is made


def test_there_is_a_bridge_a_network_and_a_tap_an_interface() -> None:
    assert list(bridge_commands(topology())) == [
        "link set lo up",
        "link add private type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        "link set private addrgenmode none up",
        "link add public type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        "link set public addrgenmode none up",
        "addr add 147.96.1.254/24 dev public",
        "addr add 169.254.169.254/32 dev public",
        "tuntap add dev tap0.0 mode tap",
        "link set tap0.0 addrgenmode none master private up",
        "tuntap add dev tap0.1 mode tap",
        "link set tap0.1 addrgenmode none master public up",
        "tuntap add dev tap1.0 mode tap",
        "link set tap1.0 addrgenmode none master private up",
        "tuntap add dev tap2.0 mode tap",
        "link set tap2.0 addrgenmode none master public up",
        "tuntap add dev tap3.0 mode tap",
        "link set tap3.0 addrgenmode none master public up",
    ]


def test_the_kernel_takes_the_name_of_every_tap() -> None:
    assert len(tap_name(999, 99)) < 16


def test_dhcp_is_for_the_workers_on_the_public_network_only_and_offers_no_way_out() -> None:
    networks = topology()
    macs = [worker.attachments[0].mac for worker in networks.workers]

    assert list(dnsmasq_options(networks)) == [
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=public",
        "--bind-dynamic",
        "--leasefile-ro",
        "--no-daemon",
        "--log-dhcp",
        "--dhcp-range=147.96.1.0,static,255.255.255.0,1h",
        "--dhcp-option=option:router",
        "--dhcp-option=option:dns-server",
        "--dhcp-option=option:classless-static-route,169.254.169.254/32,0.0.0.0",
        f"--dhcp-host={macs[0]},147.96.1.253",
        f"--dhcp-host={macs[1]},147.96.1.252",
    ]


# The process that holds them


def test_a_holder_is_the_same_after_it_was_written_down(sleeper: "subprocess.Popen[bytes]") -> None:
    holder = Holder.of(sleeper.pid)

    assert Holder.from_json(holder.to_json()) == holder
    assert holder.is_alive()


@pytest.mark.parametrize("text", ["", "[]", '{"pid": "many", "started": "1"}', "7"])
def test_what_is_no_holder_is_not_read_as_one(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        Holder.from_json(text)


def test_a_holder_is_gone_when_its_end_returns(sleeper: "subprocess.Popen[bytes]") -> None:
    holder = Holder.of(sleeper.pid)

    holder.end()

    assert not holder.is_alive()
    assert sleeper.wait(0) == -signal.SIGKILL


def test_a_holder_that_has_gone_may_be_ended_again(sleeper: "subprocess.Popen[bytes]") -> None:
    holder = Holder.of(sleeper.pid)
    sleeper.kill()
    sleeper.wait()

    holder.end()

    assert not holder.is_alive()


def test_a_process_that_has_ended_and_was_not_waited_for_is_gone(sleeper: "subprocess.Popen[bytes]") -> None:
    holder = Holder.of(sleeper.pid)

    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)

    assert not holder.is_alive()


def test_another_process_with_the_holder_s_number_is_left_alone(sleeper: "subprocess.Popen[bytes]") -> None:
    holder = Holder(pid=sleeper.pid, started="1")

    holder.end()

    assert not holder.is_alive()
    assert sleeper.poll() is None


def test_a_program_with_a_strange_name_has_a_start_all_the_same(tmp_path: Path) -> None:
    program = tmp_path / "a) b (c"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        holder = Holder.of(process.pid)
        process.kill()

    assert holder.started.isdecimal()


# The real ones


@needs_namespaces
def test_networks_are_in_a_namespace_and_nothing_of_them_is_outside(tmp_path: Path) -> None:
    before = links()

    with open_networks(topology(), directory=tmp_path, log=tmp_path / "log") as networks:
        inside, outside = links(*networks.enter), links()
        network = network_of(networks.holder.pid)

    assert inside == ["lo", "private", "public", "tap0.0", "tap0.1", "tap1.0", "tap2.0", "tap3.0"]
    assert before == outside == links()
    assert network != network_of(os.getpid())
    assert not networks.holder.is_alive()
    assert wait_until_nobody_is_in(network) == []


@needs_namespaces
def test_networks_end_with_a_block_that_fails(tmp_path: Path) -> None:
    seen = []

    def fail() -> None:
        with open_networks(topology(), directory=tmp_path, log=tmp_path / "log") as networks:
            seen.append(network_of(networks.holder.pid))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert wait_until_nobody_is_in(seen[0]) == []


@needs_namespaces
def test_networks_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    with opener(tmp_path, "wait") as process:
        inside = names_printed(process)
        holder = holder_in(tmp_path)
        network = network_of(holder.pid)

        process.kill()

        assert inside == ["lo", "private", "public"]
        assert wait_until_nobody_is_in(network) == []
        assert not holder.is_alive()


@needs_namespaces
def test_networks_that_are_kept_outlive_their_process_until_somebody_ends_them(tmp_path: Path) -> None:
    directory = tmp_path / "rehearsals/one"
    directory.mkdir(parents=True)
    with opener(directory, "keep") as process:
        names_printed(process)
        code = process.wait(10)
    holder = holder_in(directory)
    network = network_of(holder.pid)

    [kept] = kept_rehearsals(Store(root=tmp_path))
    was_alive = holder.is_alive()
    end_kept(kept)

    assert (code, was_alive, holder.is_alive()) == (0, True, False)
    assert wait_until_nobody_is_in(network) == []
    assert not directory.exists()


@needs_namespaces
@needs_another_user
def test_a_plain_user_can_have_networks_too() -> None:
    with TemporaryDirectory() as name:
        os.chown(name, 65534, 65534)
        with opener(Path(name), "once", user=AS_NOBODY) as process:
            inside = names_printed(process)
            code = process.wait(10)
        holder = holder_in(Path(name))

    assert (code, inside) == (0, ["lo", "private", "public"])
    assert not holder.is_alive()
