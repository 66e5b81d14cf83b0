"""An image becomes one AMI with the right bytes, or nothing is left that is not listed: whatever calls do."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imagebuilder.cloud import Fault, RunningCloud
from imagebuilder.ec2.records import Records
from imagebuilder.errors import LeftoversError, RemoteError
from tests.cloud.publishing import (
    BLOCKS,
    NAME,
    TUNING,
    account,
    cloud_in_environment,
    cluster,
    content,
    images,
    make_image,
    order,
    publish,
    snapshots,
)

FAULTS = [
    *[Fault(kind="throttle", action=action, count=3) for action in ("StartSnapshot", "RegisterImage", "CreateTags")],
    Fault(kind="throttle", action="PutSnapshotBlock", probability=0.3, seed=1),
    Fault(kind="throttle", action="DescribeSnapshots", count=2),
    Fault(kind="error-500", action="StartSnapshot", count=2),
    Fault(kind="error-500", action="PutSnapshotBlock", probability=0.2, seed=2),
    Fault(kind="error-503", action="CompleteSnapshot", nth=2, count=2),
    Fault(kind="error-503", action="RegisterImage", nth=2, count=2),
    Fault(kind="error-500", action="DescribeImages", nth=2, count=2),
    Fault(kind="slow", action="PutSnapshotBlock", probability=0.2, seed=3, delay_s=0.3),
    Fault(kind="trickle", action="RegisterImage", nth=2, bytes_per_s=400),
    Fault(kind="hang", action="PutSnapshotBlock", nth=5),
    Fault(kind="hang", action="StartSnapshot", nth=1, when="after"),
    Fault(kind="hang", action="RegisterImage", nth=2, when="after"),
    Fault(kind="hang", action="CompleteSnapshot", nth=2, when="after"),
    Fault(kind="drop", action="StartSnapshot", nth=1),
    Fault(kind="drop", action="StartSnapshot", nth=1, when="after"),
    Fault(kind="drop", action="PutSnapshotBlock", probability=0.2, seed=4),
    Fault(kind="drop", action="PutSnapshotBlock", probability=0.2, seed=5, when="after"),
    Fault(kind="drop", action="CompleteSnapshot", nth=2, when="after"),
    Fault(kind="drop", action="CreateTags", nth=2, when="after"),
    Fault(kind="drop", action="RegisterImage", nth=2),
    Fault(kind="drop", action="RegisterImage", nth=2, when="after"),
    Fault(kind="corrupt", action="PutSnapshotBlock", nth=7),
]
REFUSALS = [
    Fault(kind="access-denied", action="PutSnapshotBlock", nth=20, count=1000),
    Fault(kind="access-denied", action="CompleteSnapshot", nth=2, count=1000),
    Fault(kind="access-denied", action="RegisterImage", nth=2, count=1000),
    Fault(kind="access-denied", action="CreateTags", nth=2, count=1000),
    Fault(kind="expired-token", action="PutSnapshotBlock", nth=20, count=1),
    Fault(kind="error-500", action="PutSnapshotBlock", nth=20, count=1000),
    Fault(kind="hang", action="RegisterImage", nth=2, count=1000),
    Fault(kind="drop", action="RegisterImage", nth=2, count=1000, when="after"),
    Fault(kind="throttle", action="CompleteSnapshot", nth=2, count=1000),
]
UNDOING_FAILS = [
    [Fault(kind="access-denied", action="RegisterImage", nth=2, count=1000)],
    [Fault(kind="access-denied", action="PutSnapshotBlock", nth=20, count=1000)],
]


def named(fault: Fault) -> str:
    return f"{fault.action}-{fault.kind}-{fault.when}-{fault.seed}"


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningCloud]:
    with cloud_in_environment(tmp_path / "cloud", monkeypatch) as running:
        yield running


def assert_whole(disk: Path, scratch: Path) -> None:
    """One AMI, one snapshot, which has the disk's bytes."""
    [row] = images()
    [snapshot_id] = [mapping["Ebs"]["SnapshotId"] for mapping in row["BlockDeviceMappings"]]
    assert snapshots() == {snapshot_id}
    assert content(snapshot_id, scratch) == disk.read_bytes()
    attributes = ("Name", "State", "BootMode", "EnaSupport", "ImdsSupport", "VirtualizationType", "RootDeviceName")
    assert [row[name] for name in attributes] == [
        NAME, "available", "legacy-bios", True, "v2.0", "hvm", "/dev/xvda"
    ]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_faults_that_pass_change_nothing(cloud: RunningCloud, tmp_path: Path, fault: Fault) -> None:
    image = make_image(tmp_path / "image")
    cloud.add_fault(fault)

    record = publish(order(image), tmp_path / "records")

    assert any("fault" in call for call in cloud.requests())
    cloud.clear_faults()
    assert record.blocks_sent == BLOCKS
    assert_whole(image.disk, tmp_path / "scratch")


