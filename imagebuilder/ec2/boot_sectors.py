"""What the first sectors of a disk say: its partitions, and whether a PC's firmware finds a boot loader. Pure."""

import struct
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

SECTOR_BYTES = 512

BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
EFI_SYSTEM = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
_EFI_SYSTEM_MBR = "ef"
_PROTECTIVE_MBR = "ee"

_SIGNATURE = b"\x55\xaa"
_CODE_BYTES = 440  # of the first sector; behind it come the disk's number and the partition table
_MBR_TABLE, _MBR_ENTRY = 446, struct.Struct("<B3xB3xII")

_GPT_HEADER = struct.Struct("<8s64xQII")  # signature, first sector, number and size of the entries
_GPT_SIGNATURE = b"EFI PART"
_GPT_ENTRY = struct.Struct("<16s16sQQ")
_MOST_GPT_ENTRIES = 1024  # a table has 128; one that says more than this is damaged

# boot.img of GRUB 2: where it says at which sector the rest of GRUB begins (GRUB_BOOT_MACHINE_KERNEL_SECTOR).
_GRUB_NAME = b"GRUB "
_GRUB_NEXT_SECTOR = 0x5C

ReadBytes = Callable[[int, int], bytes]
"""Gives so many bytes from this one of the disk on; zeros behind its end."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One partition; `kind` is its type: a GUID, or two hexadecimal digits in a table of the old form."""

    number: int
    first_sector: int
    sectors: int
    kind: str

    @property
    def is_efi_system(self) -> bool:
        """Whether UEFI firmware looks in it for a boot loader."""
        return self.kind in (EFI_SYSTEM, _EFI_SYSTEM_MBR)

    def has_sector(self, sector: int) -> bool:
        """Whether `sector` of the disk is in it."""
        return self.first_sector <= sector < self.first_sector + self.sectors


@dataclass(frozen=True, kw_only=True)
class DiskLayout:
    """How a disk is divided; `bios_trouble` says why a BIOS cannot boot it, None if nothing speaks against it."""

    table: Literal["gpt", "mbr", "none"]
    partitions: tuple[Partition, ...]
    bios_trouble: str | None

    @property
    def efi_system(self) -> Partition | None:
        """The partition in which UEFI firmware looks for a boot loader."""
        return next((partition for partition in self.partitions if partition.is_efi_system), None)


def read_layout(read: ReadBytes) -> DiskLayout:
    """The layout of the disk that `read` reads. A damaged table is one without partitions, never an error."""
    first = read(0, SECTOR_BYTES)
    old_style = tuple(_mbr_partitions(first))
    is_gpt = any(partition.kind == _PROTECTIVE_MBR for partition in old_style)
    partitions = tuple(_gpt_partitions(read)) if is_gpt else old_style
    table: Literal["gpt", "mbr", "none"] = "gpt" if is_gpt else "mbr" if old_style else "none"
    return DiskLayout(table=table, partitions=partitions, bios_trouble=_bios_trouble(first, table, partitions, read))


def _mbr_partitions(first: bytes) -> Iterator[Partition]:
    if not first.endswith(_SIGNATURE):
        return
    for index in range(4):
        status, kind, start, sectors = _MBR_ENTRY.unpack_from(first, _MBR_TABLE + index * _MBR_ENTRY.size)
        # In a boot sector without a table there is code in its place, and no code begins like four such entries.
        if kind and sectors and status in (0x00, 0x80):
            yield Partition(number=index + 1, first_sector=start, sectors=sectors, kind=f"{kind:02x}")


def _gpt_partitions(read: ReadBytes) -> Iterator[Partition]:
    signature, start, count, size = _GPT_HEADER.unpack(read(SECTOR_BYTES, SECTOR_BYTES)[: _GPT_HEADER.size])
    if signature != _GPT_SIGNATURE or count > _MOST_GPT_ENTRIES or not _GPT_ENTRY.size <= size <= SECTOR_BYTES:
        return
    entries = read(start * SECTOR_BYTES, count * size)
    for index in range(count):
        kind, _, first, last = _GPT_ENTRY.unpack_from(entries, index * size)
        if any(kind):
            yield Partition(
                number=index + 1, first_sector=first, sectors=last - first + 1, kind=str(uuid.UUID(bytes_le=kind))
            )


def _bios_trouble(first: bytes, table: str, partitions: tuple[Partition, ...], read: ReadBytes) -> str | None:
    code = first[:_CODE_BYTES]
    if not first.endswith(_SIGNATURE) or not any(code):
        return "the first sector has no boot code"
    if _GRUB_NAME not in code:
        return None  # another boot loader, of which nothing more is known
    (sector,) = struct.unpack_from("<Q", first, _GRUB_NEXT_SECTOR)
    if not any(read(sector * SECTOR_BYTES, SECTOR_BYTES)):
        return f"the first sector looks for the rest of GRUB at sector {sector}, where there is nothing"
    if table == "gpt" and not any(one.kind == BIOS_BOOT and one.has_sector(sector) for one in partitions):
        return f"the rest of GRUB, at sector {sector}, is in no BIOS boot partition"
    if table == "mbr" and any(one.has_sector(sector) for one in partitions):
        return f"the rest of GRUB, at sector {sector}, is inside a partition"
    return None
