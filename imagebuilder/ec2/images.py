"""What EC2 knows of AMIs and who uses them, and what can be done to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from imagebuilder.ec2.account import Account, failure_code
from imagebuilder.ec2.ami import ROOT_DEVICE, RUN, Ami, BootMode
from imagebuilder.ec2.rows import filter_rows, tag_mapping, tag_rows
from imagebuilder.errors import RemoteError

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import (
        CopyImageRequestTypeDef,
        DescribeImagesRequestTypeDef,
        EbsBlockDeviceTypeDef,
        ImageTypeDef,
        LaunchPermissionModificationsTypeDef,
        LaunchPermissionTypeDef,
        RegisterImageRequestTypeDef,
    )

_MOST_FILTER_VALUES = 200  # of one filter of a Describe call
# An instance that is gone for good still shows for about an hour.
_TERMINATED = "terminated"
_GONE = {"InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"}


@dataclass(frozen=True, kw_only=True)
class Encryption:
    """That a snapshot is encrypted, with this KMS key or the account's own for EBS."""

    kms_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What an AMI is registered with; either from a snapshot, or from a bundle's manifest at BUCKET/KEY."""

    name: str
    description: str
    architecture: Literal["i386", "x86_64"]
    boot_mode: BootMode
    tags: Mapping[str, str]
    snapshot_id: str | None = None
    volume_gib: int = 0
    image_location: str | None = None


def find_amis(account: Account, *, filters: Mapping[str, Sequence[str]]) -> tuple[Ami, ...]:
    """The account's own AMIs that all `filters` fit, deprecated ones too."""
    request = {"Owners": ["self"], "Filters": filter_rows(filters), "IncludeDeprecated": True}
    pages = account.pages("DescribeImages", "own AMIs", account.ec2.describe_images, request)
    return tuple(_ami(row, account.region) for page in pages for row in page["Images"])


def find_ami(account: Account, ami_id: str, *, made_at: float | None = None) -> Ami:
    """The AMI with this id, whoever owns it; `made_at`: see RetryBudget.run. Raises RemoteError if there is none."""
    request: DescribeImagesRequestTypeDef = {"ImageIds": [ami_id], "IncludeDeprecated": True}
    page = account.call("DescribeImages", ami_id, partial(account.ec2.describe_images, **request), made_at=made_at)
    if not page["Images"]:
        raise RemoteError(
            "there is no such AMI", where=ami_id, fix=f"see `imgbuild ami list --region {account.region}`"
        )
    return _ami(page["Images"][0], account.region)


def wait_for_ami(account: Account, ami_id: str, *, timeout_s: float) -> Ami:
    """The AMI once it is available. Raises RemoteError if it fails, or is not available in time."""
    began = account.budget.now()

    def look() -> Ami | None:
        ami = find_ami(account, ami_id, made_at=began)
        if ami.state not in {"pending", "transient", "available"}:
            raise RemoteError(f"did not become available: {ami.state}", where=ami_id, fix="run the same command again")
        return ami if ami.state == "available" else None

    return account.wait(look, what=ami_id, wanted="available", timeout_s=timeout_s)


def register(account: Account, registration: Registration) -> str:
    """Register an AMI, and return its id.

    A registration whose answer got lost is found by its name, which is unique: so it never comes twice. Raises
    RemoteError if another AMI has the name.
    """
    request = registration_request(registration)
    ask = partial(account.ec2.register_image, **request)
    try:
        # A snapshot that completed a moment ago may not be known everywhere.
        return account.call("RegisterImage", registration.name, ask, made_at=account.budget.now())["ImageId"]
    except RemoteError as error:
        if failure_code(error) != "InvalidAMIName.Duplicate":
            raise

    def look() -> str | None:
        amis = find_amis(account, filters={"name": [registration.name]})
        found = [ami.id for ami in amis if _is_from(ami, registration)]
        if amis and not found:
            fix = "choose another with --name, or remove that AMI"
            raise RemoteError(f"another AMI has the name '{registration.name}'", where=account.region, fix=fix)
        return found[0] if found else None

    # What holds the name may be new, and not to be seen yet.
    return account.wait(look, what=registration.name, wanted="visible", timeout_s=account.budget.limits.new_s)


def registration_request(registration: Registration) -> "RegisterImageRequestTypeDef":
    """What RegisterImage is asked for. A bundle's manifest has the devices; it cannot boot by UEFI."""
    request: RegisterImageRequestTypeDef = {
        "Name": registration.name,
        "Description": registration.description,
        "Architecture": registration.architecture,
        "VirtualizationType": "hvm",  # EC2's default is paravirtual
        "TagSpecifications": [{"ResourceType": "image", "Tags": tag_rows(registration.tags)}],
    }
    if registration.snapshot_id is None:
        return {**request, "ImageLocation": registration.image_location or ""}
    volume: EbsBlockDeviceTypeDef = {
        "SnapshotId": registration.snapshot_id,
        "VolumeSize": registration.volume_gib,
        "VolumeType": "gp3",
        "DeleteOnTermination": True,
    }
    return {
        **request,
        "EnaSupport": True,
        "ImdsSupport": "v2.0",
        "BootMode": registration.boot_mode,
        "RootDeviceName": ROOT_DEVICE,
        "BlockDeviceMappings": [{"DeviceName": ROOT_DEVICE, "Ebs": volume}],
    }


def find_made(account: Account, registration: Registration) -> list[str]:
    """The id of the AMI that was registered so, from this snapshot or manifest, if there is one."""
    amis = find_amis(account, filters={"name": [registration.name]})
    return [ami.id for ami in amis if _is_from(ami, registration)]