@pytest.mark.parametrize("fault", REFUSALS, ids=named)
def test_a_run_that_fails_leaves_nothing(cloud: RunningCloud, tmp_path: Path, fault: Fault) -> None:
    image = make_image(tmp_path / "image")
    cloud.add_fault(fault)

    with pytest.raises(RemoteError) as failed:
        publish(order(image), tmp_path / "records")

    cloud.clear_faults()
    assert failed.value.exit_code == 6
    assert (images(), snapshots()) == ([], set())
    publish(order(image), tmp_path / "records")
    assert_whole(image.disk, tmp_path / "scratch")


@pytest.mark.parametrize("faults", UNDOING_FAILS, ids=["register", "put"])
def test_what_cannot_be_undone_is_listed(cloud: RunningCloud, tmp_path: Path, faults: list[Fault]) -> None:
    image = make_image(tmp_path / "image")
    for fault in [*faults, Fault(kind="access-denied", action="DeleteSnapshot", nth=2, count=1000)]:
        cloud.add_fault(fault)

    with pytest.raises(LeftoversError) as failed:
        publish(order(image), tmp_path / "records")

    cloud.clear_faults()
    [snapshot_id] = snapshots()
    assert images() == []
    assert f"aws ec2 delete-snapshot --snapshot-id {snapshot_id} --region us-east-1" in str(failed.value)
    publish(order(image), tmp_path / "records")
    assert_whole(image.disk, tmp_path / "scratch")


