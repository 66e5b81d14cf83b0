"""The images of a region, as they were registered."""

import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from imagebuilder.whole_files import write_whole


class Mapping(BaseModel):
    """One block device of an image, as RegisterImage recorded it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device_name: str
    virtual_name: str | None = None
    no_device: bool = False
    snapshot_id: str | None = None
    volume_size_gib: int | None = None
    volume_type: str | None = None
    iops: int | None = None
    throughput: int | None = None
    delete_on_termination: bool = True
    encrypted: bool = False
    kms_key_arn: str | None = None

    @property
    def is_ebs(self) -> bool:
        """Whether it is a volume of EBS."""
        return self.volume_size_gib is not None


class Image(BaseModel):
    """One registered image; `frozen`: a change makes a new one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    registered_at: datetime
    visible_at: datetime
    """Before that it "does not exist" yet."""
    available_at: datetime
    location: str
    root_device_type: str
    architecture: str
    virtualization_type: str
    root_device_name: str | None = None
    mappings: tuple[Mapping, ...] = ()
    description: str | None = None
    ena_support: bool = False
    sriov_net_support: str | None = None
    boot_mode: str | None = None
    tpm_support: str | None = None
    imds_support: str | None = None
    uefi_data: str | None = None
    kernel_id: str | None = None
    ramdisk_id: str | None = None
    tags: dict[str, str] = {}
    launch_users: frozenset[str] = frozenset()
    launch_groups: frozenset[str] = frozenset()
    deprecated_at: datetime | None = None
    source_image_id: str | None = None
    source_region: str | None = None
    client_token: str | None = None
    disabled: bool = False
    protected: bool = False
    """Against being deregistered."""

    def state(self, now: datetime) -> str:
        """The state that it shows at `now`."""
        if self.disabled:
            return "disabled"
        return "available" if self.available_at <= now else "pending"

    @property
    def snapshot_ids(self) -> list[str]:
        """The snapshots that it is made of."""
        return [mapping.snapshot_id for mapping in self.mappings if mapping.snapshot_id]


class Images:
    """The images of one region, kept in `directory`. Safe to use from several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._all: dict[str, Image] = {}
        self.lock = threading.RLock()
        """Held by who looks at one or several images to then change one."""
        directory.mkdir(parents=True, exist_ok=True)
        for path in sorted(directory.glob("ami-*.json")):
            image = Image.model_validate_json(path.read_bytes())
            self._all[image.id] = image

    def __iter__(self) -> Iterator[Image]:
        """All, also those that cannot be seen yet, in the order of their ids."""
        with self.lock:
            return iter(sorted(self._all.values(), key=lambda image: image.id))

    def put(self, image: Image) -> None:
        """Take in a new one, or replace what is known of one."""
        with self.lock:
            write_whole(self._directory / f"{image.id}.json", image.model_dump_json(indent=1).encode(), survives="kill")
            self._all[image.id] = image

    def delete(self, image_id: str) -> None:
        """Forget one."""
        with self.lock:
            del self._all[image_id]
            (self._directory / f"{image_id}.json").unlink()

    def find(self, image_id: str, now: datetime) -> Image | None:
        """The image with this id, if it can be seen at `now`."""
        image = self._all.get(image_id)
        return image if image is not None and image.visible_at <= now else None

    def by_name(self, name: str) -> Image | None:
        """The image with this name, also one that cannot be seen yet."""
        with self.lock:
            return next((image for image in self._all.values() if image.name == name), None)

    def users_of(self, snapshot_id: str) -> list[str]:
        """The ids of the images that a snapshot is part of."""
        return [image.id for image in self if snapshot_id in image.snapshot_ids]
