"""An upload that is ended at any moment is gone on with, and makes one snapshot."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagebuilder.cloud import Fault, RunningCloud, Tuning, running_cloud
from imagebuilder.ec2.upload import Services
from tests.cloud.clients import Clients
from tests.cloud.uploads import account, block, journal_beside, puts, upload_again, write_disk

BLOCKS = {index: block(index) for index in range(40)}
TUNING = Tuning(snapshot_visible_after_s=0.05, snapshot_completes_after_s=0.3)
# The most that can be under way when the process is killed: there are two threads at first, and hardly time for more.
UNDER_WAY = 8


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[RunningCloud]:
    with running_cloud(tmp_path / "cloud", tuning=TUNING) as running:
        yield running


def snapshots(cloud: RunningCloud) -> dict[str, dict[str, object]]:
    regions: dict[str, dict[str, dict[str, dict[str, object]]]] = cloud.state()["regions"]  # type: ignore[assignment]
    return regions["us-east-1"]["snapshots"] if "us-east-1" in regions else {}


@contextmanager
def uploading(cloud: RunningCloud, disk: Path, until: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """An upload in a process of its own, that has come to where `until` is true."""
    write_disk(disk, BLOCKS)
    command = [sys.executable, "-m", "tests.upload_once", str(disk), str(len(BLOCKS))]
    environment = {**os.environ, **cloud.environment}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        try:
            while not until() and process.poll() is None:
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def killed(cloud: RunningCloud, disk: Path, until: Callable[[], bool]) -> None:
    with uploading(cloud, disk, until):
        pass
    cloud.clear_faults()


def require_one_whole_snapshot(cloud: RunningCloud, services: Services, disk: Path) -> None:
    with journal_beside(disk) as journal:
        noted = set(journal.blocks())
    sent_before = len(cloud.requests())

    uploaded = upload_again(services, disk, BLOCKS)

    assert list(snapshots(cloud)) == [uploaded.id]
    assert Clients(cloud).read(uploaded.id) == BLOCKS
    assert set(puts(cloud, since=sent_before)) == BLOCKS.keys() - noted
    assert len(puts(cloud, since=0)) <= len(BLOCKS) + UNDER_WAY


def test_killed_between_blocks(cloud: RunningCloud, tmp_path: Path) -> None:
    cloud.add_fault(Fault(kind="slow", action="PutSnapshotBlock", delay_s=0.03))

    killed(cloud, tmp_path / "disk", lambda: len(puts(cloud, since=0)) >= 17)

    require_one_whole_snapshot(cloud, account(cloud), tmp_path / "disk")


def test_killed_before_the_start_was_answered(cloud: RunningCloud, tmp_path: Path) -> None:
    cloud.add_fault(Fault(kind="hang", when="after", action="StartSnapshot"))

    killed(cloud, tmp_path / "disk", lambda: len(snapshots(cloud)) == 1)

    require_one_whole_snapshot(cloud, account(cloud), tmp_path / "disk")


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_it_is_sealed(cloud: RunningCloud, tmp_path: Path, when: str) -> None:
    cloud.add_fault(Fault.model_validate({"kind": "hang", "when": when, "action": "CompleteSnapshot"}))

    killed(cloud, tmp_path / "disk", lambda: "snapshot-sealing" in journal_text(tmp_path / "disk"))

    require_one_whole_snapshot(cloud, account(cloud), tmp_path / "disk")


def journal_text(disk: Path) -> str:
    journal = disk.with_suffix(".journal")
    return journal.read_text() if journal.exists() else ""


def test_an_interruption_ends_it_at_once_though_the_service_hangs(cloud: RunningCloud, tmp_path: Path) -> None:
    cloud.add_fault(Fault(kind="hang", action="PutSnapshotBlock"))

    with uploading(cloud, tmp_path / "disk", lambda: "snapshot-started" in journal_text(tmp_path / "disk")) as process:
        interrupted_at = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)

    assert said.splitlines()[-1] == b"KeyboardInterrupt"
    assert time.monotonic() - interrupted_at < 2
    assert cloud.credentials.secret.reveal() not in said
