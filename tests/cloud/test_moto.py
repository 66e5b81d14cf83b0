"""What moto does, and that it knows of the images that there are."""

import pytest

from imagebuilder.cloud import RunningCloud
from tests.cloud.clients import Clients, refused


@pytest.fixture(scope="module")
def south(cloud: RunningCloud) -> Clients:
    """In a region of its own: moto's instances and keys are there to see for all tests."""
    return Clients(cloud, region="ap-southeast-2")


def test_an_instance_of_an_image_runs_and_is_terminated(south: Clients) -> None:
    image = south.image("to-run")

    [instance] = south.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"]

    name = instance["InstanceId"]
    [seen] = south.ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"]
    south.ec2.create_tags(Resources=[name], Tags=[{"Key": "role", "Value": "worker"}])
    tags = south.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [name]}])["Tags"]
    [ended] = south.ec2.terminate_instances(InstanceIds=[name])["TerminatingInstances"]
    assert (seen["ImageId"], seen["State"]["Name"], seen["RootDeviceName"]) == (image, "running", "/dev/xvda")
    assert [(tag["Key"], tag["ResourceType"]) for tag in tags] == [("role", "instance")]
    assert ended["CurrentState"]["Name"] in {"shutting-down", "terminated"}


def test_an_instance_of_no_image_does_not_run(south: Clients) -> None:
    with refused("InvalidAMIID.NotFound"):
        south.ec2.run_instances(ImageId="ami-00000000000000000", MinCount=1, MaxCount=1)


def test_an_image_that_is_disabled_does_not_run(south: Clients) -> None:
    image = south.image("disabled")
    south.ec2.disable_image(ImageId=image)

    with refused("InvalidAMIID.Unavailable"):
        south.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)


def test_an_instance_needs_a_key_pair_that_there_is(south: Clients) -> None:
    image = south.image("with-key")

    with refused("InvalidKeyPair.NotFound"):
        south.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, KeyName="missing")


def test_a_snapshot_is_encrypted_by_a_key_that_there_is(south: Clients) -> None:
    key = south.kms.create_key()["KeyMetadata"]["Arn"]

    started = south.ebs.start_snapshot(VolumeSize=1, Encrypted=True, KmsKeyArn=key)

    assert started["KmsKeyArn"] == key
    with refused("ValidationException", "KMS key"):
        south.ebs.start_snapshot(VolumeSize=1, Encrypted=True, KmsKeyArn=f"{key[:-4]}0000")


def test_addresses_and_security_groups_are_there(south: Clients) -> None:
    address = south.ec2.allocate_address(Domain="vpc")["PublicIp"]
    group = south.ec2.create_security_group(GroupName="workers", Description="of a test")["GroupId"]

    addresses = [one["PublicIp"] for one in south.ec2.describe_addresses()["Addresses"]]
    groups = [one["GroupName"] for one in south.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]]
    assert (addresses, groups) == ([address], ["workers"])
