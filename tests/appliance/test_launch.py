"""An appliance that hangs while it starts: a QEMU that never lets its guest run."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from imagebuilder.errors import HostError
from imagebuilder.image.appliance import Disk, Launch, open_appliance
from tests.command import IMGBUILD, environment

pytestmark = pytest.mark.appliance

EMULATION = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
AT_ONCE = Launch(processors=2, limit_s=1)

# libguestfs also asks its QEMU what it can do; only a launch has a kernel. -S: do not let the guest run.
HANGS = """#!/bin/sh
case " $* " in
*" -kernel "*)
    echo "$$ $@" >>{folder}/launches
    {condition} && exec {qemu} "$@" -S
    ;;
esac
exec {qemu} "$@"
"""


def make_qemu(folder: Path, *, hangs_if: str) -> Path:
    """A QEMU whose launches hang if a condition of the shell holds."""
    program = folder / "qemu"
    program.write_text(HANGS.format(folder=folder, condition=hangs_if, qemu=shutil.which("qemu-system-x86_64")))
    program.chmod(0o755)
    return program


def launched(folder: Path) -> list[Path]:
    """The processes, as in /proc, of all launches so far."""
    file = folder / "launches"
    return [Path("/proc", line.split()[0]) for line in file.read_text().splitlines()] if file.exists() else []


def are_running(processes: list[Path]) -> list[bool]:
    return [process.exists() and (process / "cmdline").read_bytes() != b"" for process in processes]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    path = tmp_path / "disk.raw"
    with path.open("wb") as stream:
        stream.truncate(1 << 20)
    return Disk(path=path, format="raw", access="read")


def test_an_appliance_that_hangs_is_started_again_with_one_processor(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = make_qemu(tmp_path, hangs_if=f"mkdir {tmp_path}/first 2>/dev/null")
    monkeypatch.setenv("LIBGUESTFS_HV", str(qemu))
    launches = [AT_ONCE, Launch(processors=1, limit_s=240)]
    log, steps = tmp_path / "log", list[str]()

    with open_appliance([disk], environment=EMULATION, log=log, on_step=steps.append, launches=launches):
        during = are_running(launched(tmp_path))

    first, second = (tmp_path / "launches").read_text().splitlines()
    assert steps == ["start the appliance", "start the appliance again, with 1 processor: it was not up after 1 s"]
    assert during == [False, True]
    assert " -smp 2 " in first
    assert " -smp " not in second
    assert are_running(launched(tmp_path)) == [False, False]


def test_an_appliance_that_always_hangs_is_an_error_of_the_host(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBGUESTFS_HV", str(make_qemu(tmp_path, hangs_if="true")))
    launches = [AT_ONCE, Launch(processors=1, limit_s=2)]
    log, steps = tmp_path / "log", list[str]()

    with (
        pytest.raises(HostError, match="does not start: it was waited for in vain for 1 s, then for 2 s"),
        open_appliance([disk], environment=EMULATION, log=log, on_step=steps.append, launches=launches),
    ):
        pass

    assert len(steps) == 2
    assert are_running(launched(tmp_path)) == [False, False]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_ends_an_appliance_that_hangs_at_once(site: Path, tmp_path: Path, name: str) -> None:
    qemu = make_qemu(tmp_path, hangs_if="true")
    build = subprocess.Popen(
        [IMGBUILD, "build", "node"],
        env={**environment(site, tmp_path / "store"), "LIBGUESTFS_HV": str(qemu)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not launched(tmp_path):
        time.sleep(0.1)

    os.kill(build.pid, signal.Signals[name])
    _, said = build.communicate(timeout=20)

    assert build.returncode == 130
    assert "interrupted" in said
    assert "again" not in said
    assert are_running(launched(tmp_path)) == [False]