def _is_from(ami: Ami, registration: Registration) -> bool:
    if registration.snapshot_id is not None:
        return registration.snapshot_id in ami.snapshot_ids
    return ami.location == registration.image_location


def deregister(account: Account, ami_id: str) -> None:
    """Take the AMI out of EC2; that it is gone already is no error."""
    try:
        account.call("DeregisterImage", ami_id, partial(account.ec2.deregister_image, ImageId=ami_id))
    except RemoteError as error:
        if failure_code(error) not in _GONE:
            raise


def deprecate(account: Account, ami_id: str, at: datetime) -> None:
    """From `at` on, show an AMI to nobody but its owner."""
    ask = partial(account.ec2.enable_image_deprecation, ImageId=ami_id, DeprecateAt=at)
    account.call("EnableImageDeprecation", ami_id, ask, made_at=account.budget.now())


def tag(account: Account, ids: Sequence[str], tags: Mapping[str, str]) -> None:
    """Set tags of AMIs or snapshots."""
    ask = partial(account.ec2.create_tags, Resources=list(ids), Tags=tag_rows(tags))
    account.call("CreateTags", ", ".join(ids), ask, made_at=account.budget.now())


def uses_of(account: Account, ami_ids: Sequence[str]) -> dict[str, str]:
    """What uses the AMIs, by their id: an instance that is not gone for good, or a launch template."""
    uses: dict[str, str] = {}
    for start in range(0, len(ami_ids), _MOST_FILTER_VALUES):
        some = list(ami_ids[start : start + _MOST_FILTER_VALUES])
        uses |= _templates_of(account, some) | _instances_of(account, some)
    return uses


def _instances_of(account: Account, ami_ids: Sequence[str]) -> dict[str, str]:
    request = {"Filters": filter_rows({"image-id": ami_ids})}
    pages = account.pages("DescribeInstances", "who uses AMIs", account.ec2.describe_instances, request)
    instances = [instance for page in pages for one in page["Reservations"] for instance in one["Instances"]]
    return {
        instance["ImageId"]: f"instance {instance['InstanceId']}"
        for instance in instances
        if instance["State"]["Name"] != _TERMINATED
    }


def _templates_of(account: Account, ami_ids: Sequence[str]) -> dict[str, str]:
    request = {"Versions": ["$Latest", "$Default"], "Filters": filter_rows({"image-id": ami_ids})}
    ask = account.ec2.describe_launch_template_versions
    pages = account.pages("DescribeLaunchTemplateVersions", "who uses AMIs", ask, request)
    return {
        version["LaunchTemplateData"].get("ImageId", ""): f"launch template {version['LaunchTemplateName']}"
        for page in pages
        for version in page["LaunchTemplateVersions"]
    }


def copy_ami(account: Account, ami: Ami, *, run: str, encryption: Encryption | None) -> str:
    """Begin to copy an AMI into the account's region, with its tags, and return the copy's id.

    The same `run` gives the same copy, so a request whose answer got lost can be sent again.
    """
    tags = tag_rows({**ami.tags, RUN: run})
    request: CopyImageRequestTypeDef = {
        "SourceImageId": ami.id,
        "SourceRegion": ami.region,
        "Name": ami.name,
        "ClientToken": run,
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")],
    }
    if encryption is not None:
        request["Encrypted"] = True
        if encryption.kms_key is not None:
            request["KmsKeyId"] = encryption.kms_key
    return account.call("CopyImage", f"copy of {ami.id}", partial(account.ec2.copy_image, **request))["ImageId"]


def share_ami(account: Account, ami_id: str, accounts: Sequence[str], *, change: Literal["Add", "Remove"]) -> None:
    """Let accounts start instances of an AMI, or no longer; "all" is everybody."""
    rows: list[LaunchPermissionTypeDef] = [{"Group": "all"} if one == "all" else {"UserId": one} for one in accounts]
    permission: LaunchPermissionModificationsTypeDef = {"Add": rows} if change == "Add" else {"Remove": rows}
    ask = partial(account.ec2.modify_image_attribute, ImageId=ami_id, LaunchPermission=permission)
    account.call("ModifyImageAttribute", ami_id, ask)


def shared_with(account: Account, ami_id: str) -> tuple[str, ...]:
    """The accounts that may start instances of an AMI; "all" is everybody."""
    ask = partial(account.ec2.describe_image_attribute, ImageId=ami_id, Attribute="launchPermission")
    rows = account.call("DescribeImageAttribute", ami_id, ask).get("LaunchPermissions", [])
    return tuple(row.get("UserId") or row.get("Group") or "" for row in rows)


def _ami(row: "ImageTypeDef", region: str) -> Ami:
    volumes = [mapping.get("Ebs", {}) for mapping in row.get("BlockDeviceMappings", [])]
    return Ami(
        id=row["ImageId"],
        name=row.get("Name", ""),
        location=row.get("ImageLocation", ""),
        region=region,
        owner_id=row.get("OwnerId", ""),
        state=row.get("State", "unknown"),
        is_public=row.get("Public", False),
        architecture=row.get("Architecture", "unknown"),
        root_device_type=row.get("RootDeviceType", "unknown"),
        boot_mode=row.get("BootMode", "unknown"),
        created_at=row.get("CreationDate", ""),
        deprecated_at=row.get("DeprecationTime"),
        snapshot_ids=tuple(volume["SnapshotId"] for volume in volumes if "SnapshotId" in volume),
        tags=tag_mapping(row.get("Tags", [])),
    )