@pytest.mark.parametrize("seed", range(12))
def test_a_killed_run_is_gone_on_with(cloud: RunningCloud, tmp_path: Path, seed: int) -> None:
    image = make_image(tmp_path / "image")
    cloud.add_fault(Fault(kind="slow", action="PutSnapshotBlock", delay_s=0.05))
    command = [sys.executable, "-m", "tests.cloud.publishing", str(image.directory)]
    moment_s = random.Random(seed).uniform(0.6, 4.0)

    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    time.sleep(moment_s)
    first.kill()
    first.wait()
    again = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (again.returncode, again.stderr) == (0, "")
    puts = [
        call["BlockIndex"] for call in cloud.requests() if (call["action"], call["status"]) == ("PutSnapshotBlock", 201)
    ]
    in_flight = 64  # what the first run's threads had sent, without having read the answer
    assert len(puts) - len(set(puts)) <= in_flight
    assert_whole(image.disk, tmp_path / "scratch")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(cloud: RunningCloud, tmp_path: Path, number: signal.Signals) -> None:
    image = make_image(tmp_path / "image")
    cloud.add_fault(Fault(kind="slow", action="PutSnapshotBlock", delay_s=1))
    command = [sys.executable, "-m", "tests.cloud.publishing", str(image.directory)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while not any(call["action"] == "PutSnapshotBlock" for call in cloud.requests()):
        time.sleep(0.05)

    run.send_signal(number)

    assert run.wait(timeout=30) == 130
    assert (images(), snapshots()) == ([], set())


@pytest.mark.usefixtures("cloud")
def test_a_second_image_on_the_base_sends_what_differs(tmp_path: Path) -> None:
    first, second = make_image(tmp_path / "one"), make_image(tmp_path / "two", changed=2)
    publish(order(first), tmp_path / "records")

    record = publish(order(second, "squirrel-worker-4567"), tmp_path / "records")

    assert record.blocks_sent == 2
    assert content(record.snapshot or "", tmp_path / "scratch") == second.disk.read_bytes()


@pytest.mark.usefixtures("cloud")
def test_all_is_sent_if_that_is_wanted(tmp_path: Path) -> None:
    first, second = make_image(tmp_path / "one"), make_image(tmp_path / "two", changed=2)
    publish(order(first), tmp_path / "records")

    record = publish(order(second, "squirrel-worker-4567", is_full=True), tmp_path / "records")

    assert record.blocks_sent == BLOCKS


@pytest.mark.usefixtures("cloud")
def test_an_image_is_registered_once(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image")
    first = publish(order(image), tmp_path / "records")

    again = publish(order(image), tmp_path / "records")

    assert (again.ami, again.blocks_sent, again.bytes_sent) == (first.ami, 0, 0)
    assert_whole(image.disk, tmp_path / "scratch")


@pytest.mark.usefixtures("cloud")
def test_a_dry_run_changes_nothing_though_the_ami_is_there(tmp_path: Path) -> None:
    wanted = order(make_image(tmp_path / "image"))
    made = publish(wanted, tmp_path / "records")

    found = publish(replace(wanted, is_dry_run=True), tmp_path / "elsewhere")

    assert found.ami == made.ami
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.usefixtures("cloud")
def test_a_name_that_another_image_has_is_refused(tmp_path: Path) -> None:
    publish(order(make_image(tmp_path / "one")), tmp_path / "records")
    other = make_image(tmp_path / "two", changed=1)

    with pytest.raises(RemoteError, match=f"another AMI, ami-[0-9a-f]+, has the name '{NAME}'"):
        publish(order(other), tmp_path / "records")

    assert len(snapshots()) == 1


@pytest.mark.parametrize(
    "action", ["RegisterImage", "CreateTags", "DeregisterImage", "DeleteSnapshot", "CompleteSnapshot"]
)
def test_what_is_not_allowed_is_known_before_the_first_byte(cloud: RunningCloud, tmp_path: Path, action: str) -> None:
    image = make_image(tmp_path / "image")
    cloud.add_fault(Fault(kind="access-denied", action=action))

    with pytest.raises(RemoteError, match=f"not allowed: (ec2|ebs):{action}"):
        publish(order(image), tmp_path / "records")

    assert "StartSnapshot" not in {call["action"] for call in cloud.requests()}


@pytest.mark.usefixtures("cloud")
def test_it_is_deprecated_when_that_is_wanted(tmp_path: Path) -> None:
    at = datetime(2028, 11, 25, tzinfo=UTC)

    publish(replace(order(make_image(tmp_path / "image")), deprecate_at=at), tmp_path / "records")

    [row] = images()
    assert row["DeprecationTime"] == "2028-11-25T00:00:00.000Z"


@pytest.mark.usefixtures("cloud")
def test_an_account_that_encrypts_gets_the_whole_volume(tmp_path: Path) -> None:
    account().ec2.enable_ebs_encryption_by_default()
    image = make_image(tmp_path / "image")

    record = publish(order(image), tmp_path / "records")

    assert record.blocks_sent == 2048


@pytest.mark.usefixtures("cloud")
def test_the_tags_say_what_it_was_made_from(tmp_path: Path) -> None:
    record = publish(order(make_image(tmp_path / "image")), tmp_path / "records")

    [row] = images()
    tags = {tag["Key"]: tag["Value"] for tag in row["Tags"]}
    assert tags["imgbuild:key"] == record.key
    assert tags["imgbuild:base"] == "b" * 64
    assert tags["imgbuild:carries"] == "private key"
    assert tags["imgbuild:authorized-ports"] == cluster().ec2.authorized_ports
    assert Records(directory=tmp_path / "records").all() == (record,)


def test_no_secret_is_in_what_a_run_leaves_or_says(cloud: RunningCloud, tmp_path: Path) -> None:
    secret = cloud.environment["AWS_SECRET_ACCESS_KEY"]
    image = make_image(tmp_path / "image")
    cloud.add_fault(Fault(kind="error-500", action="PutSnapshotBlock", probability=0.2))
    cloud.add_fault(Fault(kind="access-denied", action="RegisterImage", nth=2, count=1000))
    cloud.add_fault(Fault(kind="access-denied", action="DeleteSnapshot", nth=2, count=1000))
    command = [sys.executable, "-m", "tests.cloud.publishing", str(image.directory)]

    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    arguments = Path(f"/proc/{run.pid}/cmdline").read_text(encoding="utf-8")
    said = "".join(run.communicate())

    assert run.returncode == 7
    left = [path.read_bytes() for path in (image.directory / "records").iterdir()]
    assert len(left) >= 2
    assert [text for text in (arguments, said) if secret in text] == []
    assert [one for one in left if secret.encode() in one or b"Signature=" in one] == []


def test_an_ami_whose_answer_was_lost_is_found_though_it_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = TUNING.model_copy(update={"image_visible_after_s": 1.5})
    image = make_image(tmp_path / "image")
    with cloud_in_environment(tmp_path / "cloud", monkeypatch, slow) as cloud:
        cloud.add_fault(Fault(kind="drop", action="RegisterImage", nth=2, when="after"))

        record = publish(order(image), tmp_path / "records")

        assert [row["ImageId"] for row in images()] == [record.ami]
        assert snapshots() == {record.snapshot}
