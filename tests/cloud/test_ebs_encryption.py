"""How a new snapshot is encrypted: the rules of Encrypted, KmsKeyArn, a parent, and the account's default."""

from collections.abc import Iterator

import pytest

from imagebuilder.cloud import RunningCloud
from tests.cloud.clients import Clients, refused

KEY = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-4000-8000-000000000000"


@pytest.fixture
def by_default(cloud: RunningCloud) -> Iterator[Clients]:
    aws = Clients(cloud, region="eu-west-1")
    aws.ec2.enable_ebs_encryption_by_default()
    yield aws
    aws.ec2.disable_ebs_encryption_by_default()


def test_a_snapshot_is_not_encrypted_unless_one_asks_for_it(aws: Clients) -> None:
    [shown] = aws.ec2.describe_snapshots(SnapshotIds=[aws.start()])["Snapshots"]

    assert shown["Encrypted"] is False


def test_an_encrypted_snapshot_without_a_key_has_that_of_ebs(aws: Clients) -> None:
    started = aws.ebs.start_snapshot(VolumeSize=1, Encrypted=True)

    [shown] = aws.ec2.describe_snapshots(SnapshotIds=[started["SnapshotId"]])["Snapshots"]

    assert shown["Encrypted"] is True
    assert shown["KmsKeyId"] == started["KmsKeyArn"]


def test_a_key_without_encryption_is_refused(aws: Clients) -> None:
    with refused("ValidationException", "KmsKeyArn needs Encrypted"):
        aws.ebs.start_snapshot(VolumeSize=1, KmsKeyArn=KEY)


@pytest.mark.parametrize("option", [{"Encrypted": True}, {"Encrypted": False}, {"KmsKeyArn": KEY}])
def test_a_parent_excludes_encryption(aws: Clients, option: dict[str, bool]) -> None:
    parent = aws.snapshot()

    with refused("ValidationException", "ParentSnapshotId"):
        aws.ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=parent, **option)  # type: ignore[arg-type]


def test_a_child_of_an_encrypted_parent_is_encrypted(aws: Clients) -> None:
    parent = aws.ebs.start_snapshot(VolumeSize=1, Encrypted=True)
    aws.ebs.complete_snapshot(SnapshotId=parent["SnapshotId"], ChangedBlocksCount=0)

    child = aws.ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=parent["SnapshotId"])

    assert child["KmsKeyArn"] == parent["KmsKeyArn"]


def test_encryption_by_default_encrypts_what_does_not_ask_for_it(by_default: Clients) -> None:
    started = by_default.ebs.start_snapshot(VolumeSize=1)

    assert started["KmsKeyArn"].startswith("arn:aws:kms:eu-west-1:123456789012:key/")
    assert by_default.ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is True


def test_encryption_by_default_is_of_one_region(by_default: Clients, aws: Clients) -> None:
    assert by_default.ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"
    assert aws.ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False
