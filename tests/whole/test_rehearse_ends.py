"""However a rehearsal ends, nothing of it is left. That the cluster works is shown by `make rehearse`."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from imagebuilder.rehearse.networks import Holder
from tests.command import IMGBUILD, environment, imgbuild

pytestmark = pytest.mark.whole

_LIMIT_S = 60


def holders(site: Path) -> list[Holder]:
    return [Holder.from_json(file.read_text()) for file in (site / "store/rehearsals").glob("*/holder.json")]


def network_of(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def processes_in(network: str) -> set[str]:
    """The processes in a network namespace."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            own = str((process / "ns/net").readlink())
        except OSError:
            continue
        if own == network:
            found.add(process.name)
    return found


def left_in(network: str) -> set[str]:
    """What is still in a network namespace when everything in it has had the time to end."""
    end = time.monotonic() + _LIMIT_S
    while (left := processes_in(network)) and time.monotonic() < end:
        time.sleep(0.2)
    return left


def start(site: Path) -> tuple["subprocess.Popen[str]", str]:
    """A rehearsal with guests that are booting, and its network namespace."""
    process = subprocess.Popen(
        [IMGBUILD, "rehearse", "--only", "boot"],
        env=environment(site),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    booting = 0
    while booting < 3:
        booting += process.stderr.readline().rstrip().endswith("boots")
    [holder] = [one for one in holders(site) if one.is_alive()]
    network = network_of(holder.pid)
    # The holder, dnsmasq, and a QEMU for the server, the node and the worker.
    assert len(processes_in(network)) >= 5
    return process, network


def disks_of(site: Path) -> dict[Path, int]:
    return {disk: disk.stat().st_mtime_ns for disk in site.glob("store/*/**/disk.*")}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_rehearsal_leaves_nothing(number: signal.Signals, cluster: Path) -> None:
    before = disks_of(cluster)
    process, network = start(cluster)

    process.send_signal(number)
    _, said = process.communicate(timeout=_LIMIT_S)

    assert process.returncode == 130
    assert said.rstrip().endswith("interrupted; what was begun is cleaned up")
    assert "Traceback" not in said
    assert processes_in(network) == set()
    assert [path for path in (cluster / "store/rehearsals").iterdir() if path.is_dir()] == []
    assert disks_of(cluster) == before


def test_a_killed_rehearsal_leaves_a_directory_which_the_next_one_removes(cluster: Path) -> None:
    process, network = start(cluster)

    process.kill()
    process.communicate()

    assert left_in(network) == set()
    [leaving] = [path for path in (cluster / "store/rehearsals").iterdir() if path.is_dir()]

    following, _ = start(cluster)

    assert not leaving.exists()
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=_LIMIT_S)
    assert following.returncode == 130


def test_an_image_that_boots_alone_proves_itself(cluster: Path) -> None:
    done = imgbuild(cluster, "verify", "--boot", "node")

    assert (done.code, done.err.count("✗")) == (0, 0), done.err
    assert "as foreseen" in done.out
    assert "✓ local01.hostname.name" in done.err
    assert "✓ boot.local01.units" in done.err
