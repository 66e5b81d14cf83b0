"""The filters of EC2's Describe calls."""

import re
from collections.abc import Mapping, Sequence

from imagebuilder.cloud.ec2_query import Parameters, bad_value, iso_time
from imagebuilder.cloud.images import Image
from imagebuilder.cloud.snapshots import Snapshot, utc_now

Filters = Mapping[str, Sequence[str]]
"""The values of each filter; one of them must fit, for every filter."""

Traits = Mapping[str, Sequence[str]]
"""What a thing can be filtered by: its values for each filter."""


def read_filters(parameters: Parameters) -> Filters:
    """The filters of a call."""
    filters = {}
    for given in parameters.things("Filter"):
        name, values = given.required("Name"), given.texts("Value")
        if not values:
            raise bad_value(f"The filter '{name}' has no values")
        filters[name] = values
    return filters


def fits(traits: Traits, filters: Filters) -> bool:
    """Whether a thing passes all filters. Raises Refusal if there is no such filter."""
    for name in filters:
        if name not in traits and not name.startswith("tag:"):
            raise bad_value(f"The filter '{name}' is invalid")
    return all(any(_matches(value, traits.get(name, ())) for value in values) for name, values in filters.items())


def _matches(wanted: str, values: Sequence[str]) -> bool:
    pattern = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in wanted)
    return any(re.fullmatch(pattern, value, re.DOTALL) for value in values)


def _of_tags(tags: Mapping[str, str]) -> dict[str, Sequence[str]]:
    return {**{f"tag:{key}": [value] for key, value in tags.items()}, "tag-key": list(tags)}


def _some(*values: object) -> list[str]:
    texts = (
        {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)
        for value in values
        if value is not None
    )
    return list(texts)


def image_traits(image: Image, owner: str) -> Traits:
    """What DescribeImages filters by."""
    volumes = [mapping for mapping in image.mappings if mapping.is_ebs]
    devices = "block-device-mapping"
    return {
        **_of_tags(image.tags),
        "architecture": [image.architecture],
        f"{devices}.delete-on-termination": _some(*(volume.delete_on_termination for volume in volumes)),
        f"{devices}.device-name": [mapping.device_name for mapping in image.mappings],
        f"{devices}.snapshot-id": image.snapshot_ids,
        f"{devices}.volume-size": _some(*(volume.volume_size_gib for volume in volumes)),
        f"{devices}.volume-type": _some(*(volume.volume_type for volume in volumes)),
        f"{devices}.encrypted": _some(*(volume.encrypted for volume in volumes)),
        "boot-mode": _some(image.boot_mode),
        "creation-date": [iso_time(image.registered_at)],
        "description": _some(image.description),
        "ena-support": _some(image.ena_support),
        "hypervisor": ["xen"],
        "image-id": [image.id],
        "image-type": ["machine"],
        "is-public": _some("all" in image.launch_groups),
        "kernel-id": _some(image.kernel_id),
        "manifest-location": [image.location],
        "name": [image.name],
        "owner-id": [owner],
        "ramdisk-id": _some(image.ramdisk_id),
        "root-device-name": _some(image.root_device_name),
        "root-device-type": [image.root_device_type],
        "source-image-id": _some(image.source_image_id),
        "source-image-region": _some(image.source_region),
        "sriov-net-support": _some(image.sriov_net_support),
        "state": [image.state(utc_now())],
        "virtualization-type": [image.virtualization_type],
    }


def snapshot_traits(snapshot: Snapshot, owner: str) -> Traits:
    """What DescribeSnapshots filters by."""
    now = utc_now()
    return {
        **_of_tags(snapshot.tags),
        "description": [snapshot.description],
        "encrypted": _some(snapshot.kms_key_arn is not None),
        "owner-id": [owner],
        "progress": [f"{snapshot.progress(now)}%"],
        "snapshot-id": [snapshot.id],
        "start-time": [iso_time(snapshot.started_at)],
        "status": [snapshot.state(now)],
        "storage-tier": ["standard"],
        "volume-id": [NO_VOLUME],
        "volume-size": _some(snapshot.volume_size_gib),
    }


# The volume of a snapshot that was made of none.
NO_VOLUME = "vol-ffffffff"
