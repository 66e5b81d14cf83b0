"""Puts GRUB for BIOS on a disk by writing the bytes that `grub-bios-setup` would write: no device, no root.

A PC's firmware starts the first sector (boot.img); that loads the first sector of core.img (diskboot.img), which
loads the rest of core.img. Where each finds the next is a number inside it, which grub-bios-setup fills in
(util/setup.c in GRUB 2.06). It wants a block device to look at; of a disk that we laid out we know the numbers.
"""

import struct

from imagebuilder.errors import BuildError

SECTOR_BYTES = 512

# include/grub/i386/pc/boot.h; the names are GRUB's without GRUB_BOOT_MACHINE_.
_BPB_START, _BPB_END = 0x03, 0x5A
_KERNEL_SECTOR = 0x5C
_BOOT_DRIVE = 0x64
_DRIVE_CHECK = 0x66
_WINDOWS_NT_MAGIC = 0x1B8  # the disk's own bytes from here: its signature, its partition table, 0x55AA
_SIGNATURE = b"\x55\xaa"

# struct grub_pc_bios_boot_blocklist: first sector, number of sectors, segment to load them to. grub-mkimage fills
# in all but the first sector, in the last entry of core.img's first sector (diskboot.S: `firstlist`).
_BLOCKLIST = struct.Struct("<QHH")
_FIRST_BLOCKLIST = SECTOR_BYTES - _BLOCKLIST.size

_BOOT_FROM_ANY_DRIVE = b"\xff"
_JUMP_SHORT = 0xEB
_TWO_NOPS = b"\x90\x90"


def boot_sector(boot_image: bytes, *, present: bytes, core_sector: int) -> bytes:
    """The first sector of a disk: GRUB's boot.img, with the partition table of the sector that is `present`.

    `core_sector` is the sector of the disk at which core.img begins. Raises BuildError if either is no boot sector.
    """
    if len(boot_image) != SECTOR_BYTES or boot_image[_DRIVE_CHECK] != _JUMP_SHORT:
        raise BuildError("not a boot.img that this program knows", where="boot.img", fix=_SUPPORTED)
    if len(present) != SECTOR_BYTES or not present.endswith(_SIGNATURE):
        raise BuildError("the disk has no partition table yet", where="boot sector")
    sector = bytearray(boot_image)
    sector[_BPB_START:_BPB_END] = present[_BPB_START:_BPB_END]
    sector[_WINDOWS_NT_MAGIC:] = present[_WINDOWS_NT_MAGIC:]
    struct.pack_into("<Q", sector, _KERNEL_SECTOR, core_sector)
    sector[_BOOT_DRIVE : _BOOT_DRIVE + 1] = _BOOT_FROM_ANY_DRIVE
    # What grub-bios-setup does for a hard disk: without the jump, boot.S corrects the drive number of firmware
    # that passes a floppy's.
    sector[_DRIVE_CHECK : _DRIVE_CHECK + 2] = _TWO_NOPS
    return bytes(sector)


def embedded_core(core_image: bytes, *, core_sector: int, room_sectors: int) -> bytes:
    """core.img as it stands on the disk from `core_sector` on, in whole sectors.

    It is contiguous, so its list of blocks has the one entry that grub-mkimage made: only its start is missing.
    The Reed-Solomon codes that grub-bios-setup adds in the room left over are optional (`add_rs_codes`) and not
    added. Raises BuildError if core.img is not as expected or needs more than `room_sectors`.
    """
    sectors = -(-len(core_image) // SECTOR_BYTES)
    if sectors > room_sectors:
        raise BuildError(f"needs {sectors} sectors, the BIOS boot partition has {room_sectors}", where="core.img")
    _, length, segment = _BLOCKLIST.unpack_from(core_image, _FIRST_BLOCKLIST) if sectors > 1 else (0, 0, 0)
    if length != sectors - 1 or segment == 0:
        raise BuildError("its first sector does not list the others", where="core.img", fix=_SUPPORTED)
    image = bytearray(core_image.ljust(sectors * SECTOR_BYTES, b"\0"))
    _BLOCKLIST.pack_into(image, _FIRST_BLOCKLIST, core_sector + 1, length, segment)
    return bytes(image)


_SUPPORTED = "use a suite whose grub-pc-bin is 2.02 or newer"
