"""What goes wrong in a build: each time one clear error, nothing lost, nothing half-written, nothing left running."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from imagebuilder.programs import run_program
from tests.appliance.small_debian import make_small_debian
from tests.command import IMGBUILD, environment, imgbuild

pytestmark = pytest.mark.appliance

KILLS = 20


def start_build(site: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [IMGBUILD, "build", *words],
        env=environment(site),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def appliances_on(directory: Path) -> list[int]:
    """The processes of QEMU that have a file below `directory` in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"qemu" in words.split(b"\0")[0] and os.fsencode(directory) in words:
            found.append(int(process.name))
    return found


def wait_until_gone(directory: Path, *, limit_s: float) -> list[int]:
    end = time.monotonic() + limit_s
    while (left := appliances_on(directory)) and time.monotonic() < end:
        time.sleep(0.2)
    return left


def current_disks(site: Path) -> list[Path]:
    return [link / "disk.qcow2" for link in sorted((site / "store").glob("images/*/*/current"))]


def change_a_value(site: Path, port: int) -> None:
    """Make every image come out differently."""
    recipe = site / "recipes/cluster.yaml"
    lines = recipe.read_text().splitlines()
    changed = [f'  domain: "cluster{port}.nis"' if line.startswith("  domain:") else line for line in lines]
    recipe.write_text("\n".join(changed) + "\n")


def test_killed_at_random_moments_nothing_is_half_written(site: Path) -> None:
    chance = random.Random(20)
    assert imgbuild(site, "build").code == 0
    for trial in range(KILLS):
        change_a_value(site, trial)
        build = start_build(site)
        time.sleep(chance.uniform(0.3, 16))
        build.send_signal(signal.SIGKILL)
        build.communicate()

        disks = current_disks(site)
        assert len(disks) == 3
        assert all(run_program(["qemu-img", "check", "-q", disk]) == "" for disk in disks)
        assert imgbuild(site, "show", "node", "--json").code == 0

    finished = imgbuild(site, "build")
    leavings = list((site / "store").glob("**/.new-*"))

    assert finished.code == 0, finished.err
    assert leavings == []
    assert wait_until_gone(site, limit_s=20) == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_leaves_no_appliance_and_no_image(site: Path, name: str) -> None:
    assert imgbuild(site, "build").code == 0
    before = [disk.resolve() for disk in current_disks(site)]
    change_a_value(site, 1000 + len(name))
    build = start_build(site)
    while not appliances_on(site):
        time.sleep(0.1)

    build.send_signal(signal.Signals[name])
    _, said = build.communicate(timeout=60)

    assert build.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert wait_until_gone(site, limit_s=20) == []
    assert [disk.resolve() for disk in current_disks(site)] == before
    assert list((site / "store").glob("images/**/.new-*")) == []


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system of a chosen size")
    place = tmp_path / "small"
    place.mkdir()
    run_program(["mount", "-t", "tmpfs", "-o", "size=260m", "tmpfs", place])
    yield place
    run_program(["umount", place])


def fill(file: Path) -> None:
    """Let `file` take all the space that its file system has left."""
    with file.open("wb", buffering=0) as stream, suppress(OSError):
        while stream.write(b"\0" * (1 << 16)):
            pass


def test_a_full_disk_is_said_before_anything_is_copied(site: Path, small_file_system: Path) -> None:
    store = small_file_system / "store"
    first = imgbuild(site, "build", "node", store=store)
    change_a_value(site, 2000)
    free = shutil.disk_usage(small_file_system).free
    (small_file_system / "other").write_bytes(b"\0" * (free - (20 << 20)))

    outcome = imgbuild(site, "build", "node", store=store)

    assert first.code == 0, first.err
    assert outcome.code == 4
    assert "MiB are free, but the build may need" in outcome.err
    assert "fix: make room" in outcome.err


def test_a_disk_that_fills_up_during_the_build_ends_it(site: Path, small_file_system: Path) -> None:
    store = small_file_system / "store"
    first = imgbuild(site, "build", "node", store=store)
    change_a_value(site, 3000)
    build = subprocess.Popen(
        [IMGBUILD, "build", "node"], env=environment(site, store), stderr=subprocess.PIPE, text=True
    )
    while not appliances_on(store):
        time.sleep(0.1)
    fill(small_file_system / "other")

    _, said = build.communicate(timeout=120)

    assert first.code == 0, first.err
    assert build.returncode == 4
    assert "the disk is full" in said
    assert len(list(store.glob("images/node/local01/current/disk.qcow2"))) == 1
    assert wait_until_gone(store, limit_s=20) == []


def test_a_base_that_is_no_image_is_refused(site: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.img").write_text("not a disk\n" * 1000)
    (site / "recipes/base.yaml").write_text(f'image: "{tmp_path}/notes.img"\n')

    outcome = imgbuild(site, "build", "node", store=tmp_path / "store")

    assert outcome.code == 5
    assert "holds no operating system that libguestfs knows" in outcome.err
    assert "Traceback" not in outcome.err
    assert list((tmp_path / "store").glob("images/*/*/*")) == []


def test_a_base_that_cannot_be_read_is_refused(site: Path, tmp_path: Path) -> None:
    (site / "recipes/base.yaml").write_text('image: "missing.qcow2"\n')

    outcome = imgbuild(site, "build", "node", store=tmp_path / "store")

    assert outcome.code == 5
    assert "missing.qcow2: cannot be read: No such file or directory" in outcome.err


def test_a_base_that_only_looks_like_qcow2_is_refused(site: Path, tmp_path: Path) -> None:
    (tmp_path / "trap.img").write_bytes(b"QFI\xfb" + bytes(1 << 20))
    (site / "recipes/base.yaml").write_text(f'image: "{tmp_path}/trap.img"\n')

    outcome = imgbuild(site, "build", "node", store=tmp_path / "store")

    assert outcome.code == 5
    assert "its content is qcow2, but it is to be read as raw" in outcome.err


def test_a_base_without_a_needed_package_is_refused_before_the_copy(site: Path, tmp_path: Path) -> None:
    base = make_small_debian(tmp_path / "poor.img", without=["openvpn", "nftables"])
    (site / "recipes/base.yaml").write_text(f'image: "{base}"\n')

    outcome = imgbuild(site, "build", "worker", store=tmp_path / "store")

    assert outcome.code == 5
    assert "lacks packages that role 'worker' requires: nftables, openvpn" in outcome.err
    assert list((tmp_path / "store").glob("images/*/*/*")) == []


def test_two_builds_at_once_one_waits_and_finds_the_work_done(site: Path, small_base: Path) -> None:
    (site / "recipes/base.yaml").write_text(f'image: "{small_base}"\n')
    change_a_value(site, 4000)
    pair = [start_build(site, "node"), start_build(site, "node")]

    ends = [build.communicate(timeout=300) for build in pair]

    assert [build.returncode for build in pair] == [0, 0]
    assert sorted(out.split()[0] for out, _ in ends) == ["built", "unchanged"]
    assert "wait for another build of local01" in "".join(said for _, said in ends)
