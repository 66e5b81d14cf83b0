"""RegisterImage, CopyImage and DeregisterImage."""

from collections.abc import Mapping as Table
from collections.abc import Sequence
from datetime import timedelta

from imagebuilder.cloud.bundle_manifest import read_bundle
from imagebuilder.cloud.ec2_call import Ec2Call
from imagebuilder.cloud.ec2_query import bad_combination
from imagebuilder.cloud.image_rules import (
    Device,
    Source,
    Wish,
    check_description,
    check_name,
    check_root,
    make_mappings,
    read_devices,
    read_wish,
)
from imagebuilder.cloud.images import Image, Mapping
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.regions import ACCOUNT, Region
from imagebuilder.cloud.snapshots import copy_of, new_id
from imagebuilder.cloud.tags import read_tag_specifications


def register_image(call: Ec2Call) -> Table[str, object]:
    """Register an image made of a snapshot, or of a bundle in S3."""
    parameters = call.parameters
    name, description = parameters.required("Name"), parameters.text("Description")
    check_name(name)
    check_description(description)
    wish, devices = read_wish(parameters), read_devices(parameters)
    location, root = parameters.text("ImageLocation"), parameters.text("RootDeviceName")
    tags = read_tag_specifications(parameters, "image")["image"]
    with call.region.images.lock, call.region.snapshots.lock:
        _require_free_name(call.region, name)
        mappings = make_mappings(devices, _sources(call, devices), default_key=call.region.default_key)
        architecture = wish.architecture or "i386"
        if location is None:
            check_root(root, mappings)
        else:
            architecture = _bundle_architecture(call, location, wish, mappings)
        call.begin()
        image = Image(
            id=new_id("ami"),
            name=name,
            registered_at=call.now,
            visible_at=call.now + timedelta(seconds=call.tuning.image_visible_after_s),
            available_at=call.now + timedelta(seconds=call.tuning.image_available_after_s),
            location=location or f"{ACCOUNT}/{name}",
            root_device_type="ebs" if location is None else "instance-store",
            root_device_name=root,
            mappings=tuple(mappings),
            description=description,
            tags=tags,
            architecture=architecture,
            virtualization_type=wish.virtualization_type,
            ena_support=wish.ena_support,
            sriov_net_support=wish.sriov_net_support,
            boot_mode=wish.boot_mode,
            tpm_support=wish.tpm_support,
            imds_support=wish.imds_support,
            uefi_data=wish.uefi_data,
            kernel_id=wish.kernel_id,
            ramdisk_id=wish.ramdisk_id,
        )
        call.region.images.put(image)
    call.subject["ImageId"] = image.id
    return {"imageId": image.id}


def _require_free_name(region: Region, name: str) -> None:
    if known := region.images.by_name(name):
        message = f"AMI name {name} is already in use by AMI {known.id}"
        raise Refusal(code="InvalidAMIName.Duplicate", message=message)


def _sources(call: Ec2Call, devices: Sequence[Device]) -> dict[str, Source]:
    """The snapshots that the devices name; each must be completed."""
    sources = {}
    for snapshot_id in {device.snapshot_id for device in devices if device.snapshot_id}:
        snapshot = call.snapshot(snapshot_id)
        state = snapshot.state(call.now)
        if state != "completed":
            raise Refusal(code="IncorrectState", message=f"Snapshot is in invalid state - {state}")
        sources[snapshot_id] = Source(volume_size_gib=snapshot.volume_size_gib, kms_key_arn=snapshot.kms_key_arn)
    return sources


def _bundle_architecture(call: Ec2Call, location: str, wish: Wish, mappings: Sequence[Mapping]) -> str:
    if any(mapping.snapshot_id for mapping in mappings):
        raise bad_combination("An image is made of a manifest or of a snapshot, not of both")
    if wish.boot_mode in {"uefi", "uefi-preferred"}:
        raise bad_combination("An image with instance store does not boot by UEFI")
    bundle = read_bundle(call.holdings.objects, call.holdings.ec2_key, location, region=call.region.name)
    if wish.architecture not in {None, bundle.architecture}:
        message = f"The architecture {wish.architecture} is not that of the manifest, {bundle.architecture}"
        raise bad_combination(message)
    return bundle.architecture


