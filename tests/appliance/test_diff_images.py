import csv
import hashlib
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from imagebuilder.errors import BuildError
from imagebuilder.image.appliance import Appliance, Disk, open_appliance
from imagebuilder.image.store import LISTING, Image, Store
from imagebuilder.plan.listing import Entry, Kind, Listing
from imagebuilder.programs import run_program
from tests.command import imgbuild

pytestmark = pytest.mark.appliance

KEY = "1" * 64
EMULATION = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
# What libguestfs takes for a Debian system, so that virt-diff accepts it.
SYSTEM = {
    "bin/.keep": "",
    "etc/debian_version": "12.7\n",
    "etc/fstab": "# nothing\n",
    "etc/hostname": "one\n",
    "etc/os-release": "ID=debian\n",
}
FILES = {
    **SYSTEM,
    "etc/binary": "a\0b",
    "etc/gone": "gone\n",
    "etc/gone.d/file": "gone\n",
    "etc/mode": "mode\n",
    "etc/mode.d/file": "same\n",
    "etc/owner": "owner\n",
    "etc/same-size": "size 1\n",
    "etc/type": "a file\n",
    "etc/vpn/key": "key of one\n",
    "etc/vpn/tabs": "a\tb\n",
}
LINKS = {"etc/link": "one", "etc/kept-link": "one"}

# A copy keeps the times of what does not change, which virt-diff counts; of links it knows only how long they are.
EDITS = b"""
rm /etc/hostname
write two /etc/hostname
rm /etc/same-size
write size2 /etc/same-size
rm /etc/binary
write binary2 /etc/binary
rm /etc/vpn/key
write key2 /etc/vpn/key
set_inode_field /etc/vpn/key mode 0100600
rm /etc/vpn/tabs
write tabs2 /etc/vpn/tabs
rm /etc/gone
rm /etc/gone.d/file
rmdir /etc/gone.d
mkdir /etc/new.d
write two "/etc/new.d/a, b"
write two /etc/zo\xc3\xab
set_inode_field /etc/mode mode 0100600
set_inode_field /etc/mode.d mode 040700
set_inode_field /etc/owner uid 42
rm /etc/link
symlink /etc/link /etc/two
rm /etc/type
symlink /etc/type one
"""
SOURCES = {"two": "two of two\n", "size2": "size 2\n", "binary2": "a\0c", "key2": "key of two\n", "tabs2": "a\tc\n"}

