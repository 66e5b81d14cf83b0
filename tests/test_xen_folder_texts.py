"""The texts of the folder that goes into a dom0, and what its script does there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from imagebuilder.xen.folder_texts import folder_texts
from tests.exports import configuration, put_program

TEXTS = folder_texts("local01", "node", configuration(), disk_name="disk.raw")

# What xl says depends on two files: `xen` is there in a dom0, `running` while the machine runs.
XL = """
cd "$XL_STATE"
[ -e xen ] || { echo 'xencall: error: Could not obtain handle on privileged command interface' >&2; exit 1; }
case $1 in
    list) [ $# = 1 ] || [ -e running ] ;;
    create)
        shift
        for word; do printf '%s\\n' "$word"; done >created
        [ ! -e broken ] || { echo no memory >&2; exit 3; } ;;
esac
"""


class Place:
    """A folder somewhere, and a dom0 around it that has the state of a directory."""

    def __init__(self, root: Path, folder_name: str) -> None:
        self.state = root / "state"
        self.state.mkdir()
        self.folder = root / folder_name
        self.folder.mkdir()
        for name, text in TEXTS.items():
            (self.folder / name).write_text(text)
        (self.folder / "start").chmod(0o700)
        (self.folder / "disk.raw").write_bytes(b"disk")
        sums = subprocess.run(["sha256sum", *TEXTS, "disk.raw"], cwd=self.folder, capture_output=True, check=True)
        (self.folder / "SHA256SUMS").write_bytes(sums.stdout)
        os.utime(self.folder / "disk.raw", ns=(0, 0))
        self.path = f"{root / 'bin'}:/usr/bin:/bin"
        put_program(root / "bin/xl", XL)
        (self.state / "xen").touch()

    def start(self, *words: str) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": self.path, "XL_STATE": str(self.state)}
        return subprocess.run(
            [self.folder / "start", *words], env=environment, cwd="/", capture_output=True, text=True, check=False
        )

    @property
    def created(self) -> list[str]:
        return (self.state / "created").read_text().splitlines()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "local01")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing(place: Place) -> None:
    receive = Path(__file__).parents[1] / "imagebuilder/xen/scripts/receive.sh"

    found = subprocess.run(
        ["shellcheck", "--shell=sh", place.folder / "start", receive], capture_output=True, text=True, check=False
    )

    assert found.stdout == ""


def test_the_configuration_has_names_that_hold_in_the_folder() -> None:
    lines = TEXTS["local01.cfg"].splitlines()

    assert 'kernel = "kernel"' in lines
    assert "disk = [ 'format=raw,vdev=xvda,access=rw,target=disk.raw' ]" in lines


def test_it_starts_the_machine_with_absolute_names(place: Place) -> None:
    started = place.start()

    assert (started.returncode, started.stderr) == (0, "")
    assert started.stdout == "local01 runs; its console: xl console local01 (leave it by Ctrl-])\n"
    assert place.created == [
        "./local01.cfg",
        f'kernel = "{place.folder}/kernel"',
        f"disk = [ 'format=raw,vdev=xvda,access=rw,target={place.folder}/disk.raw' ]",
    ]


def test_what_means_something_in_a_configuration_is_escaped_in_the_folders_name(tmp_path: Path) -> None:
    place = Place(tmp_path, """it's a\\"b" $HOME=`x`,y""")

    started = place.start()

    escaped = f"""{tmp_path}/it\\'s a\\\\\\"b\\" $HOME=`x`,y"""
    assert started.returncode == 0
    assert place.created[1:] == [
        f'kernel = "{escaped}/kernel"',
        f"disk = [ 'format=raw,vdev=xvda,access=rw,target={escaped}/disk.raw' ]",
    ]


def test_a_machine_that_runs_already_is_not_started(place: Place) -> None:
    (place.state / "running").touch()

    started = place.start()

    assert started.returncode == 4
    assert started.stderr == (
        "start: local01 runs already; see `xl console local01`, or end it by `xl shutdown -w local01`\n"
    )
    assert not (place.state / "created").exists()


def test_without_xen_it_says_that_this_is_no_dom0(place: Place) -> None:
    (place.state / "xen").unlink()

    started = place.start()

    assert started.returncode == 3
    assert started.stderr.startswith(
        "start: xl does not reach Xen: be root, in a dom0. It says:\nstart: xencall: error"
    )


def test_an_error_of_xl_is_shown(place: Place) -> None:
    (place.state / "broken").touch()

    started = place.start()

    assert started.returncode == 1
    assert started.stderr == "no memory\nstart: xl could not start local01\n"


def test_files_are_checked_before_the_start_if_one_wants_that(place: Place) -> None:
    started = place.start("--verify")

    assert started.returncode == 0
    assert "disk.raw: OK" in started.stderr
    assert place.created[0] == "./local01.cfg"


def test_a_file_that_is_not_as_it_was_exported_is_named_and_nothing_started(place: Place) -> None:
    (place.folder / "README").write_text("spoiled")

    started = place.start("--verify")

    assert started.returncode == 1
    assert "README: FAILED" in started.stderr
    assert started.stderr.endswith("start: a file is not as it was exported; export local01 again\n")
    assert not (place.state / "created").exists()


def test_the_disk_of_a_machine_that_has_run_is_not_checked(place: Place) -> None:
    (place.folder / "disk.raw").write_bytes(b"used")
    os.utime(place.folder / "disk.raw", ns=(2**61, 2**61))

    started = place.start("--verify")

    assert started.returncode == 0
    assert "start: disk.raw was written to since it was exported, so it is not checked\n" in started.stderr
    assert "README: OK" in started.stderr


def test_a_configuration_with_absolute_names_can_be_had_for_the_start_of_dom0(place: Place) -> None:
    printed = place.start("--config")

    assert printed.stdout.splitlines()[1:] == [
        'name = "local01"',
        'type = "pv"',
        "memory = 1024",
        'on_reboot = "restart"',
        f'kernel = "{place.folder}/kernel"',
        f"disk = [ 'format=raw,vdev=xvda,access=rw,target={place.folder}/disk.raw' ]",
    ]
    assert not (place.state / "created").exists()


@pytest.mark.parametrize("words", [["--console"], ["--verify", "--config"]], ids=" ".join)
def test_words_that_it_does_not_know_are_refused(words: list[str], place: Place) -> None:
    started = place.start(*words)

    assert started.returncode == 2
    assert started.stderr.startswith("usage: ./start")
