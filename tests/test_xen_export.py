"""The folder that goes into a dom0."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagebuilder.errors import BuildError, CheckError, HostError, UsageError
from imagebuilder.image.appliance import DiskFormat
from imagebuilder.image.store import Image
from imagebuilder.xen.export import SUMS, Content, export, is_exported
from tests.exports import (
    DATA_BYTES,
    DISK_BYTES,
    MIB,
    content_of,
    export_to,
    names_in,
    overlay_image,
    put_program,
    qemu_img,
    raw_image,
    with_text,
    write_to,
)
from tests.machines import PROJECT


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return overlay_image(tmp_path / "store")


def sums_of(folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["sha256sum", "-c", SUMS], cwd=folder, capture_output=True, text=True, check=False)


def inodes_in(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in folder.iterdir()}


# What is in it.


def test_the_raw_disk_is_what_the_machine_sees_on_the_overlay_and_has_its_holes(image: Image, tmp_path: Path) -> None:
    disk = export_to(tmp_path / "out", content_of(image)).folder / "disk.raw"

    qemu_img("compare", "-f", "raw", "-F", "qcow2", disk, image.disk)
    assert disk.stat().st_size == DISK_BYTES
    assert disk.stat().st_blocks * 512 < DATA_BYTES + MIB


def test_a_raw_image_is_copied_with_its_holes(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "store")

    disk = export_to(tmp_path / "out", content_of(image)).folder / "disk.raw"

    assert disk.read_bytes() == image.disk.read_bytes()
    assert disk.stat().st_blocks * 512 < DATA_BYTES + MIB


def test_an_overlay_finds_its_base_in_the_folder_wherever_that_is_moved(image: Image, tmp_path: Path) -> None:
    store = tmp_path / "store"
    exported = export_to(tmp_path / "out", content_of(image, disk_format="qcow2"))
    flat = tmp_path / "flat.raw"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", image.disk, flat)

    moved = exported.folder.rename(tmp_path / "moved")
    store.rename(tmp_path / "store that is elsewhere")

    qemu_img("compare", "-f", "qcow2", "-F", "raw", moved / "disk.qcow2", flat)
    assert names_in(moved) == ["README", SUMS, "base.raw", "disk.qcow2", "export.json", "local01.cfg", "start"]


def test_the_image_in_the_store_is_not_written_to(image: Image, tmp_path: Path) -> None:
    before = image.disk.read_bytes()

    export_to(tmp_path / "out", content_of(image, disk_format="qcow2"))

    assert image.disk.read_bytes() == before
    assert image.is_untouched()


def test_a_raw_image_becomes_a_qcow2_disk_that_stands_alone(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "store")

    folder = export_to(tmp_path / "out", content_of(image, disk_format="qcow2")).folder

    qemu_img("compare", "-f", "qcow2", "-F", "raw", folder / "disk.qcow2", image.disk)
    assert "base.raw" not in names_in(folder)


def test_an_overlay_on_an_overlay_is_refused_and_leaves_nothing(image: Image, tmp_path: Path) -> None:
    base = tmp_path / "store/bases/d/disk.raw"
    middle = base.with_name("middle.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", middle)
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", middle, "-F", "qcow2", image.disk)
    os.utime(image.disk, ns=(0, 0))

    with pytest.raises(BuildError, match="is an overlay on an overlay"):
        export_to(tmp_path / "out", content_of(image, disk_format="qcow2"))

    assert names_in(tmp_path / "out") == [".lock"]


def test_files_that_the_machine_boots_from_come_along(image: Image, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"kernel")

    folder = export_to(tmp_path / "out", content_of(image, kernel=kernel)).folder

    assert (folder / "kernel").read_bytes() == b"kernel"


def test_sha256sum_finds_every_file_as_the_sums_say(image: Image, tmp_path: Path) -> None:
    folder = export_to(tmp_path / "out", content_of(image)).folder

    found = sums_of(folder)

    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [f"{name}: OK" for name in names_in(folder) if name != SUMS]


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_only_its_owner_can_read_the_folder_and_what_is_in_it(
    disk_format: DiskFormat, image: Image, tmp_path: Path
) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"kernel")

    folder = export_to(tmp_path / "out", content_of(image, disk_format=disk_format, kernel=kernel)).folder

    modes = {file.name: f"{file.stat().st_mode & 0o7777:04o}" for file in [folder, *folder.iterdir()]}
    assert modes.pop("local01") == "0700"
    assert modes.pop("start") == "0700"
    assert set(modes.values()) == {"0600"}


# Again.


def test_a_second_export_leaves_the_folder_alone(image: Image, tmp_path: Path) -> None:
    first = export_to(tmp_path / "out", content_of(image))
    inodes = inodes_in(first.folder)

    second = export_to(tmp_path / "out", content_of(image))

    assert (first.outcome, second.outcome) == ("exported", "unchanged")
    assert inodes_in(second.folder) == inodes
    assert is_exported(content_of(image), tmp_path / "out")


def test_another_build_takes_the_place_of_the_earlier_one(image: Image, tmp_path: Path) -> None:
    export_to(tmp_path / "out", content_of(image))
    newer = overlay_image(tmp_path / "store", key="k2")

    folder = export_to(tmp_path / "out", content_of(newer)).folder

    qemu_img("compare", "-f", "raw", "-F", "qcow2", folder / "disk.raw", newer.disk)
    assert names_in(tmp_path / "out") == [".lock", "local01"]


@pytest.mark.parametrize("change", ["text", "file", "disk"])
def test_what_is_in_the_folder_decides_its_key(change: str, image: Image, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"kernel")
    other = tmp_path / "other"
    other.write_bytes(b"other kernel")
    content = content_of(image, kernel=kernel)

    changed = {
        "text": with_text(content, "local01.cfg", "memory = 2048\n"),
        "file": content_of(image, kernel=other),
        "disk": content_of(image, kernel=kernel, disk_format="qcow2"),
    }[change]

    assert changed.key != content.key


def test_a_folder_that_lacks_a_file_is_made_again(image: Image, tmp_path: Path) -> None:
    folder = export_to(tmp_path / "out", content_of(image)).folder
    (folder / "disk.raw").unlink()

    again = export_to(tmp_path / "out", content_of(image))

    assert again.outcome == "exported"
    assert sums_of(folder).returncode == 0


def test_a_disk_that_a_machine_has_run_on_is_kept(image: Image, tmp_path: Path) -> None:
    folder = export_to(tmp_path / "out", content_of(image, disk_format="qcow2")).folder
    write_to(folder / "disk.qcow2", seed=99)
    used = (folder / "disk.qcow2").read_bytes()
    newer = overlay_image(tmp_path / "store", key="k2")

    exported = export_to(tmp_path / "out", content_of(newer, disk_format="qcow2"))

    assert exported.kept == tmp_path / "out/local01.used-1"
    assert (exported.kept / "disk.qcow2").read_bytes() == used
    assert names_in(tmp_path / "out") == [".lock", "local01", "local01.used-1"]


# What is refused.


def test_a_folder_of_somebody_else_is_refused_and_left_alone(image: Image, tmp_path: Path) -> None:
    foreign = tmp_path / "out/local01"
    foreign.mkdir(parents=True)
    (foreign / "letter").write_text("dear")

    with pytest.raises(UsageError) as raised:
        export_to(tmp_path / "out", content_of(image))

    assert str(raised.value) == (
        f"{foreign}: is there and is no export of local01\n  fix: export into another directory"
    )
    assert names_in(foreign) == ["letter"]


def test_a_link_in_the_folders_place_is_refused(image: Image, tmp_path: Path) -> None:
    folder = export_to(tmp_path / "elsewhere", content_of(image)).folder
    (tmp_path / "out").mkdir()
    (tmp_path / "out/local01").symlink_to(folder)

    with pytest.raises(UsageError, match="is there and is no export of local01"):
        export_to(tmp_path / "out", content_of(image))


def test_an_image_that_a_machine_runs_on_is_refused(image: Image, tmp_path: Path) -> None:
    time.sleep(0.01)  # the clock of files has a grain of some milliseconds
    write_to(image.disk, seed=99)

    with pytest.raises(CheckError) as raised:
        export_to(tmp_path / "out", content_of(image))

    assert str(raised.value) == (
        f"{image.disk}: was written to since it was built\n"
        "  fix: end the machine that runs on it, and `imgbuild build local01`"
    )


def test_the_folder_of_a_machine_that_runs_here_is_not_replaced(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_to(tmp_path / "out", content_of(image)).folder
    inodes = inodes_in(folder)
    put_program(tmp_path / "bin/xl", "exit 0\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    with pytest.raises(CheckError, match="local01 runs on this machine"):
        export_to(tmp_path / "out", content_of(overlay_image(tmp_path / "store", key="k2")))

    assert inodes_in(folder) == inodes


# Failures.


def test_a_program_that_finds_the_disk_full_leaves_the_earlier_folder_and_nothing_else(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_to(tmp_path / "out", content_of(image)).folder
    inodes = inodes_in(folder)
    newer = overlay_image(tmp_path / "store", key="k2")
    put_program(
        tmp_path / "bin/qemu-img", "echo 'qemu-img: error while writing: No space left on device' >&2; exit 1\n"
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    with pytest.raises(HostError) as raised:
        export_to(tmp_path / "out", content_of(newer))

    assert str(raised.value) == (
        f"{tmp_path / 'out'}: the disk is full\n  fix: make room, or export into another directory"
    )
    assert inodes_in(folder) == inodes
    assert names_in(tmp_path / "out") == [".lock", "local01"]


EXPORT_INTO_LITTLE_ROOM = """
import sys
from pathlib import Path
from imagebuilder.errors import HostError
from tests.exports import content_of, export_to, names_in, overlay_image

