"""Disks are read through their chain of overlays just as qemu-img reads them."""

import subprocess
from pathlib import Path

import pytest

from imagebuilder.errors import BuildError
from imagebuilder.image.appliance import DiskFormat
from imagebuilder.image.disk_reader import open_disk
from imagebuilder.image.qemu_img import copy_flat

MIB = 1 << 20
BLOCK = 512 << 10


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True)


def write(disk: Path, *commands: str) -> None:
    words = [word for command in commands for word in ("-c", command)]
    subprocess.run(["qemu-io", "-f", "qcow2", *words, disk], check=True, capture_output=True)


def flat(disk: Path, disk_format: DiskFormat = "qcow2") -> bytes:
    raw = disk.with_suffix(".flat")
    qemu_img("convert", "-f", disk_format, "-O", "raw", disk, raw)
    return raw.read_bytes()


def content(disk: Path, disk_format: DiskFormat = "qcow2", *, step: int = BLOCK) -> bytes:
    with open_disk(disk, disk_format) as reader:
        whole = bytearray(b"\xee" * reader.size_bytes)
        for start in range(0, reader.size_bytes, step):
            reader.read_into(start, memoryview(whole)[start : start + step])
    return bytes(whole)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A raw file of 8 MiB: a hole, 1 MiB of data, a hole, data up to an end that is no whole block."""
    path = tmp_path / "base.raw"
    with path.open("wb") as file:
        file.seek(MIB)
        file.write(b"B" * MIB)
        file.seek(7 * MIB)
        file.write(b"E" * (MIB - 1024))
    return path


@pytest.fixture
def overlay(base: Path) -> Path:
    """An overlay that changes some of the base, puts zeros over some and adds where the base has a hole."""
    path = base.with_name("overlay.qcow2")
    qemu_img("create", "-f", "qcow2", "-b", base, "-F", "raw", path)
    write(path, f"write -P 1 {MIB + 65536} 100000", f"write -z {MIB + 524288} 131072", f"write -P 2 {4 * MIB} 512")
    return path


@pytest.mark.parametrize("step", [BLOCK, 4096, 3 * 65536 + 512])
def test_an_overlay_reads_as_qemu_reads_it(overlay: Path, step: int) -> None:
    assert content(overlay, step=step) == flat(overlay)


def test_a_raw_file_reads_as_it_is(base: Path) -> None:
    assert content(base, "raw") == base.read_bytes()


def test_an_overlay_that_is_larger_than_its_base_ends_in_zeros(base: Path) -> None:
    path = base.with_name("larger.qcow2")
    qemu_img("create", "-f", "qcow2", "-b", base, "-F", "raw", path, str(12 * MIB))

    assert content(path) == flat(path)
    assert len(content(path)) == 12 * MIB


def test_blocks_in_holes_are_not_allocated(overlay: Path) -> None:
    with open_disk(overlay, "qcow2") as reader:
        blocks = list(reader.allocated_blocks(BLOCK))

    assert blocks == [2, 3, 8, 14, 15]


def test_zeros_over_data_are_allocated(base: Path) -> None:
    path = base.with_name("zeros.qcow2")
    qemu_img("create", "-f", "qcow2", "-b", base, "-F", "raw", path)
    write(path, f"write -z 0 {8 * MIB - 65536}")

    with open_disk(path, "qcow2") as reader:
        blocks = list(reader.allocated_blocks(BLOCK))

    assert blocks == list(range(16))


def test_what_is_behind_the_end_reads_as_zeros(base: Path) -> None:
    buffer = bytearray(b"\xee" * BLOCK)

    with open_disk(base, "raw") as reader:
        reader.read_into(8 * MIB - BLOCK, memoryview(buffer))

    assert buffer == b"E" * (BLOCK - 1024) + bytes(1024)


def test_compressed_clusters_are_refused(base: Path) -> None:
    path = base.with_name("compressed.qcow2")
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", base, path)

    with pytest.raises(BuildError, match="compressed"), open_disk(path, "qcow2"):
        pass


def test_a_copy_that_becomes_a_base_is_no_longer_compressed(base: Path) -> None:
    compressed, copy = base.with_name("compressed.qcow2"), base.with_name("copy.qcow2")
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", base, compressed)

    copy_flat(copy, image=compressed, image_format="qcow2")

    assert content(copy) == flat(base, "raw")


def test_a_file_that_was_cut_short_is_an_error(overlay: Path, base: Path) -> None:
    with open_disk(overlay, "qcow2") as reader:
        with base.open("r+b") as file:
            file.truncate(MIB + 4096)

        with pytest.raises(BuildError, match="too early"):
            reader.read_into(MIB, memoryview(bytearray(BLOCK)))
