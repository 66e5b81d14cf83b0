"""The cloud as a process of its own, and what is kept from one to the next."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner, Result

from imagebuilder.cli import app
from imagebuilder.cloud import find_cloud, running_cloud, stop_cloud
from imagebuilder.errors import HostError, UsageError
from tests.cloud.clients import AT_ONCE, Clients, block


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "store" / "cloud"
    stop_cloud(tmp_path / "store" / "cloud")


def command(state: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["--store", str(state.parent), "cloud", *words])


def exported(outcome: Result) -> dict[str, str]:
    pairs = (line.removeprefix("export ").partition("=") for line in outcome.stdout.splitlines())
    return {name: value for name, _, value in pairs}


def processes_of(state: Path) -> list[str]:
    """The first words of the processes that work in a state directory."""
    links = Path("/proc").glob("[0-9]*/cwd")
    return [link.parent.name for link in links if os.access(link, os.R_OK) and link.resolve() == state.resolve()]


def left_running(state: Path, *, within_s: float = 10) -> list[str]:
    """The processes that are there still after that time; returns as soon as there is none."""
    until = time.monotonic() + within_s
    while (left := processes_of(state)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def test_it_is_started_found_used_and_stopped(state: Path) -> None:
    started = command(state, "start", "--set", "snapshot_visible_after_s=0")
    found = command(state, "start")
    as_json = command(state, "start", "--json")
    cloud = find_cloud(state)
    assert cloud is not None
    snapshot = Clients(cloud).start()
    shown = command(state, "status", "--json")
    stopped = command(state, "stop")
    after = command(state, "status", "--json")

    assert exported(started)["AWS_ENDPOINT_URL"] == cloud.endpoint
    assert exported(found) == exported(started) == json.loads(as_json.stdout)
    assert [snapshot] == list(json.loads(shown.stdout)["state"]["regions"]["us-east-1"]["snapshots"])
    assert [one.exit_code for one in (started, found, shown, stopped, after)] == [0, 0, 0, 0, 1]
    assert json.loads(after.stdout)["running"] is False
    assert processes_of(state) == []


def test_one_that_was_killed_leaves_nothing_running_and_starts_again_with_all_it_had(state: Path) -> None:
    command(state, "start", "--set", "snapshot_visible_after_s=0", "--set", "snapshot_completes_after_s=0")
    first = find_cloud(state)
    assert first is not None
    aws = Clients(first)
    snapshot = aws.snapshot(block(b"a"))
    image = aws.image("kept", snapshot)
    pending = aws.start()
    aws.put(pending, 3, block(b"b"))
    os.kill(int((state / "lock").read_text(encoding="utf-8")), signal.SIGKILL)
    left = left_running(state)

    again = command(state, "start")

    second = find_cloud(state)
    assert second is not None
    after = Clients(second)
    assert left == []
    assert exported(again) == dict(first.environment)
    assert after.read(snapshot) == {0: block(b"a")}
    assert after.ec2.describe_images(ImageIds=[image])["Images"][0]["Name"] == "kept"
    after.put(pending, 4, block(b"c"))
    assert after.ebs.complete_snapshot(SnapshotId=pending, ChangedBlocksCount=2)["Status"] == "pending"


def test_two_clouds_cannot_have_one_state(tmp_path: Path) -> None:
    with running_cloud(tmp_path, tuning=AT_ONCE), pytest.raises(HostError, match="runs already"):
        running_cloud(tmp_path).__enter__()


def test_the_secret_is_for_its_owner_only(tmp_path: Path) -> None:
    with running_cloud(tmp_path):
        mode = (tmp_path / "credentials.json").stat().st_mode & 0o777

    assert mode == 0o600


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with running_cloud(tmp_path):
        pass
    (tmp_path / "credentials.json").chmod(0o644)

    with pytest.raises(HostError, match="others may read"):
        running_cloud(tmp_path).__enter__()


def test_blocks_that_no_snapshot_has_are_swept_away(tmp_path: Path) -> None:
    with running_cloud(tmp_path, tuning=AT_ONCE) as cloud:
        kept = Clients(cloud).snapshot(block(b"a"))
    stray = tmp_path / "blocks" / "00" / ("00" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"left by one that was killed")

    with running_cloud(tmp_path, tuning=AT_ONCE) as cloud:
        read = Clients(cloud).read(kept)

    assert read == {0: block(b"a")}
    assert not stray.exists()


def test_the_blocks_of_a_deleted_snapshot_take_no_room(tmp_path: Path) -> None:
    with running_cloud(tmp_path, tuning=AT_ONCE) as cloud:
        aws = Clients(cloud)
        aws.ec2.delete_snapshot(SnapshotId=aws.snapshot(block(b"a"), block(b"b")))

        left = [path for path in (tmp_path / "blocks").rglob("*") if path.is_file()]

    assert left == []


def test_an_unknown_setting_is_an_error_that_names_the_known_ones(state: Path) -> None:
    outcome = command(state, "start", "--set", "speed=9")

    assert isinstance(outcome.exception, UsageError)
    assert "snapshot_completes_after_s" in str(outcome.exception)


def test_one_that_runs_cannot_be_started_in_another_way(state: Path) -> None:
    with running_cloud(state, tuning=AT_ONCE):
        outcome = command(state, "start", "--set", "snapshot_completes_after_s=0")

    assert isinstance(outcome.exception, UsageError)
    assert "runs already" in str(outcome.exception)


def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with running_cloud(tmp_path / "first", tuning=AT_ONCE) as first:
        port = urlsplit(first.endpoint).port

        with pytest.raises(HostError, match="choose another port"):
            running_cloud(tmp_path / "second", port=port).__enter__()


def test_a_cloud_has_the_port_again_that_it_had(tmp_path: Path) -> None:
    with running_cloud(tmp_path, tuning=AT_ONCE) as cloud:
        before = cloud.endpoint

    with running_cloud(tmp_path, tuning=AT_ONCE) as cloud:
        assert cloud.endpoint == before


def test_a_fault_that_cannot_be_is_an_error(state: Path) -> None:
    outcome = command(state, "fault", "add", "kind=explode")

    assert isinstance(outcome.exception, UsageError)
    assert str(outcome.exception).startswith("cloud fault add: kind: ")


def test_faults_need_a_cloud(state: Path) -> None:
    outcome = command(state, "fault", "list")

    assert isinstance(outcome.exception, HostError)
    assert "imgbuild cloud start" in str(outcome.exception)
