"""Files are put in place whole, with their mode from the start."""

import fcntl
import os
from pathlib import Path

import pytest

from imagebuilder.whole_files import is_locked, write_whole


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")

    write_whole(tmp_path / "file", b"new", mode=0o600)

    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_run_has_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".file.new").write_text("half")

    write_whole(tmp_path / "file", b"whole")

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_put_in_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()

    with pytest.raises(OSError, match="file"):
        write_whole(tmp_path / "file", b"new")

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_lock_is_seen_while_it_is_held(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)

    held = is_locked(tmp_path / "lock")
    os.close(descriptor)

    assert (held, is_locked(tmp_path / "lock"), is_locked(tmp_path / "missing")) == (True, False, False)
