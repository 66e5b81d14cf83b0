"""Finished images in a store, without an appliance: real disks, and plans that change little."""

import json
from pathlib import Path

from imagebuilder.image.appliance import DiskFormat
from imagebuilder.image.bases import Bench
from imagebuilder.image.qemu_img import make_overlay
from imagebuilder.image.store import LISTING, PLAN, TARGET, Image, Store, StoredBase
from imagebuilder.plan.listing import Listing
from tests.machines import debian

DIGEST = "d" * 64
CONTENT = b"the base's only sector".ljust(512, b"\0")
SIZE_BYTES = 8 << 20


def publish_base(store: Store) -> StoredBase:
    """A base of 8 MiB, of which one sector is written."""
    with store.new_directory(store.bases_directory) as new:
        disk = new / "disk.raw"
        with disk.open("wb") as stream:
            stream.write(CONTENT)
            stream.truncate(SIZE_BYTES)
        (new / TARGET).write_text(debian().to_json())
        Listing({}).write(new / LISTING)
        base = StoredBase(digest=DIGEST, format="raw", directory=new)
        return store.publish_base(new, base, recipe_key="f" * 64)


def publish_image(
    store: Store,
    base: StoredBase,
    name: str = "local01",
    *,
    role: str = "node",
    disk_format: DiskFormat = "qcow2",
    changes: tuple[str, ...] = ("/etc/hostname",),
) -> Image:
    """A finished image of the machine `name`, whose plan removes the paths `changes`."""
    with store.new_directory(store.image_directory(role, name)) as new:
        disk = new / f"disk.{disk_format}"
        if disk_format == "raw":
            disk.write_bytes(CONTENT)
        else:
            make_overlay(disk, base=base.disk, base_format=base.format)
        (new / PLAN).write_text(json.dumps([{"path": path, "change": "remove"} for path in changes]))
        Listing({}).write(new / LISTING)
        image = Image(
            role=role,
            name=name,
            key=f"{name}-key",
            format=disk_format,
            directory=new,
            base_digest=base.digest,
            built_at="2026-11-22T10:00:00+00:00",
            inputs={},
        )
        return store.publish(new, image)


def idle_bench(store: Store, directory: Path) -> Bench:
    """What needs no appliance works with; to start one is an error."""

    def environment() -> dict[str, str]:
        raise AssertionError("an appliance was asked for")

    return Bench(store=store, environment=environment, log=directory / "log", on_step=lambda _: None)