ROOT_UUID, BOOT_UUID = "0f4ac9f4-2f9e-4b3b-8f37-1b6f3f0a7c01", "0f4ac9f4-2f9e-4b3b-8f37-1b6f3f0a7c02"
TABLE = b"label: gpt\nstart=2048, size=16384\nstart=18432, size=16384\n"
FSTAB = f"UUID={ROOT_UUID} / ext4 defaults 0 1\nUUID={BOOT_UUID} /boot ext4 defaults 0 2\n"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A raw image without partitions, and a qcow2 image of an edited copy of it."""
    folder = tmp_path_factory.mktemp("pair")
    one, copy, two = folder / "one.raw", folder / "copy.raw", folder / "two.qcow2"
    make_file_system(one, write_tree(folder / "tree", FILES, LINKS))
    copy.write_bytes(one.read_bytes())
    edit_file_system(copy, EDITS, write_tree(folder / "sources", SOURCES))
    run_program(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", copy, two])
    return one, two


@pytest.fixture(scope="module")
def compared(pair: tuple[Path, Path]) -> dict[str, Any]:
    """What `imgbuild diff -N --json` says of the pair."""
    return difference(pair[0].parent, *map(str, pair), "--new-file")


@pytest.fixture(scope="module")
def odd_disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """An appliance with a blank disk, one with two file systems and no system, one with a name in Latin 1."""
    folder = tmp_path_factory.mktemp("odd")
    blank, two_trees, latin = folder / "blank.raw", folder / "two-trees.raw", folder / "latin.raw"
    make_disk(two_trees, write_tree(folder / "a", {"a": ""}), write_tree(folder / "b", {"b": ""}))
    make_file_system(latin, write_tree(folder / "c", {os.fsdecode(b"na\xefve"): ""}))
    with blank.open("wb") as stream:
        stream.truncate(1 << 20)
    disks = [Disk(path=path, format="raw", access="read") for path in (blank, two_trees, latin)]
    steps: list[str] = []
    with open_appliance(disks, environment=EMULATION, log=folder / "log", on_step=steps.append) as appliance:
        yield appliance


def write_tree(directory: Path, files: dict[str, str], links: dict[str, str] | None = None) -> Path:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for name, target in (links or {}).items():
        (directory / name).symlink_to(target)
    return directory


def make_file_system(image: Path, tree: Path, *options: str, size: str = "8M") -> None:
    run_program(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, *options, image, size])


def edit_file_system(image: Path, commands: bytes, sources: Path, *, start: int = 0) -> None:
    """Change a file system without mounting it, with files from the directory `sources`."""
    script = f"lcd {sources}\n".encode() + commands
    said = run_program(["debugfs", "-w", "-f", "/dev/stdin", f"{image}?offset={start}"], stdin=script)
    assert "not found" not in said


def make_disk(image: Path, root: Path, boot: Path) -> None:
    """A disk with two partitions of 8 MiB."""
    with image.open("wb") as stream:
        stream.truncate(18 << 20)
    run_program(["sfdisk", "-q", image], stdin=TABLE)
    make_file_system(image, root, "-U", ROOT_UUID, "-E", f"offset={1 << 20}")
    make_file_system(image, boot, "-U", BOOT_UUID, "-E", f"offset={9 << 20}")


def difference(site: Path, *words: str) -> dict[str, Any]:
    outcome = imgbuild(site, "diff", *words, "--json")
    assert outcome.code == 1, outcome.err
    described: dict[str, Any] = json.loads(outcome.out)
    return described


def paths_named_by_virt_diff(output: str) -> set[str]:
    """The paths in what `virt-diff --csv --uids --checksum` printed.

    A path of which it prints the same twice differs only in an inode or device number or a time.
    """
    rows = [tuple(row) for row in csv.reader(io.StringIO(output)) if row[0] in "-+="]
    count = Counter(row[1:] for row in rows)
    return {row[7] if row[1] == "-" else row[6] for row in rows if count[row[1:]] == 1}


def keep_as_built(store: Store, disk: Path, texts: dict[str, str]) -> None:
    """Put a disk into the store as the image `node`, with a listing of these files only."""
    with store.new_directory(store.image_directory("node", "node")) as new:
        shutil.copy(disk, new / "disk.raw")
        Listing({PurePosixPath(path): text_entry(text) for path, text in texts.items()}).write(new / LISTING)
        image = Image(
            role="node", name="node", key=KEY, format="raw", directory=new, base_digest="", built_at="", inputs={}
        )
        store.publish(new, image)


def text_entry(text: str) -> Entry:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Entry(Kind.FILE, 0o644, os.getuid(), os.getgid(), size=len(text), digest=digest)


def test_two_image_files_are_compared_in_every_aspect(compared: dict[str, Any]) -> None:
    assert {row["path"]: row["aspects"] for row in compared["differences"]} == {
        "/etc/binary": ["content"],
        "/etc/gone": ["only in a"],
        "/etc/gone.d": ["only in a"],
        "/etc/gone.d/file": ["only in a"],
        "/etc/hostname": ["content"],
        "/etc/link": ["link"],
        "/etc/mode": ["mode"],
        "/etc/mode.d": ["mode"],
        "/etc/new.d": ["only in b"],
        "/etc/new.d/a, b": ["only in b"],
        "/etc/owner": ["owner"],
        "/etc/same-size": ["content"],
        "/etc/type": ["type"],
        "/etc/vpn/key": ["mode", "content"],
        "/etc/vpn/tabs": ["content"],
        "/etc/zoë": ["only in b"],
    }


def test_texts_are_shown_and_secrets_are_not(compared: dict[str, Any], pair: tuple[Path, Path]) -> None:
    contents = {row["path"]: row["content"] for row in compared["differences"]}

    assert contents["/etc/vpn/tabs"] == {
        "kind": "text",
        "unified": f"--- {pair[0]}:/etc/vpn/tabs\n+++ {pair[1]}:/etc/vpn/tabs\n@@ -1 +1 @@\n-a\tb\n+a\tc\n",
    }
    assert contents["/etc/zoë"]["unified"].startswith(f"--- /dev/null\n+++ {pair[1]}:/etc/zoë\n@@ -0,0 +1 @@\n")
    assert contents["/etc/binary"] == {"kind": "not shown", "why": "binary"}
    assert contents["/etc/vpn/key"] == {
        "kind": "secret",
        "sha256_a": hashlib.sha256(b"key of one\n").hexdigest(),
        "sha256_b": hashlib.sha256(b"key of two\n").hexdigest(),
    }
    assert contents["/etc/mode"] is None


def test_virt_diff_names_the_same_paths(compared: dict[str, Any], pair: tuple[Path, Path]) -> None:
    one, two = ("--format=raw", "-a", pair[0]), ("--format=qcow2", "-A", pair[1])

    output = run_program(
        ["virt-diff", *one, *two, "--checksum=sha256", "--uids", "--csv"], environment=EMULATION, timeout_s=600
    )

    assert paths_named_by_virt_diff(output) == {row["path"] for row in compared["differences"]}


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A site whose store has the image `node`, and an image file it was copied from, UUIDs and all."""
    site = tmp_path_factory.mktemp("site")
    original, copy = site / "original.raw", site / "copy.raw"
    root = write_tree(site / "root", {**SYSTEM, "etc/fstab": FSTAB, "etc/motd": "one\n", "boot/.keep": ""})
    make_disk(original, root, write_tree(site / "boot", {"config": "one\n"}))
    copy.write_bytes(original.read_bytes())
    sources = write_tree(site / "sources", {"two": "two\n"})
    edit_file_system(copy, b"rm /etc/motd\nwrite two /etc/motd\n", sources, start=1 << 20)
    edit_file_system(copy, b"rm /config\nwrite two /config\n", sources, start=9 << 20)
    keep_as_built(
        Store(root=site / "store"), copy, {"/boot/config": "two\n", "/etc/hostname": "one\n", "/etc/motd": "two\n"}
    )
    return site, original


