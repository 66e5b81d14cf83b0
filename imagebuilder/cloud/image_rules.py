"""What RegisterImage takes: the rules of names, devices and their sizes, and of what goes with what."""

import re
from collections.abc import Mapping as Table
from collections.abc import Sequence
from dataclasses import dataclass

from imagebuilder.cloud.ec2_query import Parameters, bad_combination, bad_value
from imagebuilder.cloud.images import Mapping
from imagebuilder.cloud.refusals import Refusal

_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")
_DEVICE = re.compile(r"/dev/(?:sd[a-z]\d{0,2}|xvd[a-z]{1,2}\d{0,2}|nvme\d+n\d+)|sd[a-z]\d{0,2}|xvd[a-z]{1,2}\d{0,2}")
# The sizes in GiB that each type of volume can have.
_SIZES = {
    "standard": (1, 1024),
    "gp2": (1, 16_384),
    "gp3": (1, 65_536),
    "io1": (4, 16_384),
    "io2": (4, 65_536),
    "st1": (125, 16_384),
    "sc1": (125, 16_384),
}
_BOOT = {"standard", "gp2", "gp3", "io1", "io2"}


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What RegisterImage is asked for, beside name, description, tags and devices."""

    architecture: str | None
    virtualization_type: str
    ena_support: bool
    sriov_net_support: str | None
    boot_mode: str | None
    tpm_support: str | None
    imds_support: str | None
    uefi_data: str | None
    kernel_id: str | None
    ramdisk_id: str | None


def check_name(name: str) -> None:
    """Raise Refusal if an image cannot be called that."""
    if not _NAME.fullmatch(name):
        raise Refusal(
            code="InvalidAMIName.Malformed",
            message="AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', "
            "'[', ']', ' ', '.', '/', '-', \"'\", '@' and '_'",
        )


def check_description(description: str | None) -> None:
    """Raise Refusal if it is too long."""
    if description is not None and len(description) > 255:
        raise bad_value("The description must not be longer than 255 characters")


def read_wish(parameters: Parameters) -> Wish:
    """What the parameters ask for. Raises Refusal if it does not go together."""
    wish = Wish(
        architecture=parameters.one_of("Architecture", "i386", "x86_64", "arm64", "x86_64_mac", "arm64_mac"),
        # Paravirtual, unless one says otherwise: so it has been since there was nothing else.
        virtualization_type=parameters.one_of("VirtualizationType", "hvm", "paravirtual") or "paravirtual",
        ena_support=bool(parameters.flag("EnaSupport")),
        sriov_net_support=parameters.one_of("SriovNetSupport", "simple"),
        boot_mode=parameters.one_of("BootMode", "legacy-bios", "uefi", "uefi-preferred"),
        tpm_support=parameters.one_of("TpmSupport", "v2.0"),
        imds_support=parameters.one_of("ImdsSupport", "v2.0"),
        uefi_data=parameters.text("UefiData"),
        kernel_id=parameters.text("KernelId"),
        ramdisk_id=parameters.text("RamdiskId"),
    )
    _check_together(wish)
    return wish


def _check_together(wish: Wish) -> None:
    if wish.virtualization_type == "paravirtual":
        needing = {
            "EnaSupport": wish.ena_support,
            "SriovNetSupport": wish.sriov_net_support,
            "BootMode": wish.boot_mode,
            "TpmSupport": wish.tpm_support,
            "UefiData": wish.uefi_data,
        }
        for name, value in needing.items():
            if value:
                raise bad_combination(f"{name} is not supported with the virtualization type paravirtual; use hvm")
        if wish.architecture == "arm64":
            raise bad_combination("The architecture arm64 needs the virtualization type hvm")
    elif wish.kernel_id or wish.ramdisk_id:
        raise bad_combination("A kernel or ramdisk is not supported with the virtualization type hvm")
    if wish.boot_mode in {"uefi", "uefi-preferred"} and wish.architecture in {None, "i386"}:
        raise bad_combination(f"The boot mode {wish.boot_mode} is not supported with the architecture i386")
    if wish.architecture == "arm64" and wish.boot_mode not in {None, "uefi"}:
        raise bad_combination(f"The boot mode {wish.boot_mode} is not supported with the architecture arm64")
    if (wish.tpm_support or wish.uefi_data) and wish.boot_mode != "uefi":
        raise bad_combination("TpmSupport and UefiData need the boot mode uefi")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A snapshot, as far as it matters to a device that is made of it."""

    volume_size_gib: int
    kms_key_arn: str | None


def bad_device(message: str) -> Refusal:
    """A block device mapping that cannot be."""
    return Refusal(code="InvalidBlockDeviceMapping", message=message)


@dataclass(frozen=True, kw_only=True)
class Device:
    """One block device mapping, as it was asked for."""

    name: str
    virtual_name: str | None
    no_device: bool
    has_ebs: bool
    snapshot_id: str | None
    volume_size_gib: int | None
    volume_type: str | None
    iops: int | None
    throughput: int | None
    delete_on_termination: bool | None
    encrypted: bool | None
    kms_key: str | None


