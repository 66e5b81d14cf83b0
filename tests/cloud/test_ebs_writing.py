"""The EBS direct APIs, where they write: what is refused, and that what is right is kept."""

import time
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from imagebuilder.cloud import running_cloud
from tests.cloud.clients import AT_ONCE, BLOCK, Clients, block, checksum, refused, state_of


def test_a_snapshot_gives_back_what_was_put(aws: Clients) -> None:
    snapshot = aws.start()
    aws.put(snapshot, 0, block(b"a"))
    aws.put(snapshot, 2047, block(b"b"))

    aws.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=2)

    assert aws.read(snapshot) == {0: block(b"a"), 2047: block(b"b")}


def test_a_block_may_be_put_again_while_the_snapshot_is_pending(aws: Clients) -> None:
    snapshot = aws.start()
    aws.put(snapshot, 0, block(b"a"))
    aws.put(snapshot, 0, block(b"b"))

    aws.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)

    assert aws.read(snapshot) == {0: block(b"b")}


def test_a_block_of_another_size_is_refused(aws: Clients) -> None:
    snapshot = aws.start()

    with refused("ValidationException", "524288 bytes"):
        aws.put(snapshot, 0, b"too little")


def test_a_block_with_a_wrong_data_length_is_refused(aws: Clients) -> None:
    snapshot, content = aws.start(), block(b"a")

    with refused("ValidationException", "524288 bytes"):
        aws.ebs.put_snapshot_block(
            SnapshotId=snapshot,
            BlockIndex=0,
            BlockData=content,
            DataLength=512,
            Checksum=checksum(content),
            ChecksumAlgorithm="SHA256",
        )


def test_a_block_with_a_wrong_checksum_is_refused(aws: Clients) -> None:
    snapshot = aws.start()

    with refused("ValidationException", "checksum of block 0"):
        aws.ebs.put_snapshot_block(
            SnapshotId=snapshot,
            BlockIndex=0,
            BlockData=block(b"a"),
            DataLength=BLOCK,
            Checksum=checksum(block(b"b")),
            ChecksumAlgorithm="SHA256",
        )


def test_a_block_outside_the_volume_is_refused(aws: Clients) -> None:
    snapshot = aws.start(size_gib=1)

    with refused("ValidationException", "outside the volume"):
        aws.put(snapshot, 2048, block(b"a"))


def test_a_block_of_no_snapshot_is_refused(aws: Clients) -> None:
    with refused("ResourceNotFoundException"):
        aws.put("snap-00000000000000000", 0, block(b"a"))


def test_a_block_of_a_deleted_snapshot_is_refused(aws: Clients) -> None:
    snapshot = aws.start()
    aws.put(snapshot, 0, block(b"a"))

    aws.ec2.delete_snapshot(SnapshotId=snapshot)

    with refused("ResourceNotFoundException"):
        aws.put(snapshot, 1, block(b"b"))


def test_a_block_after_completion_is_refused(aws: Clients) -> None:
    snapshot = aws.snapshot(block(b"a"))

    with refused("ValidationException", "has been completed"):
        aws.put(snapshot, 1, block(b"b"))


@pytest.mark.parametrize("claimed", [0, 1, 3])
def test_completion_with_a_wrong_count_is_refused(aws: Clients, claimed: int) -> None:
    snapshot = aws.start()
    aws.put(snapshot, 0, block(b"a"))
    aws.put(snapshot, 1, block(b"b"))

    with refused("ValidationException", "2 blocks were put"):
        aws.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=claimed)


def test_a_refused_completion_leaves_the_snapshot_open(aws: Clients) -> None:
    snapshot = aws.start()
    with refused("ValidationException"):
        aws.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)

    aws.put(snapshot, 0, block(b"a"))

    assert aws.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)["Status"] == "pending"


def test_the_checksum_of_all_is_over_the_digests_in_the_order_of_the_indexes(aws: Clients) -> None:
    snapshot = aws.start()
    aws.put(snapshot, 7, block(b"b"))
    aws.put(snapshot, 3, block(b"a"))
    whole = b64encode(sha256(sha256(block(b"a")).digest() + sha256(block(b"b")).digest()).digest()).decode()

    done = aws.ebs.complete_snapshot(
        SnapshotId=snapshot,
        ChangedBlocksCount=2,
        Checksum=whole,
        ChecksumAlgorithm="SHA256",
        ChecksumAggregationMethod="LINEAR",
    )

    assert done["Status"] == "pending"


def test_a_wrong_checksum_of_all_is_refused(aws: Clients) -> None:
    snapshot = aws.start()
    aws.put(snapshot, 0, block(b"a"))

    with refused("ValidationException", "checksum of the snapshot"):
        aws.ebs.complete_snapshot(
            SnapshotId=snapshot,
            ChangedBlocksCount=1,
            Checksum=checksum(block(b"a")),
            ChecksumAlgorithm="SHA256",
            ChecksumAggregationMethod="LINEAR",
        )


def test_a_second_completion_is_refused(aws: Clients) -> None:
    snapshot = aws.snapshot(block(b"a"))

    with refused("ValidationException", "has been completed"):
        aws.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)


def test_the_same_token_and_request_give_the_same_snapshot(aws: Clients) -> None:
    first = aws.ebs.start_snapshot(VolumeSize=1, ClientToken="same", Description="x")

    second = aws.ebs.start_snapshot(VolumeSize=1, ClientToken="same", Description="x")

    assert second["SnapshotId"] == first["SnapshotId"]


def test_the_same_token_for_another_request_is_a_conflict(aws: Clients) -> None:
    aws.ebs.start_snapshot(VolumeSize=1, ClientToken="once")

    with refused("ConflictException"):
        aws.ebs.start_snapshot(VolumeSize=2, ClientToken="once")


@pytest.mark.parametrize("timeout", [9, 4321])
def test_a_timeout_that_cannot_be_is_refused(aws: Clients, timeout: int) -> None:
    with refused("ValidationException", "Timeout"):
        aws.ebs.start_snapshot(VolumeSize=1, Timeout=timeout)


def test_a_volume_that_is_too_large_is_refused(aws: Clients) -> None:
    with refused("ValidationException", "65536"):
        aws.ebs.start_snapshot(VolumeSize=65_537)


def test_the_same_tag_twice_is_refused(aws: Clients) -> None:
    with refused("ValidationException", "tag"):
        aws.ebs.start_snapshot(VolumeSize=1, Tags=[{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}])


def test_a_snapshot_that_is_left_alone_for_longer_than_its_timeout_fails(tmp_path: Path) -> None:
    with running_cloud(tmp_path, tuning=AT_ONCE.model_copy(update={"minute_s": 0.001})) as cloud:
        aws = Clients(cloud)
        snapshot = aws.ebs.start_snapshot(VolumeSize=1, Timeout=10)["SnapshotId"]
        time.sleep(0.02)

        with refused("ValidationException", "Timeout"):
            aws.put(snapshot, 0, block(b"a"))

        assert state_of(cloud, snapshot)["state"] == "error"
