"""RegisterImage from a snapshot: what is recorded, and what is refused."""

import pytest

from tests.cloud.clients import Clients, block, refused, registration


@pytest.fixture(scope="module")
def snapshot(aws: Clients) -> str:
    return aws.snapshot(block(b"a"), size_gib=2)


def mapping(device: str = "/dev/xvda", **ebs: object) -> list[dict[str, object]]:
    return [{"DeviceName": device, "Ebs": ebs}]


def test_all_that_was_said_is_recorded(aws: Clients, snapshot: str) -> None:
    said = registration(
        "whole",
        snapshot,
        Description="a worker",
        BootMode="uefi",
        TpmSupport="v2.0",
        EnaSupport=True,
        ImdsSupport="v2.0",
        SriovNetSupport="simple",
        BlockDeviceMappings=[
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {"SnapshotId": snapshot, "VolumeSize": 3, "VolumeType": "gp3", "Iops": 3000, "Throughput": 125},
            },
            {"DeviceName": "/dev/xvdb", "Ebs": {"VolumeSize": 5, "DeleteOnTermination": False, "Encrypted": True}},
            {"DeviceName": "/dev/xvdc", "VirtualName": "ephemeral0"},
        ],
        TagSpecifications=[{"ResourceType": "image", "Tags": [{"Key": "role", "Value": "worker"}]}],
    )

    image = aws.ec2.register_image(**said)["ImageId"]

    [shown] = aws.ec2.describe_images(ImageIds=[image])["Images"]
    names = ("Name", "Description", "Architecture", "VirtualizationType", "RootDeviceName", "BootMode")
    assert {name: shown[name] for name in names} == {name: said[name] for name in names}  # type: ignore[literal-required]
    assert (shown["TpmSupport"], shown["ImdsSupport"], shown["SriovNetSupport"]) == ("v2.0", "v2.0", "simple")
    assert (shown["EnaSupport"], shown["RootDeviceType"], shown["State"]) == (True, "ebs", "available")
    assert shown["Tags"] == [{"Key": "role", "Value": "worker"}]
    assert shown["BlockDeviceMappings"] == [
        {
            "DeviceName": "/dev/xvda",
            "Ebs": {
                "DeleteOnTermination": True,
                "Encrypted": False,
                "Iops": 3000,
                "SnapshotId": snapshot,
                "Throughput": 125,
                "VolumeSize": 3,
                "VolumeType": "gp3",
            },
        },
        {
            "DeviceName": "/dev/xvdb",
            "Ebs": {"DeleteOnTermination": False, "Encrypted": True, "VolumeSize": 5, "VolumeType": "gp2"},
        },
        {"DeviceName": "/dev/xvdc", "VirtualName": "ephemeral0"},
    ]


def test_what_was_not_said_is_not_made_up(aws: Clients, snapshot: str) -> None:
    plain = registration("plain", snapshot, Architecture=None, VirtualizationType=None)

    image = aws.ec2.register_image(**plain)["ImageId"]

    [shown] = aws.ec2.describe_images(ImageIds=[image])["Images"]
    assert (shown["VirtualizationType"], shown["Architecture"]) == ("paravirtual", "i386")
    assert {"BootMode", "ImdsSupport", "TpmSupport", "EnaSupport"} & set(shown) == set()


def test_a_name_is_there_once(aws: Clients, snapshot: str) -> None:
    first = aws.image("unique", snapshot)

    with refused("InvalidAMIName.Duplicate", first):
        aws.image("unique", snapshot)


def test_a_name_is_free_again_when_its_image_has_gone(aws: Clients, snapshot: str) -> None:
    first = aws.image("again", snapshot)
    aws.ec2.deregister_image(ImageId=first)

    assert aws.image("again", snapshot) != first


@pytest.mark.parametrize("name", ["ab", "x" * 129, "a:b:c", "ä-image"])
def test_a_name_that_cannot_be_is_refused(aws: Clients, snapshot: str, name: str) -> None:
    with refused("InvalidAMIName.Malformed"):
        aws.image(name, snapshot)


def test_a_snapshot_must_be_there(aws: Clients) -> None:
    with refused("InvalidSnapshot.NotFound", "snap-00000000000000000"):
        aws.image("no-snapshot", "snap-00000000000000000")


def test_a_snapshot_must_be_completed(aws: Clients) -> None:
    with refused("IncorrectState", "pending"):
        aws.image("pending", aws.start())


def test_a_snapshot_must_be_in_the_region(aws: Clients, snapshot: str) -> None:
    elsewhere = Clients(aws.cloud, region="eu-central-1")

    with refused("InvalidSnapshot.NotFound"):
        elsewhere.image("elsewhere", snapshot)


