"""The actions of EC2 that show images and change what is set on them."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from imagebuilder.cloud.ec2_call import Ec2Call, check_id
from imagebuilder.cloud.ec2_query import Parameters, bad_combination, bad_value, page_of
from imagebuilder.cloud.filters import fits, image_traits, read_filters
from imagebuilder.cloud.images import Image
from imagebuilder.cloud.images import Mapping as DeviceMapping
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.regions import ACCOUNT
from imagebuilder.cloud.tags import tag_set


def describe_images(call: Ec2Call) -> Mapping[str, object]:
    """Show the images that fit."""
    parameters = call.parameters
    ids, owners, filters = parameters.texts("ImageId"), parameters.texts("Owner"), read_filters(parameters)
    users = parameters.texts("ExecutableBy")
    with_disabled = parameters.flag("IncludeDisabled")
    parameters.flag("IncludeDeprecated")  # changes nothing: its owner sees a deprecated image also without it
    images = [call.image(image_id) for image_id in ids] or [
        image for image in call.region.images if image.visible_at <= call.now
    ]
    if owners and not {"self", ACCOUNT} & set(owners):
        images = []
    if not with_disabled and not ids:
        images = [image for image in images if not image.disabled]
    if users:
        images = [image for image in images if _is_executable_by(image, users)]
    fitting = [image for image in images if fits(image_traits(image, ACCOUNT), filters)]
    page, token = page_of(parameters, [_shown(image, call.now) for image in fitting], least=1, ids=ids)
    call.begin()
    return {"imagesSet": list(page), "nextToken": token}


def _is_executable_by(image: Image, users: list[str]) -> bool:
    return any(
        (user == "self" and bool(image.launch_users & {ACCOUNT}))
        or (user == "all" and "all" in image.launch_groups)
        or user in image.launch_users
        for user in users
    )


def _shown(image: Image, now: datetime) -> Mapping[str, object]:
    return {
        "imageId": image.id,
        "imageLocation": image.location,
        "imageState": image.state(now),
        "imageOwnerId": ACCOUNT,
        "creationDate": image.registered_at,
        "isPublic": "all" in image.launch_groups,
        "architecture": image.architecture,
        "imageType": "machine",
        "kernelId": image.kernel_id,
        "ramdiskId": image.ramdisk_id,
        "sriovNetSupport": image.sriov_net_support,
        "enaSupport": image.ena_support or None,
        "name": image.name,
        "description": image.description,
        "rootDeviceType": image.root_device_type,
        "rootDeviceName": image.root_device_name,
        "blockDeviceMapping": mapping_set(image.mappings),
        "virtualizationType": image.virtualization_type,
        "hypervisor": "xen",
        "tagSet": tag_set(image.tags),
        "bootMode": image.boot_mode,
        "tpmSupport": image.tpm_support,
        "imdsSupport": image.imds_support,
        "deprecationTime": image.deprecated_at,
        "platformDetails": "Linux/UNIX",
        "usageOperation": "RunInstances",
        "sourceImageId": image.source_image_id,
        "sourceImageRegion": image.source_region,
        "deregistrationProtection": "enabled-without-cooldown" if image.protected else "disabled",
    }


def mapping_set(mappings: tuple[DeviceMapping, ...]) -> list[Mapping[str, object]]:
    """The block devices as EC2 shows them."""
    return [
        {
            "deviceName": mapping.device_name,
            "virtualName": mapping.virtual_name,
            "noDevice": "" if mapping.no_device else None,
            "ebs": {
                "deleteOnTermination": mapping.delete_on_termination,
                "iops": mapping.iops,
                "snapshotId": mapping.snapshot_id,
                "volumeSize": mapping.volume_size_gib,
                "volumeType": mapping.volume_type,
                "throughput": mapping.throughput,
                "encrypted": mapping.encrypted,
            }
            if mapping.is_ebs
            else None,
        }
        for mapping in mappings
    ]


_ATTRIBUTES: Mapping[str, Callable[[Image], object]] = {
    "description": lambda image: {"value": image.description} if image.description is not None else {},
    "kernel": lambda image: {"value": image.kernel_id} if image.kernel_id else {},
    "ramdisk": lambda image: {"value": image.ramdisk_id} if image.ramdisk_id else {},
    "launchPermission": lambda image: [
        *({"group": group} for group in sorted(image.launch_groups)),
        *({"userId": user} for user in sorted(image.launch_users)),
    ],
    "productCodes": lambda _image: [],
    "blockDeviceMapping": lambda image: mapping_set(image.mappings),
    "sriovNetSupport": lambda image: {"value": image.sriov_net_support} if image.sriov_net_support else {},
    "bootMode": lambda image: {"value": image.boot_mode} if image.boot_mode else {},
    "tpmSupport": lambda image: {"value": image.tpm_support} if image.tpm_support else {},
    "uefiData": lambda image: {"value": image.uefi_data} if image.uefi_data else {},
    "imdsSupport": lambda image: {"value": image.imds_support} if image.imds_support else {},
    "deregistrationProtection": lambda image: {"value": "enabled" if image.protected else "disabled"},
}


def describe_image_attribute(call: Ec2Call) -> Mapping[str, object]:
    """Show one attribute of an image."""
    image_id, name = call.parameters.required("ImageId"), call.parameters.required("Attribute")
    image = call.image(image_id)
    if name not in _ATTRIBUTES:
        raise bad_value(f"Value ({name}) for parameter attribute is invalid. Unknown attribute.")
    call.begin()
    return {"imageId": image.id, name: _ATTRIBUTES[name](image)}


def modify_image_attribute(call: Ec2Call) -> Mapping[str, object]:
    """Change who may launch an image, its description, or that it asks for IMDSv2."""
    parameters = call.parameters
    image_id, attribute = parameters.required("ImageId"), parameters.text("Attribute")
    description = parameters.thing("Description").text("Value")
    imds = parameters.thing("ImdsSupport").one_of("Value", "v2.0")
    value = parameters.text("Value")
    added, removed = _permissions(call, attribute)
    if attribute == "description" and value is not None:
        description = value
    elif attribute == "imdsSupport" and value is not None:
        imds = value
    elif attribute not in {None, "launchPermission", "description", "imdsSupport"}:
        raise bad_value(f"Value ({attribute}) for parameter attribute is invalid. It cannot be changed.")
    if description is None and imds is None and not any((*added, *removed)):
        raise bad_combination("No attribute is to be changed")
    with call.region.images.lock:
        image = call.image(image_id)
        call.begin()
        update: dict[str, object] = {
            "launch_users": (image.launch_users | added[0]) - removed[0],
            "launch_groups": (image.launch_groups | added[1]) - removed[1],
        }
        if description is not None:
            update["description"] = description
        if imds is not None:
            update["imds_support"] = imds
        if "all" in added[1] and any(mapping.encrypted for mapping in image.mappings):
            raise Refusal(code="InvalidParameter", message=f"Snapshots of {image_id} are encrypted: it can't be public")
        call.region.images.put(image.model_copy(update=update))
    return {"return": True}


_Grantees = tuple[frozenset[str], frozenset[str]]


def _permissions(call: Ec2Call, attribute: str | None) -> tuple[_Grantees, _Grantees]:
    """The users and groups to add, and those to remove, in either of the two ways to write that."""
    parameters = call.parameters
    permission = parameters.thing("LaunchPermission")
    added, removed = _grantees(permission.things("Add")), _grantees(permission.things("Remove"))
    operation = parameters.one_of("OperationType", "add", "remove")
    named = frozenset(parameters.texts("UserId")), frozenset(parameters.texts("UserGroup"))
    if any(named) and attribute != "launchPermission":
        raise bad_combination("UserId and UserGroup need the attribute launchPermission")
    if operation == "add":
        added = added[0] | named[0], added[1] | named[1]
    elif operation == "remove":
        removed = removed[0] | named[0], removed[1] | named[1]
    elif any(named):
        raise bad_combination("UserId and UserGroup need an OperationType")
    return check_grantees(added), check_grantees(removed)


def _grantees(things: Sequence[Parameters]) -> _Grantees:
    users = frozenset(user for thing in things if (user := thing.text("UserId")))
    return users, frozenset(group for thing in things if (group := thing.text("Group")))


def check_grantees(grantees: _Grantees) -> _Grantees:
    """Raise Refusal unless they are accounts and the one group that there is."""
    users, groups = grantees
    for user in users:
        if not re.fullmatch(r"\d{12}", user):
            raise Refusal(
                code="InvalidAMIAttributeItemValue", message=f'Invalid attribute item value "{user}" for userId'
            )
    for group in groups:
        if group != "all":
            message = f'Invalid attribute item value "{group}" for userGroup'
            raise Refusal(code="InvalidAMIAttributeItemValue", message=message)
    return grantees


def enable_image_deprecation(call: Ec2Call) -> Mapping[str, object]:
    """Set the time from which on an image is deprecated, to the minute."""
    image_id, text = call.parameters.required("ImageId"), call.parameters.required("DeprecateAt")
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise bad_value(f"Invalid value '{text}' for DeprecateAt") from error
    at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    at = at.replace(second=0, microsecond=0)
    if at <= call.now:
        raise bad_value("The deprecation date cannot be in the past")
    if at.year > call.now.year + 10:
        raise bad_value("The deprecation date cannot be more than 10 years from now")
    return _change(call, image_id, {"deprecated_at": at})


def disable_image_deprecation(call: Ec2Call) -> Mapping[str, object]:
    """Take the deprecation of an image back."""
    return _change(call, call.parameters.required("ImageId"), {"deprecated_at": None})


def disable_image(call: Ec2Call) -> Mapping[str, object]:
    """Let an image be launched no more."""
    return _change(call, call.parameters.required("ImageId"), {"disabled": True})


def enable_image(call: Ec2Call) -> Mapping[str, object]:
    """Let an image be launched again."""
    return _change(call, call.parameters.required("ImageId"), {"disabled": False})


def _change(call: Ec2Call, image_id: str, update: Mapping[str, object]) -> Mapping[str, object]:
    check_id(image_id, "ami")
    with call.region.images.lock:
        image = call.image(image_id)
        call.begin()
        call.region.images.put(image.model_copy(update=dict(update)))
    return {"return": True}