def test_copies_of_a_system_on_two_partitions_are_told_apart(copies: tuple[Path, Path]) -> None:
    site, original = copies

    said = difference(site, str(original), "node", "/boot/config", "/etc/hostname", "/etc/motd", "--unified")

    assert [(row["path"], row["content"]["unified"].splitlines()[2:]) for row in said["differences"]] == [
        ("/boot/config", ["@@ -1 +1 @@", "-one", "+two"]),
        ("/etc/motd", ["@@ -1 +1 @@", "-one", "+two"]),
    ]


def test_a_built_image_that_was_changed_since_is_trouble(pair: tuple[Path, Path], tmp_path: Path) -> None:
    keep_as_built(Store(root=tmp_path / "store"), pair[0], {"/etc/hostname": "???\n"})

    outcome = imgbuild(tmp_path, "diff", "node", str(pair[1]), "/etc/hostname", "--unified")

    disk = tmp_path / "store/images/node/node" / KEY / "disk.raw"
    assert outcome.code == 2
    assert outcome.err.endswith(
        "imgbuild: node: its /etc/hostname has changed since it was built\n"
        f"  fix: compare the disk as it is now: {disk}\n"
    )


@pytest.mark.parametrize(
    ("index", "trouble"),
    [(0, "holds no file system"), (1, "holds several file systems, but not one system on plain partitions")],
)
def test_a_disk_of_which_the_root_is_unknown_is_refused(odd_disks: Appliance, index: int, trouble: str) -> None:
    with pytest.raises(BuildError, match=trouble):
        odd_disks.mount_points(index)


def test_a_file_name_that_libguestfs_cannot_read_is_refused(odd_disks: Appliance) -> None:
    mount_points = odd_disks.mount_points(2)

    with odd_disks.mounted_whole(2, mount_points) as system, pytest.raises(BuildError, match="is not UTF-8"):
        system.paths()