REFUSED: dict[str, tuple[str, dict[str, object]]] = {
    "root-not-mapped": ("InvalidBlockDeviceMapping", {"RootDeviceName": "/dev/sda1"}),
    "root-without-snapshot": ("InvalidBlockDeviceMapping", {"BlockDeviceMappings": mapping(VolumeSize=8)}),
    "no-root": ("MissingParameter", {"RootDeviceName": None}),
    "no-size": ("MissingParameter", {"BlockDeviceMappings": mapping(VolumeType="gp3")}),
    "bad-device": ("InvalidBlockDeviceMapping", {"BlockDeviceMappings": mapping("/dev/root", VolumeSize=8)}),
    "nothing-mapped": ("InvalidBlockDeviceMapping", {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda"}]}),
    "same-device-twice": (
        "InvalidBlockDeviceMapping",
        {"BlockDeviceMappings": mapping(VolumeSize=8) + mapping(VolumeSize=9)},
    ),
    "unknown-type": ("InvalidParameterValue", {"BlockDeviceMappings": mapping(VolumeSize=8, VolumeType="gp9")}),
    "iops-of-gp2": (
        "InvalidParameterCombination",
        {"BlockDeviceMappings": mapping(VolumeSize=8, VolumeType="gp2", Iops=100)},
    ),
    "io2-without-iops": ("MissingParameter", {"BlockDeviceMappings": mapping(VolumeSize=8, VolumeType="io2")}),
    "throughput-of-gp2": (
        "InvalidParameterCombination",
        {"BlockDeviceMappings": mapping(VolumeSize=8, Throughput=125)},
    ),
    "too-small-for-st1": ("InvalidParameterValue", {"BlockDeviceMappings": mapping(VolumeSize=8, VolumeType="st1")}),
    "uefi-of-pv": ("InvalidParameterCombination", {"VirtualizationType": "paravirtual", "BootMode": "uefi"}),
    "ena-of-pv": ("InvalidParameterCombination", {"VirtualizationType": None, "EnaSupport": True}),
    "uefi-of-i386": ("InvalidParameterCombination", {"Architecture": "i386", "BootMode": "uefi"}),
    "bios-of-arm64": ("InvalidParameterCombination", {"Architecture": "arm64", "BootMode": "legacy-bios"}),
    "tpm-without-uefi": ("InvalidParameterCombination", {"TpmSupport": "v2.0", "BootMode": "uefi-preferred"}),
    "kernel-of-hvm": ("InvalidParameterCombination", {"KernelId": "aki-12345678"}),
    "imds-v1": ("InvalidParameterValue", {"ImdsSupport": "v1.0"}),
    "unknown-architecture": ("InvalidParameterValue", {"Architecture": "riscv64"}),
    "unknown-boot-mode": ("InvalidParameterValue", {"BootMode": "bios"}),
    "tags-of-a-snapshot": (
        "InvalidParameterValue",
        {"TagSpecifications": [{"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "b"}]}]},
    ),
    "long-description": ("InvalidParameterValue", {"Description": "x" * 256}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(aws: Clients, snapshot: str, case: str) -> None:
    code, options = REFUSED[case]

    with refused(code):
        aws.image(case, snapshot, **options)


def test_a_volume_must_not_be_smaller_than_its_snapshot(aws: Clients, snapshot: str) -> None:
    with refused("InvalidBlockDeviceMapping", "expect size >= 2GB"):
        aws.image("small", snapshot, BlockDeviceMappings=mapping(SnapshotId=snapshot, VolumeSize=1))


@pytest.mark.parametrize("encrypted", [True, False])
def test_encryption_cannot_be_said_with_a_snapshot(aws: Clients, snapshot: str, encrypted: bool) -> None:
    with refused("InvalidBlockDeviceMapping", "encrypted flag"):
        aws.image("sealed", snapshot, BlockDeviceMappings=mapping(SnapshotId=snapshot, Encrypted=encrypted))


def test_an_image_of_an_encrypted_snapshot_is_encrypted(aws: Clients) -> None:
    snapshot = aws.ebs.start_snapshot(VolumeSize=1, Encrypted=True)["SnapshotId"]
    aws.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)

    image = aws.image("encrypted", snapshot)

    [shown] = aws.ec2.describe_images(ImageIds=[image])["Images"]
    assert shown["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True


def test_a_parameter_that_ec2_does_not_know_is_refused(aws: Clients, snapshot: str) -> None:
    def add(params: dict[str, dict[str, str]], **_others: object) -> None:
        params["body"]["Color"] = "red"

    stranger = Clients(aws.cloud)
    stranger.ec2.meta.events.register("before-call.ec2.RegisterImage", add)

    with refused("UnknownParameter", "Color"):
        stranger.image("red", snapshot)


def test_a_dry_run_registers_nothing(aws: Clients, snapshot: str) -> None:
    with refused("DryRunOperation"):
        aws.image("dry", snapshot, DryRun=True)

    assert aws.ec2.describe_images(Filters=[{"Name": "name", "Values": ["dry"]}])["Images"] == []
