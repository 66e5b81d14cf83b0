import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.operate.ssh import server_address
from imagebuilder.recipe.cluster import Firewall
from tests.cluster_server import ClusterServer, cluster_server, ssh_program
from tests.command import IMGBUILD, Run, environment
from tests.machines import PROJECT, shipped_site

pytestmark = pytest.mark.remote

CASES = PROJECT / "tests/cases/qstat"
INSTANCE = "i-0396f7a2221e68978"
TROUBLE = "error: commlib error: got select error (Connection refused)"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ClusterServer]:
    """The server of the example cluster: a node and a worker, which run a job each; more jobs wait."""
    with cluster_server(tmp_path) as server:
        server.install("date", "echo 2026-11-29T17:50:00")
        server.install("qstat", f"cat {CASES}/busy.xml")
        server.note("workers/workernode0", "here 0a:00")
        server.note("sessions/workernode0", "75.101.155.97:1194")
        server.note("instances/workernode0", INSTANCE)
        yield server


@pytest.fixture
def status(run: Run, server: ClusterServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `imgbuild cluster status …` on this project, by an ssh that knows the server."""
    monkeypatch.setenv("PATH", f"{ssh_program(server)}:/usr/bin:/bin")
    return lambda *words: run("-C", str(PROJECT), "cluster", "status", *words)


def processes_of(server: ClusterServer) -> list[int]:
    """The ssh clients that were started and are still there."""
    pids = map(int, (server.directory / "client/ssh.pids").read_text().split())
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


# One look


def test_one_table_has_the_queue_the_jobs_and_the_workers(status: Run) -> None:
    code, out, err = status("--host", "oneserver")

    assert (code, err) == (0, "")
    assert out == (CASES / "busy.txt").read_text(encoding="utf-8")


def test_the_server_is_where_the_recipes_say_unless_told(status: Run, server: ClusterServer) -> None:
    code, _, err = status()

    assert (code, err, server.logins) == (0, "", 1)


def test_ssh_goes_to_the_public_address_only_where_the_firewall_lets_it_in() -> None:
    cluster = shipped_site().cluster
    opened = [
        replace(cluster, recipe=cluster.recipe.model_copy(update={"firewall": Firewall(server_ports=ports)}))
        for ports in (("80", "20-25"), ("80", "23-25"))
    ]

    addresses = [str(server_address(one)) for one in (cluster, *opened)]

    assert addresses == ["10.1.1.99", "147.96.1.100", "10.1.1.99"]


def test_a_queue_instance_that_is_not_well_is_exit_code_1(status: Run, server: ClusterServer) -> None:
    server.note("workers/workernode0", "gone 4711")

    code, out, err = status()

    assert (code, err) == (1, "")
    assert out.endswith("0 workers on the VPN; not well: workernode0\n")


def test_the_json_names_address_and_instance_of_a_worker(status: Run) -> None:
    code, out, _ = status("--json")

    found = json.loads(out)
    [worker] = [host for host in found["hosts"] if host["kind"] == "worker"]
    assert (code, found["well"]) == (0, True)
    assert worker["vpn"] == {
        "connected": True,
        "address": "10.1.1.100",
        "public_address": "75.101.155.97",
        "instance_id": INSTANCE,
    }


def test_no_ssh_is_left_and_no_shell(status: Run, server: ClusterServer) -> None:
    status()

    assert processes_of(server) == []


# What may be in the way


def test_a_server_where_nothing_listens_cannot_be_reached(status: Run) -> None:
    code, out, err = status("--host", "nowhere")

    assert (code, out) == (6, "")
    assert err == (
        "imgbuild: nowhere: ssh: connect to host 127.0.0.1 port 1: Connection refused\n"
        "  fix: see that it is up and lets ssh in from here (`firewall.server_ports`), or name another way by --host\n"
    )


def test_a_user_whose_key_is_not_known_is_told_how_it_comes_to_be(status: Run, server: ClusterServer) -> None:
    ssh_program(server, identity="stranger")

    code, out, err = status("--host", "oneserver")

    assert (code, out) == (6, "")
    assert err == (
        "imgbuild: oneserver: clouduser@127.0.0.1: Permission denied (publickey).\n"
        "  fix: have a key of yours in `users.NAME.ssh_keys` of the cluster, and name that user: --host NAME@SERVER\n"
    )


def test_a_server_with_another_key_than_the_known_one_is_not_asked(status: Run, server: ClusterServer) -> None:
    ssh_program(server, host_key="stranger")

    code, out, err = status("--host", "oneserver")

    assert (code, out, server.logins) == (6, "", 0)
    assert err == (
        "imgbuild: oneserver: ssh does not know its host key, or knows another\n"
        "  fix: run `ssh oneserver` once, and compare the key with what the server's console says\n"
    )


def test_a_server_that_does_not_answer_in_time_is_given_up(status: Run, server: ClusterServer) -> None:
    server.install("qstat", "exec sleep 60")

    code, out, err = status("--timeout", "1")

    assert (code, out) == (6, "")
    assert err == (
        "imgbuild: 10.1.1.99: does not answer within 1 s\n  fix: see that it is up, and give it longer by --timeout\n"
    )
    assert processes_of(server) == []


def test_a_grid_engine_that_does_not_answer_is_told_from_a_server_that_does_not(
    status: Run, server: ClusterServer
) -> None:
    server.install("qstat", f"echo '{TROUBLE}' >&2; exit 1")

    code, out, err = status()

    assert (code, out) == (6, "")
    assert err == (
        f"imgbuild: Grid Engine does not answer: {TROUBLE}\n"
        "  fix: on the server, see `systemctl status gridengine-master`\n"
    )


def test_a_server_without_grid_engine_is_told_from_one_that_does_not_answer(status: Run, server: ClusterServer) -> None:
    (server.directory / "programs/qstat").unlink()

    code, _, err = status()

    assert code == 6
    assert err.startswith("imgbuild: Grid Engine does not answer: sh: ")
    assert "qstat: not found\n" in err


@pytest.mark.parametrize("host", ["-oProxyCommand=reboot", ""])
def test_an_option_is_no_host(host: str, status: Run) -> None:
    code, out, err = status(f"--host={host}")

    assert (code, out) == (2, "")
    assert err == f"imgbuild: '{host}' is no host\n  fix: write --host SERVER, or --host USER@SERVER\n"


def test_a_rehearsal_is_not_reached_by_ssh(status: Run) -> None:
    code, _, err = status("--rehearsal", "--host", "oneserver")

    assert (code, err) == (
        2,
        "imgbuild: a rehearsal is not reached by ssh\n  fix: leave out --host or --rehearsal\n",
    )


def test_without_a_rehearsal_there_is_none_to_look_at(status: Run, tmp_path: Path) -> None:
    code, _, err = status("--rehearsal")

    assert code == 2
    assert err == (f"imgbuild: {tmp_path}/.imgbuild: no rehearsal runs on\n  fix: run `imgbuild rehearse --keep`\n")


# Watching


@contextmanager
def watching(server: ClusterServer, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """`imgbuild cluster status --watch …`, which looks ten times a second."""
    path = f"{ssh_program(server)}:/usr/bin:/bin"
    with subprocess.Popen(
        [IMGBUILD, "cluster", "status", "--watch", "--every", "0.1", *words],
        env={**environment(PROJECT, server.directory / "store"), "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watcher:
        try:
            yield watcher
        finally:
            watcher.kill()


def line_with(watcher: "subprocess.Popen[str]", text: str) -> str:
    """The next line that has `text` in it; empty if the program ends before."""
    assert watcher.stdout is not None
    return next((line for line in watcher.stdout if text in line), "")


def interrupt(watcher: "subprocess.Popen[str]") -> tuple[int, str]:
    """Press Ctrl-C, and return the exit code and what came on standard error."""
    watcher.send_signal(signal.SIGINT)
    _, trouble = watcher.communicate(timeout=30)
    return watcher.returncode, trouble


def test_watching_logs_in_once_and_ends_by_ctrl_c_without_leaving_anything(server: ClusterServer) -> None:
    with watching(server) as watcher:
        seen = [line_with(watcher, "all is well") for _ in range(3)]
        ended = interrupt(watcher)

    assert [bool(line) for line in seen] == [True, True, True]
    assert ended == (0, "")
    assert server.logins == 1
    assert processes_of(server) == []


def test_what_changes_is_seen(server: ClusterServer) -> None:
    with watching(server) as watcher:
        before = line_with(watcher, "on the VPN")
        server.note("workers/workernode0", "gone 4711")
        after = line_with(watcher, "not well")

    assert "1 worker on the VPN; all is well" in before
    assert "0 workers on the VPN; not well: workernode0" in after


def test_a_connection_that_is_lost_is_said_and_made_anew(server: ClusterServer) -> None:
    with watching(server) as watcher:
        line_with(watcher, "all is well")
        server.call(server.hang_up())
        lost = line_with(watcher, "(trying again)")
        found = line_with(watcher, "all is well")
        interrupt(watcher)

    assert lost.startswith("10.1.1.99: ")
    assert found
    assert server.logins == 2
    assert processes_of(server) == []


def test_watching_as_json_gives_one_object_a_line(server: ClusterServer) -> None:
    with watching(server, "--json") as watcher:
        assert watcher.stdout is not None
        first = json.loads(watcher.stdout.readline())
        server.install("qstat", f"echo '{TROUBLE}' >&2; exit 1")
        trouble = json.loads(line_with(watcher, "error"))
        interrupt(watcher)

    assert first["well"] is True
    assert trouble == {"error": f"Grid Engine does not answer: {TROUBLE}"}


def test_what_cannot_be_reached_at_first_is_not_watched(server: ClusterServer) -> None:
    with watching(server, "--host", "nowhere") as watcher:
        out, err = watcher.communicate(timeout=30)

    assert (watcher.returncode, out) == (6, "")
    assert "Connection refused" in err


def read_terminal(descriptor: int, text: bytes, times: int) -> bytes:
    """What comes on a terminal, to a piece that has `text` in it for the second, third, … time."""
    shown = b""
    while shown.count(text) < times:
        shown += os.read(descriptor, 1 << 16)
    return shown


def test_on_a_terminal_the_table_is_refreshed_in_place(server: ClusterServer) -> None:
    here, there = os.openpty()
    path = f"{ssh_program(server)}:/usr/bin:/bin"
    with subprocess.Popen(
        [IMGBUILD, "cluster", "status", "--watch", "--every", "0.1"],
        env={**environment(PROJECT, server.directory / "store"), "PATH": path, "TERM": "xterm"},
        stdout=there,
        stderr=there,
    ) as watcher:
        os.close(there)
        shown = read_terminal(here, b"all is well", 2)
        watcher.send_signal(signal.SIGINT)
        code = watcher.wait(30)
    os.close(here)

    [between] = shown.split(b"all is well")[1:2]
    assert code == 0
    assert b"\x1b[1A" in between  # the cursor goes up again (ECMA-48, CUU)
