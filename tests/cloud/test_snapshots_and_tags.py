"""Snapshots as EC2 shows them, and the tags of snapshots and images."""

import pytest

from tests.cloud.clients import Clients, block, refused

UNKNOWN = "snap-00000000000000000"


@pytest.fixture
def snapshot(aws: Clients) -> str:
    return aws.snapshot(block(b"a"))


def test_a_snapshot_shows_what_it_was_started_with(aws: Clients) -> None:
    tags = [{"Key": "role", "Value": "worker"}]
    started = aws.ebs.start_snapshot(VolumeSize=3, Description="of a test", Tags=tags)["SnapshotId"]  # type: ignore[arg-type]

    [shown] = aws.ec2.describe_snapshots(SnapshotIds=[started])["Snapshots"]

    assert (shown["State"], shown["Progress"], shown["VolumeSize"]) == ("pending", "0%", 3)
    assert (shown["Description"], shown["Tags"], shown["OwnerId"]) == ("of a test", tags, "123456789012")


def test_a_completed_snapshot_says_so(aws: Clients, snapshot: str) -> None:
    [shown] = aws.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]

    assert (shown["State"], shown["Progress"]) == ("completed", "100%")


def test_an_unknown_snapshot_is_an_error(aws: Clients) -> None:
    with refused("InvalidSnapshot.NotFound", UNKNOWN):
        aws.ec2.describe_snapshots(SnapshotIds=[UNKNOWN])


def test_snapshots_come_in_pages(aws: Clients) -> None:
    started = {aws.start() for _ in range(6)}

    pages = list(
        aws.ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], PaginationConfig={"PageSize": 5})
    )

    assert len(pages) > 1
    assert started <= {shown["SnapshotId"] for page in pages for shown in page["Snapshots"]}


def test_filters_choose_snapshots(aws: Clients, snapshot: str) -> None:
    pending = aws.start()

    shown = aws.ec2.describe_snapshots(
        Filters=[{"Name": "snapshot-id", "Values": [snapshot, pending]}, {"Name": "status", "Values": ["completed"]}]
    )

    assert [one["SnapshotId"] for one in shown["Snapshots"]] == [snapshot]


def test_a_snapshot_in_use_is_not_deleted(aws: Clients, snapshot: str) -> None:
    image = aws.image("in-use", snapshot)

    with refused("InvalidSnapshot.InUse", image):
        aws.ec2.delete_snapshot(SnapshotId=snapshot)


def test_a_deleted_snapshot_has_gone(aws: Clients, snapshot: str) -> None:
    aws.ec2.delete_snapshot(SnapshotId=snapshot)

    with refused("InvalidSnapshot.NotFound"):
        aws.ec2.delete_snapshot(SnapshotId=snapshot)


def test_volume_permissions_are_kept(aws: Clients, snapshot: str) -> None:
    aws.ec2.modify_snapshot_attribute(
        SnapshotId=snapshot,
        Attribute="createVolumePermission",
        OperationType="add",
        UserIds=["111122223333"],
    )

    shown = aws.ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")

    assert shown["CreateVolumePermissions"] == [{"UserId": "111122223333"}]


def test_tags_can_be_given_changed_and_taken_away(aws: Clients, snapshot: str) -> None:
    image = aws.image("tagged", snapshot)
    aws.ec2.create_tags(Resources=[image, snapshot], Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    aws.ec2.create_tags(Resources=[image], Tags=[{"Key": "a", "Value": "3"}])

    aws.ec2.delete_tags(Resources=[image, snapshot], Tags=[{"Key": "b"}, {"Key": "a", "Value": "1"}])

    [shown] = aws.ec2.describe_images(ImageIds=[image])["Images"]
    assert shown["Tags"] == [{"Key": "a", "Value": "3"}]
    assert "Tags" not in aws.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]


def test_tags_of_an_unknown_snapshot_are_refused_and_none_is_written(aws: Clients, snapshot: str) -> None:
    with refused("InvalidSnapshot.NotFound"):
        aws.ec2.create_tags(Resources=[snapshot, UNKNOWN], Tags=[{"Key": "a", "Value": "1"}])

    assert "Tags" not in aws.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]


def test_tags_that_begin_with_aws_are_refused(aws: Clients, snapshot: str) -> None:
    with refused("InvalidParameterValue", "reserved"):
        aws.ec2.create_tags(Resources=[snapshot], Tags=[{"Key": "aws:a", "Value": "1"}])


def test_more_than_fifty_tags_are_refused(aws: Clients, snapshot: str) -> None:
    with refused("TagLimitExceeded"):
        aws.ec2.create_tags(Resources=[snapshot], Tags=[{"Key": f"key{n}", "Value": ""} for n in range(51)])


def test_tags_are_shown_with_what_they_are_of(aws: Clients, snapshot: str) -> None:
    aws.ec2.create_tags(Resources=[snapshot], Tags=[{"Key": "a", "Value": "1"}])

    shown = aws.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [snapshot]}])["Tags"]

    assert shown == [{"ResourceId": snapshot, "ResourceType": "snapshot", "Key": "a", "Value": "1"}]
