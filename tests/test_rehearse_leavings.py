import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuilder.image.store import Store
from imagebuilder.rehearse.leavings import (
    HOLDER,
    KeptRehearsal,
    end_kept,
    kept_rehearsals,
    new_directory,
    newest_kept,
    sweep,
)
from imagebuilder.rehearse.networks import Holder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(root=tmp_path)


@pytest.fixture
def living() -> Iterator[Holder]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield Holder.of(process.pid)
        process.kill()


def leave(store: Store, name: str, holder: str = "") -> Path:
    """What a rehearsal has left that is not there any more, but for its holder."""
    directory = store.root / "rehearsals" / name
    directory.mkdir(parents=True)
    (directory / "local01.qcow2").write_bytes(b"QFI\xfb")
    (directory / ".lock").touch()
    (directory / HOLDER).write_text(holder, encoding="utf-8")
    return directory


def of_another_process(holder: Holder) -> str:
    return Holder(pid=holder.pid, started="1").to_json()


def test_a_rehearsal_has_a_directory_of_its_own_that_nobody_else_can_read(store: Store) -> None:
    with new_directory(store) as directory:
        mode = directory.stat().st_mode

    assert directory.parent == store.root / "rehearsals"
    assert mode & 0o077 == 0


def test_a_directory_is_gone_after_the_block_with_all_in_it(store: Store) -> None:
    with new_directory(store) as directory:
        (directory / "local01.qcow2").write_bytes(b"QFI\xfb")

    assert not directory.exists()


def test_a_directory_is_gone_after_a_block_that_failed(store: Store) -> None:
    made = []

    def fail() -> None:
        with new_directory(store) as directory:
            made.append(directory)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert not made[0].exists()


def test_a_directory_whose_holder_has_ended_is_gone_after_the_block(store: Store, living: Holder) -> None:
    with new_directory(store) as directory:
        (directory / HOLDER).write_text(of_another_process(living), encoding="utf-8")

    assert not directory.exists()


def test_a_directory_whose_holder_lives_stays_and_is_a_kept_rehearsal(store: Store, living: Holder) -> None:
    with new_directory(store) as directory:
        (directory / HOLDER).write_text(living.to_json(), encoding="utf-8")

    assert list(kept_rehearsals(store)) == [KeptRehearsal(directory=directory, holder=living)]


def test_a_rehearsal_that_is_still_worked_with_is_not_a_kept_one(store: Store, living: Holder) -> None:
    with new_directory(store) as directory:
        (directory / HOLDER).write_text(living.to_json(), encoding="utf-8")

        assert list(kept_rehearsals(store)) == []


@pytest.mark.parametrize("holder", ["", "not JSON", "[]", '{"pid": 1}', '{"pid": 1, "started": "1"}'])
def test_the_next_rehearsal_sweeps_what_a_dead_one_left(store: Store, holder: str) -> None:
    dead = leave(store, "dead", holder)

    with new_directory(store) as directory:
        assert directory.exists()
        assert not dead.exists()


def test_one_that_was_killed_before_it_had_a_lock_is_swept(store: Store) -> None:
    dead = store.root / "rehearsals/dead"
    dead.mkdir(parents=True)

    sweep(store)

    assert not dead.exists()


def test_one_that_runs_is_not_swept_though_it_has_no_holder_yet(store: Store) -> None:
    with new_directory(store) as first, new_directory(store) as second:
        assert first.exists()
        assert first != second


def test_one_that_is_kept_is_not_swept(store: Store, living: Holder) -> None:
    kept = leave(store, "kept", living.to_json())

    sweep(store)

    assert (kept / "local01.qcow2").exists()


def test_a_holder_s_number_that_another_process_has_now_does_not_keep_anything(store: Store, living: Holder) -> None:
    dead = leave(store, "dead", of_another_process(living))

    sweep(store)

    assert not dead.exists()


def test_ending_a_kept_rehearsal_ends_its_holder_and_removes_its_directory(store: Store, living: Holder) -> None:
    directory = leave(store, "kept", living.to_json())

    end_kept(KeptRehearsal(directory=directory, holder=living))

    assert not living.is_alive()
    assert not directory.exists()
    assert list(kept_rehearsals(store)) == []


def test_the_consoles_of_a_kept_rehearsal_are_in_order(store: Store, living: Holder) -> None:
    directory = leave(store, "kept", living.to_json())
    (directory / "worker-1.console").touch()
    (directory / "local01.console").touch()
    (directory / "local01.console.log").touch()

    consoles = KeptRehearsal(directory=directory, holder=living).consoles()

    assert [console.name for console in consoles] == ["local01.console", "worker-1.console"]


def test_a_store_without_rehearsals_has_none_and_nothing_to_sweep(store: Store) -> None:
    sweep(store)

    assert list(kept_rehearsals(store)) == []
    assert list(store.root.iterdir()) == []


def test_the_lock_is_not_handed_on_to_programs_that_outlive_the_rehearsal(store: Store, living: Holder) -> None:
    with new_directory(store) as directory:
        (directory / HOLDER).write_text(living.to_json(), encoding="utf-8")
        other = subprocess.Popen(["sleep", "60"], close_fds=False)

    kept = list(kept_rehearsals(store))
    other.kill()
    other.wait()

    assert [one.directory for one in kept] == [directory]


def test_of_several_rehearsals_that_run_on_the_newest_is_the_one_started_last(store: Store, living: Holder) -> None:
    first, last, dead = (leave(store, name, living.to_json()) for name in ("b", "a", "c"))
    (dead / HOLDER).write_text(of_another_process(living), encoding="utf-8")
    os.utime(first / HOLDER, (1, 1))

    newest = newest_kept(store)

    assert newest == KeptRehearsal(directory=last, holder=living)


def test_where_none_runs_on_there_is_no_newest(store: Store) -> None:
    assert newest_kept(store) is None
