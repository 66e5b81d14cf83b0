"""Small images in a store's way, and what is exported of them."""

import json
import random
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from imagebuilder.image.appliance import DiskFormat
from imagebuilder.image.store import MANIFEST, PLAN, Image, swap_link
from imagebuilder.xen.export import Content, Export, export
from imagebuilder.xen.folder_texts import FOLDER, folder_texts

MIB = 1 << 20
# Of that so much is data, which no compression makes smaller: the rest is a hole.
DISK_BYTES, DATA_BYTES = 64 * MIB, 8 * MIB


def overlay_image(store: Path, *, key: str = "k1") -> Image:
    """An image of 64 MiB, a qcow2 overlay on a raw base: both have data of their own."""
    base = store / "bases" / "d" / "disk.raw"
    if not base.exists():
        write_raw(base)
    disk = store / "images" / "node" / "local01" / key / "disk.qcow2"
    disk.parent.mkdir(parents=True)
    qemu_img("create", "-q", "-f", "qcow2", "-b", "../../../../bases/d/disk.raw", "-F", "raw", disk)
    write_to(disk, seed=ord(key[-1]))
    return _image(disk, key, "qcow2")


def raw_image(store: Path, *, key: str = "k1") -> Image:
    """An image of 64 MiB that stands alone."""
    disk = store / "images" / "node" / "local01" / key / "disk.raw"
    write_raw(disk)
    return _image(disk, key, "raw")


def write_raw(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with path.open("wb") as stream:
        stream.truncate(DISK_BYTES)
        stream.seek(MIB)
        stream.write(random.Random(1).randbytes(DATA_BYTES))


def write_to(disk: Path, *, seed: int) -> None:
    """Write 64 KiB of one byte somewhere into a qcow2 image, as a machine would that runs on it."""
    command = f"write -q -P {seed} 32M 64k"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, disk], check=True, capture_output=True)


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True, timeout=60)


def _image(disk: Path, key: str, image_format: DiskFormat) -> Image:
    """The image as the store has it, the current one."""
    image = Image(
        role="node",
        name="local01",
        key=key,
        format=image_format,
        directory=disk.parent,
        base_digest="d",
        built_at="2026-11-22T10:00:00+00:00",
        inputs={},
    )
    manifest = {name: value for name, value in asdict(image).items() if name != "directory"}
    (disk.parent / PLAN).write_text("[]")
    (disk.parent / MANIFEST).write_text(json.dumps(manifest))
    swap_link(disk.parent.parent / "current", key)
    return image


def configuration(disk_name: str = "disk.raw") -> str:
    """An xl configuration of a folder's machine, with a kernel in the folder."""
    disk = f"format={disk_name.rpartition('.')[2]},vdev=xvda,access=rw,target={FOLDER}/{disk_name}"
    return (
        'name = "local01"\n'
        'type = "pv"\n'
        "memory = 1024\n"
        f'kernel = "{FOLDER}/kernel"\n'
        f"disk = [ '{disk}' ]\n"
        'on_reboot = "restart"\n'
    )


def content_of(image: Image, *, disk_format: DiskFormat = "raw", kernel: Path | None = None) -> Content:
    """What goes into the folder of `image`."""
    texts = folder_texts(image.name, image.role, configuration(f"disk.{disk_format}"), disk_name=f"disk.{disk_format}")
    return Content(
        image=image, disk_format=disk_format, texts=texts, files={} if kernel is None else {"kernel": kernel}
    )


def with_text(content: Content, name: str, text: str) -> Content:
    """The same with another text."""
    return replace(content, texts={**content.texts, name: text})


def export_to(directory: Path, content: Content) -> Export:
    """Export where nobody else does."""
    return export(content, directory, on_wait=_no_wait)


def _no_wait(directory: Path) -> None:
    raise AssertionError(f"waited for {directory}")


def names_in(directory: Path) -> Sequence[str]:
    return sorted(file.name for file in directory.iterdir())


def put_program(path: Path, text: str) -> None:
    """A program of sh, as a stand-in for another that is on PATH."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
