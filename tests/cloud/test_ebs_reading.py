"""The EBS direct APIs, where they read: pages, tokens, parents and what changed."""

import time
from pathlib import Path

import pytest

from imagebuilder.cloud import running_cloud
from tests.cloud.clients import AT_ONCE, Clients, block, checksum, refused


@pytest.fixture(scope="module")
def snapshot(aws: Clients) -> str:
    return aws.snapshot(block(b"a"), block(b"b"))


def test_a_block_comes_with_its_checksum(aws: Clients, snapshot: str) -> None:
    token = aws.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"][1]["BlockToken"]

    got = aws.ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=1, BlockToken=token)

    assert got["Checksum"] == checksum(block(b"b"))
    assert got["DataLength"] == 524_288


def test_the_token_of_another_block_is_refused(aws: Clients, snapshot: str) -> None:
    token = aws.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"][0]["BlockToken"]

    with refused("ValidationException", "token"):
        aws.ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=1, BlockToken=token)


def test_a_made_up_token_is_refused(aws: Clients, snapshot: str) -> None:
    with refused("ValidationException", "token"):
        aws.ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockToken="AAAA")


def test_a_token_does_not_last(tmp_path: Path) -> None:
    with running_cloud(tmp_path, tuning=AT_ONCE.model_copy(update={"block_token_lifetime_s": 0.001})) as cloud:
        aws = Clients(cloud)
        snapshot = aws.snapshot(block(b"a"))
        token = aws.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"][0]["BlockToken"]
        time.sleep(0.01)

        with refused("ValidationException", "expired"):
            aws.ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockToken=token)


def test_a_pending_snapshot_cannot_be_read(aws: Clients) -> None:
    pending = aws.start()

    with refused("ValidationException", "pending"):
        aws.ebs.list_snapshot_blocks(SnapshotId=pending)


def test_a_list_begins_where_one_wants(aws: Clients, snapshot: str) -> None:
    listed = aws.ebs.list_snapshot_blocks(SnapshotId=snapshot, StartingBlockIndex=1)

    assert [found["BlockIndex"] for found in listed["Blocks"]] == [1]


def test_long_lists_come_in_pages(tmp_path: Path) -> None:
    with running_cloud(tmp_path, tuning=AT_ONCE.model_copy(update={"blocks_a_page": 2})) as cloud:
        aws = Clients(cloud)
        snapshot = aws.snapshot(*[block(b"a")] * 3)

        first = aws.ebs.list_snapshot_blocks(SnapshotId=snapshot)
        second = aws.ebs.list_snapshot_blocks(SnapshotId=snapshot, NextToken=first["NextToken"])

        assert [[found["BlockIndex"] for found in page["Blocks"]] for page in (first, second)] == [[0, 1], [2]]
        assert "NextToken" not in second


def test_a_page_token_of_another_list_is_refused(aws: Clients, snapshot: str) -> None:
    with refused("ValidationException", "page token"):
        aws.ebs.list_snapshot_blocks(SnapshotId=snapshot, NextToken="AAAA")


def test_pages_that_are_too_small_are_refused(aws: Clients, snapshot: str) -> None:
    with refused("ValidationException", "MaxResults"):
        aws.ebs.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=99)


def test_a_child_has_its_parents_blocks_and_its_own(aws: Clients, snapshot: str) -> None:
    child = aws.snapshot(block(b"c"), parent=snapshot)

    assert aws.read(child) == {0: block(b"c"), 1: block(b"b")}


def test_a_child_outlives_its_parent(aws: Clients) -> None:
    parent = aws.snapshot(block(b"p"), block(b"q"))
    child = aws.snapshot(block(b"c"), parent=parent)

    aws.ec2.delete_snapshot(SnapshotId=parent)

    assert aws.read(child) == {0: block(b"c"), 1: block(b"q")}


def test_a_parent_must_be_there(aws: Clients) -> None:
    with refused("ResourceNotFoundException"):
        aws.ebs.start_snapshot(VolumeSize=1, ParentSnapshotId="snap-00000000000000000")


def test_a_parent_must_be_completed(aws: Clients) -> None:
    pending = aws.start()

    with refused("ValidationException", "pending"):
        aws.ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=pending)


def test_a_child_must_not_be_smaller_than_its_parent(aws: Clients) -> None:
    parent = aws.snapshot(size_gib=2)

    with refused("ValidationException", "smaller"):
        aws.ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=parent)


def test_changed_blocks_are_those_that_differ(aws: Clients, snapshot: str) -> None:
    child = aws.snapshot(block(b"a"), block(b"c"), block(b"d"), parent=snapshot)

    changed = aws.ebs.list_changed_blocks(FirstSnapshotId=snapshot, SecondSnapshotId=child)["ChangedBlocks"]

    assert [(found["BlockIndex"], "FirstBlockToken" in found) for found in changed] == [(1, True), (2, False)]


def test_snapshots_of_different_lineages_are_not_compared(aws: Clients, snapshot: str) -> None:
    other = aws.snapshot(block(b"a"))

    with refused("ValidationException", "lineages"):
        aws.ebs.list_changed_blocks(FirstSnapshotId=snapshot, SecondSnapshotId=other)
