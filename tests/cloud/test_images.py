"""Images that are registered: shown, changed, copied and deregistered."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.cloud.clients import Clients, block, refused

UNKNOWN = "ami-00000000000000000"
FAR = "ap-south-1"


@pytest.fixture(scope="module")
def snapshot(aws: Clients) -> str:
    return aws.snapshot(block(b"a"))


@pytest.fixture(scope="module")
def pair(aws: Clients, snapshot: str) -> tuple[str, str]:
    """An image with everything that the filters below look for, and one with nothing of it."""
    tags = [{"ResourceType": "image", "Tags": [{"Key": "role", "Value": "one"}]}]
    one = aws.image("pair-one", snapshot, BootMode="uefi", Description="the one", TagSpecifications=tags)
    return one, aws.image("pair-two")


def ids(shown: object) -> list[str]:
    return [image["ImageId"] for image in shown["Images"]]  # type: ignore[index]


def test_an_unknown_image_is_an_error(aws: Clients) -> None:
    with refused("InvalidAMIID.NotFound", UNKNOWN):
        aws.ec2.describe_images(ImageIds=[UNKNOWN])


def test_an_id_that_is_none_is_an_error(aws: Clients) -> None:
    with refused("InvalidAMIID.Malformed"):
        aws.ec2.describe_images(ImageIds=["worker"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "pair-one"),
        ("name", "pair-o*"),
        ("tag:role", "one"),
        ("tag-key", "role"),
        ("description", "the ?ne"),
        ("boot-mode", "uefi"),
    ],
)
def test_filters_choose_images(aws: Clients, pair: tuple[str, str], name: str, value: str) -> None:
    shown = aws.ec2.describe_images(ImageIds=pair, Filters=[{"Name": name, "Values": [value]}])

    assert ids(shown) == [pair[0]]


def test_images_are_found_by_their_snapshot(aws: Clients, pair: tuple[str, str]) -> None:
    [two] = aws.ec2.describe_images(ImageIds=[pair[1]])["Images"]
    snapshot = two["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]

    shown = aws.ec2.describe_images(Filters=[{"Name": "block-device-mapping.snapshot-id", "Values": [snapshot]}])

    assert ids(shown) == [pair[1]]


def test_an_unknown_filter_is_an_error(aws: Clients, pair: tuple[str, str]) -> None:
    with refused("InvalidParameterValue", "colour"):
        aws.ec2.describe_images(ImageIds=pair, Filters=[{"Name": "colour", "Values": ["red"]}])


def test_owners_other_than_oneself_have_no_images(aws: Clients, pair: tuple[str, str]) -> None:
    assert set(pair) <= set(ids(aws.ec2.describe_images(Owners=["self"])))
    assert ids(aws.ec2.describe_images(Owners=["amazon"])) == []


def test_images_come_in_pages(aws: Clients, pair: tuple[str, str]) -> None:
    pages = list(aws.ec2.get_paginator("describe_images").paginate(PaginationConfig={"PageSize": 1}))

    assert [len(page["Images"]) for page in pages] == [1] * len(pages)
    assert set(pair) <= {image for page in pages for image in ids(page)}


def test_an_image_is_of_one_region(aws: Clients, pair: tuple[str, str]) -> None:
    elsewhere = Clients(aws.cloud, region="eu-west-3")

    with refused("InvalidAMIID.NotFound"):
        elsewhere.ec2.describe_images(ImageIds=[pair[0]])


def test_launch_permissions_are_kept(aws: Clients, snapshot: str) -> None:
    image = aws.image("shared", snapshot)
    aws.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": "111122223333"}]})
    aws.ec2.modify_image_attribute(ImageId=image, Attribute="launchPermission", OperationType="add", UserGroups=["all"])

    shown = aws.ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")

    assert shown["LaunchPermissions"] == [{"Group": "all"}, {"UserId": "111122223333"}]
    assert aws.ec2.describe_images(ImageIds=[image])["Images"][0]["Public"] is True


def test_a_launch_permission_for_no_account_is_refused(aws: Clients, pair: tuple[str, str]) -> None:
    with refused("InvalidAMIAttributeItemValue"):
        aws.ec2.modify_image_attribute(ImageId=pair[0], LaunchPermission={"Add": [{"UserId": "me"}]})


def test_a_description_can_be_changed(aws: Clients, snapshot: str) -> None:
    image = aws.image("described", snapshot, Description="old")

    aws.ec2.modify_image_attribute(ImageId=image, Description={"Value": "new"})

    shown = aws.ec2.describe_image_attribute(ImageId=image, Attribute="description")
    assert shown["Description"] == {"Value": "new"}


def test_a_deprecation_is_kept_to_the_minute(aws: Clients, snapshot: str) -> None:
    image, at = aws.image("deprecated", snapshot), datetime.now(UTC) + timedelta(days=700)

    aws.ec2.enable_image_deprecation(ImageId=image, DeprecateAt=at)

    [shown] = aws.ec2.describe_images(ImageIds=[image])["Images"]
    assert shown["DeprecationTime"] == f"{at:%Y-%m-%dT%H:%M}:00.000Z"


@pytest.mark.parametrize("days", [-1, 3700])
def test_a_deprecation_in_the_past_or_too_far_away_is_refused(aws: Clients, pair: tuple[str, str], days: int) -> None:
    with refused("InvalidParameterValue", "deprecation date"):
        aws.ec2.enable_image_deprecation(ImageId=pair[0], DeprecateAt=datetime.now(UTC) + timedelta(days=days))


def test_a_deregistered_image_has_gone_and_its_snapshot_stays(aws: Clients, snapshot: str) -> None:
    image = aws.image("gone", snapshot)

    aws.ec2.deregister_image(ImageId=image)

    with refused("InvalidAMIID.NotFound"):
        aws.ec2.describe_images(ImageIds=[image])
    assert aws.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"] != []


def test_snapshots_can_go_with_their_image(aws: Clients) -> None:
    own = aws.snapshot(block(b"z"))
    image = aws.image("gone-with-all", own)

    done = aws.ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)

    assert done["DeleteSnapshotResults"] == [{"SnapshotId": own, "ReturnCode": "success"}]
    with refused("InvalidSnapshot.NotFound"):
        aws.ec2.describe_snapshots(SnapshotIds=[own])


def test_a_snapshot_of_another_image_stays(aws: Clients) -> None:
    shared = aws.snapshot(block(b"z"))
    aws.image("stays", shared)
    image = aws.image("goes", shared)

    done = aws.ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)

    assert done["DeleteSnapshotResults"] == [{"SnapshotId": shared, "ReturnCode": "skipped"}]


def test_a_copy_in_another_region_has_the_same_blocks(aws: Clients, snapshot: str) -> None:
    image = aws.image("origin", snapshot, BootMode="uefi", EnaSupport=True, ImdsSupport="v2.0")
    far = Clients(aws.cloud, region=FAR)

    copy = far.ec2.copy_image(Name="copied", SourceImageId=image, SourceRegion="us-east-1")["ImageId"]

    [shown] = far.ec2.describe_images(ImageIds=[copy])["Images"]
    assert (shown["BootMode"], shown["EnaSupport"], shown["ImdsSupport"]) == ("uefi", True, "v2.0")
    assert (shown["SourceImageId"], shown["SourceImageRegion"]) == (image, "us-east-1")
    copied_snapshot = shown["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert copied_snapshot != snapshot
    assert far.read(copied_snapshot) == {0: block(b"a")}


def test_a_copy_can_be_encrypted(aws: Clients, snapshot: str) -> None:
    image = aws.image("plain-origin", snapshot)

    copy = aws.ec2.copy_image(Name="sealed-copy", SourceImageId=image, SourceRegion="us-east-1", Encrypted=True)

    [shown] = aws.ec2.describe_images(ImageIds=[copy["ImageId"]])["Images"]
    assert shown["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True


def test_a_copy_needs_a_free_name(aws: Clients, pair: tuple[str, str]) -> None:
    with refused("InvalidAMIName.Duplicate"):
        aws.ec2.copy_image(Name="pair-two", SourceImageId=pair[0], SourceRegion="us-east-1")


def test_a_copy_of_no_image_is_refused(aws: Clients) -> None:
    with refused("InvalidAMIID.NotFound"):
        aws.ec2.copy_image(Name="of-nothing", SourceImageId=UNKNOWN, SourceRegion="us-east-1")


def test_what_the_cloud_does_not_do_with_images_is_refused(aws: Clients) -> None:
    with refused("InvalidAction", "CreateImage"):
        aws.ec2.create_image(InstanceId="i-00000000000000000", Name="of-instance")