image = overlay_image(Path(sys.argv[1]))
try:
    export_to(Path("out"), content_of(image, disk_format=sys.argv[2]))
except HostError as error:
    print(error)
print(names_in(Path("out")))
"""


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_a_disk_that_is_really_full_is_told_and_nothing_left_on_it(disk_format: DiskFormat, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    on_a_small_disk = 'mount -t tmpfs -o size=4m tmpfs out && exec "$@"'
    export = [sys.executable, "-c", EXPORT_INTO_LITTLE_ROOM, str(tmp_path / "store"), disk_format]

    said = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", on_a_small_disk, "sh", *export],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert said == "out: the disk is full\n  fix: make room, or export into another directory\n['.lock']\n"


def test_a_directory_that_cannot_be_made_is_named(image: Image, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(HostError, match="file/out: cannot be written: Not a directory"):
        export_to(tmp_path / "file/out", content_of(image))


EXPORT_SLOWLY = """
import signal, sys
from pathlib import Path
from imagebuilder.xen.export import export
from tests.exports import content_of, overlay_image

signal.signal(signal.SIGTERM, signal.default_int_handler)
image = overlay_image(Path(sys.argv[1]))
export(content_of(image), Path(sys.argv[2]), on_wait=print)
"""

# It ends when nobody reads its output any more.
QEMU_IMG_THAT_STAYS = """
[ "$1" = convert ] || exec /usr/bin/qemu-img "$@"
touch "{busy}"
while sleep 0.1; do echo; done
"""


def start_slow_export(tmp_path: Path) -> "subprocess.Popen[bytes]":
    """Start an export in a process of its own; it is in the middle of its copy, and stays there while it lives."""
    put_program(tmp_path / "bin/qemu-img", QEMU_IMG_THAT_STAYS.format(busy=tmp_path / "busy"))
    process = subprocess.Popen(
        [sys.executable, "-c", EXPORT_SLOWLY, tmp_path / "slow", tmp_path / "out"],
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        cwd=PROJECT,
        stderr=subprocess.DEVNULL,
    )
    wait_for(tmp_path / "busy")
    return process


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_interrupt_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    process = start_slow_export(tmp_path)
    during = names_in(tmp_path / "out")

    process.send_signal(signal.SIGINT)
    process.wait(30)

    assert len(during) == 2
    assert names_in(tmp_path / "out") == [".lock"]


def test_what_a_killed_export_leaves_is_swept_by_the_next(image: Image, tmp_path: Path) -> None:
    process = start_slow_export(tmp_path)
    process.kill()
    process.wait(30)
    left = names_in(tmp_path / "out")

    export_to(tmp_path / "out", content_of(image))

    assert len(left) == 2
    assert names_in(tmp_path / "out") == [".lock", "local01"]


def test_a_second_export_waits_for_the_first(image: Image, tmp_path: Path) -> None:
    process = start_slow_export(tmp_path)
    waited: list[Path] = []

    def on_wait(directory: Path) -> None:
        waited.append(directory)
        process.send_signal(signal.SIGINT)

    exported = export(content_of(image), tmp_path / "out", on_wait=on_wait)
    process.wait(30)

    assert waited == [tmp_path / "out"]
    assert exported.outcome == "exported"
    assert sums_of(exported.folder).returncode == 0


def test_the_key_of_the_same_content_is_the_same(image: Image) -> None:
    contents: list[Content] = [content_of(image), content_of(image)]

    assert contents[0].key == contents[1].key
