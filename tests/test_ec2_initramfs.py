"""An initramfs is read as the kernel reads it: archives one behind the other, plain or compressed."""

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
import zstandard

from imagebuilder.ec2.initramfs import names_in_initramfs
from imagebuilder.errors import BuildError


def archive(*names: str, content: bytes = b"12345") -> bytes:
    """A cpio archive as the kernel takes it (newc)."""
    return b"".join(map(_member, names, [content] * len(names))) + _member("TRAILER!!!", b"")


def _member(name: str, content: bytes) -> bytes:
    fields = (0, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(content)


def _padded(part: bytes) -> bytes:
    return part + bytes(-len(part) % 4)


def paths(*names: str) -> set[PurePosixPath]:
    return {PurePosixPath(name) for name in (*names, "/TRAILER!!!")}


@pytest.mark.parametrize(
    "compress",
    [
        bytes,
        zstandard.compress,
        gzip.compress,
        bz2.compress,
        lambda content: lzma.compress(content, check=lzma.CHECK_CRC32),
        lambda content: lzma.compress(content, format=lzma.FORMAT_ALONE),
    ],
    ids=["plain", "zstd", "gzip", "bzip2", "xz", "lzma"],
)
def test_what_is_behind_the_microcode_is_found_however_it_is_compressed(compress: Callable[[bytes], bytes]) -> None:
    microcode = archive("kernel/x86/microcode/GenuineIntel.bin") + bytes(1024)
    content = microcode + compress(archive("init", "usr/lib/modules/6.1/ena.ko"))

    names = names_in_initramfs(content)

    assert names == paths("/kernel/x86/microcode/GenuineIntel.bin", "/init", "/usr/lib/modules/6.1/ena.ko")


def test_the_names_are_those_that_cpio_lists(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/nvme.ko").write_bytes(b"x" * 4097)
    made = subprocess.run(
        ["cpio", "--create", "--quiet", "--format=newc"],
        input=b"lib\nlib/nvme.ko\n",
        cwd=tmp_path,
        check=True,
        capture_output=True,
    ).stdout

    names = names_in_initramfs(made)

    assert names == paths("/lib", "/lib/nvme.ko")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive("init")[:-200], "ends in the middle of an archive"),
        (zstandard.compress(archive("init") * 100)[:-9], "cannot be decompressed|ends in the middle"),
        (gzip.compress(archive("init"))[:-30], "cannot be decompressed"),
        (b"\x02\x21\x4c\x18lz4, of the kernel's own kind", "no archive known here"),
        (archive("init").replace(b"000081A4", b"00008%A4", 1)[:94] + b"zzzzzzzz" + bytes(100), "damaged header"),
    ],
    ids=["cut", "cut-zstd", "cut-gzip", "lz4", "bad-number"],
)
def test_a_damaged_initramfs_is_an_error(content: bytes, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        names_in_initramfs(content)