def copy_image(call: Ec2Call) -> Table[str, object]:
    """Copy an image, and its snapshots, from a region into that of the call."""
    parameters = call.parameters
    name, description = parameters.required("Name"), parameters.text("Description")
    check_name(name)
    check_description(description)
    source_id, source_name = parameters.required("SourceImageId"), parameters.required("SourceRegion")
    token, copies_tags = parameters.text("ClientToken"), parameters.flag("CopyImageTags")
    key = _copy_key(call)
    tags = read_tag_specifications(parameters, "image", "snapshot")
    source_region = call.holdings.regions[source_name]
    source = source_region.images.find(source_id, call.now)
    if source is None:
        raise Refusal(code="InvalidAMIID.NotFound", message=f"The image id '[{source_id}]' does not exist")
    if source.state(call.now) != "available":
        raise Refusal(code="InvalidAMIID.Unavailable", message=f"The image {source_id} is {source.state(call.now)}")
    if source.root_device_type != "ebs":
        raise bad_combination("Images with instance store are not copied by this cloud")
    with call.region.images.lock:
        known = call.region.images.by_name(name)
        if known is not None and token is not None and known.client_token == token:
            return {"imageId": known.id}
        _require_free_name(call.region, name)
        call.begin()
        copy = source.model_copy(
            update={
                "id": new_id("ami"),
                "name": name,
                "description": description if description is not None else source.description,
                "registered_at": call.now,
                "visible_at": call.now + timedelta(seconds=call.tuning.image_visible_after_s),
                "available_at": call.now + timedelta(seconds=call.tuning.snapshot_completes_after_s),
                "location": f"{ACCOUNT}/{name}",
                "tags": {**(source.tags if copies_tags else {}), **tags["image"]},
                "launch_users": frozenset(),
                "launch_groups": frozenset(),
                "deprecated_at": None,
                "source_image_id": source.id,
                "source_region": source_region.name,
                "client_token": token,
            }
        )
        moved = [_copied(call, source_region, mapping, copy, key, tags["snapshot"]) for mapping in source.mappings]
        copy = copy.model_copy(update={"mappings": tuple(moved)})
        call.region.images.put(copy)
    call.subject["ImageId"] = copy.id
    return {"imageId": copy.id}


def _copy_key(call: Ec2Call) -> str | None:
    """The key that a copy is encrypted with; None if it is as its source."""
    encrypted, key = call.parameters.flag("Encrypted"), call.parameters.text("KmsKeyId")
    if key is not None and not encrypted:
        raise bad_combination("KmsKeyId needs Encrypted")
    if key is not None and not call.key_exists(key, call.region.name):
        raise Refusal(code="InvalidKmsKey.InvalidState", message=f"The KMS key {key} does not exist or cannot be used")
    return (key or call.region.default_key) if encrypted or call.region.settings.encryption_by_default else None


def _copied(  # noqa: PLR0913, PLR0917 - private, and called once
    call: Ec2Call, source_region: Region, mapping: Mapping, image: Image, key: str | None, tags: Table[str, str]
) -> Mapping:
    if mapping.snapshot_id is None:
        return mapping
    snapshot = source_region.snapshots.find(mapping.snapshot_id, call.now)
    if snapshot is None:
        raise Refusal(code="InvalidSnapshot.NotFound", message=f"The snapshot '{mapping.snapshot_id}' does not exist.")
    # A key is one of its region: what was encrypted there is so by the default key here, if no other is named.
    other = call.region.default_key if source_region is not call.region else snapshot.kms_key_arn
    copy = copy_of(
        snapshot,
        now=call.now,
        description=f"Copied for DestinationAmi {image.id} from SourceAmi {image.source_image_id} "
        f"for SourceSnapshot {snapshot.id}.",
        tags=tags,
        kms_key_arn=key or (other if snapshot.kms_key_arn else None),
        takes_s=call.tuning.snapshot_completes_after_s,
    )
    call.region.snapshots.add(copy, source_region.snapshots.blocks(snapshot.id).all())
    update = {"snapshot_id": copy.id, "encrypted": copy.kms_key_arn is not None, "kms_key_arn": copy.kms_key_arn}
    return mapping.model_copy(update=update)


def deregister_image(call: Ec2Call) -> Table[str, object]:
    """Forget an image, and, if that is wished, delete the snapshots that no other image has."""
    image_id, with_snapshots = call.parameters.required("ImageId"), call.parameters.flag("DeleteAssociatedSnapshots")
    with call.region.images.lock, call.region.snapshots.lock:
        image = call.image(image_id)
        if image.protected:
            message = f"The image {image_id} is protected against being deregistered"
            raise Refusal(code="OperationNotPermitted", message=message)
        call.begin()
        call.region.images.delete(image_id)
        results = [_deleted(call, snapshot_id) for snapshot_id in image.snapshot_ids] if with_snapshots else []
    return {"return": True, "deleteSnapshotResultSet": results or None}


def _deleted(call: Ec2Call, snapshot_id: str) -> dict[str, str]:
    if call.region.images.users_of(snapshot_id):
        return {"snapshotId": snapshot_id, "returnCode": "skipped"}
    if call.region.snapshots.find(snapshot_id, call.now) is None:
        return {"snapshotId": snapshot_id, "returnCode": "missing-permissions"}
    call.region.snapshots.delete(snapshot_id)
    return {"snapshotId": snapshot_id, "returnCode": "success"}
