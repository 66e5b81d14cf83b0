"""What takes its time, and what is too much."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuilder.cloud import RunningCloud, running_cloud
from tests.cloud.clients import AT_ONCE, Clients, block, refused

AN_HOUR_S = 3600.0
A_MOMENT_S = 0.2


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Clients]:
    with running_cloud(tmp_path, tuning=AT_ONCE.model_copy(update={"snapshot_visible_after_s": AN_HOUR_S})) as cloud:
        yield Clients(cloud)


@pytest.fixture
def completing(tmp_path: Path) -> Iterator[Clients]:
    with running_cloud(tmp_path, tuning=AT_ONCE.model_copy(update={"snapshot_completes_after_s": AN_HOUR_S})) as cloud:
        yield Clients(cloud)


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[RunningCloud]:
    """A cloud that lets one do each thing once, and again after a long time."""
    limits = dict.fromkeys(("starts_a_second", "puts_a_second", "describes_a_second"), 0.001)
    with running_cloud(tmp_path, tuning=AT_ONCE.model_copy(update={**limits, "describes_at_once": 1})) as cloud:
        yield cloud


def test_a_new_snapshot_does_not_exist_yet(waiting: Clients) -> None:
    snapshot = waiting.start()

    with refused("ResourceNotFoundException"):
        waiting.put(snapshot, 0, block(b"a"))
    with refused("InvalidSnapshot.NotFound"):
        waiting.ec2.describe_snapshots(SnapshotIds=[snapshot])


def test_a_completed_snapshot_is_pending_still(completing: Clients) -> None:
    snapshot = completing.snapshot(block(b"a"))

    [shown] = completing.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]

    assert (shown["State"], shown["Progress"]) == ("pending", "0%")
    with refused("IncorrectState"):
        completing.image("too-early", snapshot)


def test_what_is_new_is_there_after_a_moment(tmp_path: Path) -> None:
    delays = {
        "snapshot_visible_after_s": A_MOMENT_S,
        "snapshot_completes_after_s": A_MOMENT_S,
        "image_visible_after_s": A_MOMENT_S,
        "image_available_after_s": 2 * A_MOMENT_S,
    }
    with running_cloud(tmp_path, tuning=AT_ONCE.model_copy(update=delays)) as cloud:
        aws = Clients(cloud)
        snapshot = aws.start()
        time.sleep(A_MOMENT_S)
        aws.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)
        time.sleep(A_MOMENT_S)
        image = aws.image("slow", snapshot)
        time.sleep(2 * A_MOMENT_S)

        assert aws.ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available"


def test_a_new_image_is_pending_still(tmp_path: Path) -> None:
    with running_cloud(tmp_path, tuning=AT_ONCE.model_copy(update={"image_available_after_s": AN_HOUR_S})) as cloud:
        aws = Clients(cloud)
        image = aws.image("pending")

        assert aws.ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "pending"


def test_a_new_image_does_not_exist_yet_but_has_its_name(tmp_path: Path) -> None:
    with running_cloud(tmp_path, tuning=AT_ONCE.model_copy(update={"image_visible_after_s": AN_HOUR_S})) as cloud:
        aws = Clients(cloud)
        image = aws.image("unseen")

        with refused("InvalidAMIID.NotFound"):
            aws.ec2.describe_images(ImageIds=[image])
        with refused("InvalidAMIName.Duplicate"):
            aws.image("unseen")


def test_too_many_starts_are_throttled(narrow: RunningCloud) -> None:
    aws = Clients(narrow)
    aws.start()

    with refused("RequestThrottledException"):
        aws.start()


def test_too_many_puts_into_one_snapshot_are_throttled(narrow: RunningCloud) -> None:
    aws = Clients(narrow)
    snapshot = aws.start()
    aws.put(snapshot, 0, block(b"a"))

    with refused("RequestThrottledException"):
        aws.put(snapshot, 1, block(b"a"))


def test_too_many_reads_of_ec2_are_throttled(narrow: RunningCloud) -> None:
    aws = Clients(narrow)
    aws.ec2.describe_images()

    with refused("RequestLimitExceeded"):
        aws.ec2.describe_images()


def test_too_many_pending_snapshots_are_refused(tmp_path: Path) -> None:
    with running_cloud(tmp_path, tuning=AT_ONCE.model_copy(update={"pending_snapshots": 1})) as cloud:
        aws = Clients(cloud)
        first = aws.start()
        with refused("ConcurrentLimitExceededException"):
            aws.start()

        aws.ebs.complete_snapshot(SnapshotId=first, ChangedBlocksCount=0)

        assert aws.start() != first
