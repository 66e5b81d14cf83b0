"""The first sectors of a disk tell its partitions and whether a BIOS finds GRUB."""

import struct
import subprocess
from pathlib import Path

import pytest

from imagebuilder.ec2.boot_sectors import BIOS_BOOT, EFI_SYSTEM, SECTOR_BYTES, DiskLayout, read_layout
from imagebuilder.image import grub

MIB_SECTORS = 2048

GPT = f"label: gpt\n14: start=2048, size=2048, type={BIOS_BOOT}\n15: start=4096, size=2048, type={EFI_SYSTEM}\n"
MBR = "label: dos\nstart=2048, size=2048, type=83, bootable\n"


def partitioned(disk: Path, script: str) -> Path:
    with disk.open("wb") as stream:
        stream.truncate(8 << 20)
    subprocess.run(["/sbin/sfdisk", "-q", disk], input=script.encode(), check=True)
    return disk


def put_grub(disk: Path, core_sector: int, *, core: bytes = b"\xeb") -> None:
    """GRUB's first sector, as this project writes it, and the first byte of what it loads."""
    boot_image = bytearray(SECTOR_BYTES)
    boot_image[0x66] = 0xEB
    boot_image[0x180:0x185] = b"GRUB "
    with disk.open("r+b") as stream:
        present = stream.read(SECTOR_BYTES)
        stream.seek(0)
        stream.write(grub.boot_sector(bytes(boot_image), present=present, core_sector=core_sector))
        stream.seek(core_sector * SECTOR_BYTES)
        stream.write(core)


def layout_of(disk: Path) -> DiskLayout:
    content = disk.read_bytes()
    return read_layout(lambda start, length: content[start : start + length].ljust(length, b"\0"))


def test_a_gpt_disk_with_grub_boots_by_bios(tmp_path: Path) -> None:
    disk = partitioned(tmp_path / "disk", GPT)
    put_grub(disk, MIB_SECTORS)

    layout = layout_of(disk)

    assert [(one.number, one.first_sector, one.sectors, one.kind) for one in layout.partitions] == [
        (14, 2048, 2048, BIOS_BOOT),
        (15, 4096, 2048, EFI_SYSTEM),
    ]
    assert (layout.table, layout.bios_trouble) == ("gpt", None)
    assert layout.efi_system is not None


def test_an_old_partition_table_with_grub_before_its_partitions_boots_by_bios(tmp_path: Path) -> None:
    disk = partitioned(tmp_path / "disk", MBR)
    put_grub(disk, 1)

    layout = layout_of(disk)

    assert [(one.number, one.first_sector, one.kind) for one in layout.partitions] == [(1, 2048, "83")]
    assert (layout.table, layout.bios_trouble, layout.efi_system) == ("mbr", None, None)


def test_a_disk_without_boot_code_does_not_boot_by_bios(tmp_path: Path) -> None:
    disk = partitioned(tmp_path / "disk", GPT)

    layout = layout_of(disk)

    assert layout.bios_trouble == "the first sector has no boot code"


def test_an_empty_disk_has_no_partitions(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))

    layout = layout_of(disk)

    assert (layout.table, layout.partitions, layout.bios_trouble) == ("none", (), "the first sector has no boot code")


@pytest.mark.parametrize(
    ("script", "sector", "core", "trouble"),
    [
        (GPT, 2048, b"\0", "the first sector looks for the rest of GRUB at sector 2048, where there is nothing"),
        (GPT, 4096, b"\xeb", "the rest of GRUB, at sector 4096, is in no BIOS boot partition"),
        (MBR, 2048, b"\xeb", "the rest of GRUB, at sector 2048, is inside a partition"),
    ],
)
def test_grub_that_does_not_find_its_rest_is_told(
    tmp_path: Path, script: str, sector: int, core: bytes, trouble: str
) -> None:
    disk = partitioned(tmp_path / "disk", script)
    put_grub(disk, sector, core=core)

    layout = layout_of(disk)

    assert layout.bios_trouble == trouble


def test_a_damaged_partition_table_is_one_without_partitions(tmp_path: Path) -> None:
    disk = partitioned(tmp_path / "disk", GPT)
    with disk.open("r+b") as stream:
        stream.seek(SECTOR_BYTES + 80)
        stream.write(struct.pack("<I", 0xFFFFFFFF))

    layout = layout_of(disk)

    assert (layout.table, layout.partitions) == ("gpt", ())