def read_devices(parameters: Parameters) -> list[Device]:
    """The block device mappings that were asked for, of which nothing is checked but the syntax of the names."""
    devices = []
    for given in parameters.things("BlockDeviceMapping"):
        ebs = given.thing("Ebs")
        device = Device(
            name=given.required("DeviceName"),
            virtual_name=given.text("VirtualName"),
            no_device=given.text("NoDevice") is not None,
            has_ebs=bool(ebs),
            snapshot_id=ebs.text("SnapshotId"),
            volume_size_gib=ebs.number("VolumeSize"),
            volume_type=ebs.one_of("VolumeType", *_SIZES),
            iops=ebs.number("Iops"),
            throughput=ebs.number("Throughput"),
            delete_on_termination=ebs.flag("DeleteOnTermination"),
            encrypted=ebs.flag("Encrypted"),
            kms_key=ebs.text("KmsKeyId"),
        )
        if not _DEVICE.fullmatch(device.name):
            raise bad_device(f"Invalid device name {device.name}")
        devices.append(device)
    names = [device.name for device in devices]
    for name in names:
        if names.count(name) > 1:
            raise bad_device(f"The device '{name}' is used in more than one block-device mapping")
    return devices


def make_mappings(devices: Sequence[Device], sources: Table[str, Source], *, default_key: str) -> list[Mapping]:
    """The devices as they are recorded; `sources` has the snapshots that they name. Raises Refusal."""
    return [_mapping(device, sources, default_key) for device in devices]


def _mapping(device: Device, sources: Table[str, Source], default_key: str) -> Mapping:
    if device.no_device or device.virtual_name is not None:
        if device.has_ebs:
            raise bad_device(f"The device {device.name} can be a volume or something else, not both")
        if device.virtual_name is not None and not re.fullmatch(r"ephemeral\d{1,2}", device.virtual_name):
            raise bad_device(f"Invalid virtual name {device.virtual_name}")
        return Mapping(device_name=device.name, virtual_name=device.virtual_name, no_device=device.no_device)
    if not device.has_ebs:
        raise bad_device(f"The device {device.name} is neither a volume nor anything else")
    source = sources[device.snapshot_id] if device.snapshot_id else None
    if source is not None and (device.encrypted is not None or device.kms_key is not None):
        message = f"the encrypted flag cannot be specified since device {device.name} has a snapshot specified."
        raise bad_device(message)
    if device.kms_key is not None and not device.encrypted:
        raise bad_device(f"The device {device.name} has a key and is not encrypted")
    size = device.volume_size_gib if device.volume_size_gib is not None or source is None else source.volume_size_gib
    if size is None:
        raise Refusal(code="MissingParameter", message=f"The device {device.name} needs a snapshot or a volume size")
    _check_size(device, size, source)
    own_key = (device.kms_key or default_key) if device.encrypted else None
    return Mapping(
        device_name=device.name,
        snapshot_id=device.snapshot_id,
        volume_size_gib=size,
        volume_type=device.volume_type or "gp2",
        iops=device.iops,
        throughput=device.throughput,
        delete_on_termination=device.delete_on_termination is not False,
        encrypted=source.kms_key_arn is not None if source else bool(device.encrypted),
        kms_key_arn=source.kms_key_arn if source else own_key,
    )


def _check_size(device: Device, size: int, source: Source | None) -> None:
    if source is not None and size < source.volume_size_gib:
        raise bad_device(
            f"Volume of size {size}GB is smaller than snapshot '{device.snapshot_id}', "
            f"expect size >= {source.volume_size_gib}GB"
        )
    kind = device.volume_type or "gp2"
    least, most = _SIZES[kind]
    if not least <= size <= most:
        raise bad_value(f"Invalid volume size: {size}. A volume of type {kind} has {least} to {most} GiB")
    if device.iops is None and kind in {"io1", "io2"}:
        raise Refusal(code="MissingParameter", message=f"The parameter iops must be specified for {kind} volumes.")
    if device.iops is not None and kind not in {"io1", "io2", "gp3"}:
        raise bad_combination(f"The parameter iops is not supported for {kind} volumes.")
    if device.throughput is not None and kind != "gp3":
        raise bad_combination(f"The parameter throughput is not supported for {kind} volumes.")


def check_root(root_device_name: str | None, mappings: Sequence[Mapping]) -> None:
    """Raise Refusal unless an image that boots from EBS has the volume that it boots from."""
    if not root_device_name:
        raise Refusal(code="MissingParameter", message="The request must contain the parameter rootDeviceName")
    root = next((mapping for mapping in mappings if mapping.device_name == root_device_name), None)
    if root is None:
        raise bad_device(f"The root device {root_device_name} has no block device mapping")
    if root.snapshot_id is None:
        raise bad_device(f"The root device {root_device_name} needs a snapshot")
    if root.volume_type not in _BOOT:
        raise bad_value(f"A volume of type {root.volume_type} cannot be a root device")
