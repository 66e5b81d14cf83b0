from pathlib import Path

import pytest

from imagebuilder.ec2.journal import Journal, Value
from imagebuilder.errors import HostError, RemoteError

SUBJECT: dict[str, Value] = {"image": "sha256:1", "volume_gib": 8}
DIGEST = bytes(range(32))


def unexpected(_journal: Journal) -> None:
    raise AssertionError("the journal is of the same subject")


def journal(path: Path) -> Journal:
    return Journal.open(path, SUBJECT, on_other=unexpected)


def test_what_was_noted_is_there_for_the_next_run(tmp_path: Path) -> None:
    with journal(tmp_path / "journal") as first:
        first.note("snapshot-asked", client_token="t1")
        first.note("snapshot-started", id="snap-1")
        first.note_block(7, DIGEST)

    with journal(tmp_path / "journal") as again:
        noted = [(event.kind, dict(event.values)) for event in again.events("snapshot-asked", "snapshot-started")]
        blocks = again.blocks()

    assert noted == [("snapshot-asked", {"client_token": "t1"}), ("snapshot-started", {"id": "snap-1"})]
    assert blocks == {7: DIGEST}


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    with journal(tmp_path / "journal"):
        mode = (tmp_path / "journal").stat().st_mode

    assert mode & 0o777 == 0o600


def test_a_line_that_was_not_written_to_its_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal(path) as first:
        first.note_block(7, DIGEST)
        first.note_block(8, DIGEST)
    path.write_bytes(path.read_bytes()[:-5])

    with journal(path) as again:
        blocks = again.blocks()
        again.note("later")

    assert blocks == {7: DIGEST}
    assert path.read_bytes().endswith(b'"]\n{"event":"later"}\n')


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal(path) as first:
        first.note("snapshot-started", id="snap-1")
        first.note("completing")
    path.write_text(path.read_text().replace('"id"', "id"))

    with pytest.raises(HostError, match="journal:2: is damaged"):
        journal(path)


def test_another_image_gets_a_new_journal_after_the_old_one_is_undone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal(path) as first:
        first.note("snapshot-started", id="snap-1")
    undone: list[object] = []

    with Journal.open(path, {"image": "sha256:2"}, on_other=lambda old: undone.append(old.events()[-1].values["id"])):
        content = path.read_text()

    assert undone == ["snap-1"]
    assert content == '{"event":"subject","format":1,"image":"sha256:2"}\n'


def test_a_journal_that_could_not_be_undone_stays(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal(path).close()
    before = path.read_bytes()

    def fails(_old: Journal) -> None:
        raise RemoteError("no network")

    with pytest.raises(RemoteError):
        Journal.open(path, {"image": "sha256:2"}, on_other=fails)

    assert path.read_bytes() == before


def test_a_new_snapshot_makes_the_old_blocks_count_no_more(tmp_path: Path) -> None:
    with journal(tmp_path / "journal") as first:
        first.note_block(7, DIGEST)
        first.forget_blocks("snapshot-asked", client_token="t2")
        first.note_block(8, DIGEST)
        at_once = first.blocks()

    with journal(tmp_path / "journal") as again:
        later = again.blocks()

    assert at_once == later == {8: DIGEST}


def test_the_last_of_some_kinds_is_found(tmp_path: Path) -> None:
    with journal(tmp_path / "journal") as own:
        own.note("snapshot-started", id="snap-1")
        own.note("snapshot-gone", id="snap-1")
        own.note("other")

        last = own.last("snapshot-started", "snapshot-gone")

    assert last is not None
    assert last.kind == "snapshot-gone"


def test_a_finished_journal_is_gone(tmp_path: Path) -> None:
    own = journal(tmp_path / "journal")

    own.remove()

    assert list(tmp_path.iterdir()) == []


def test_what_is_no_journal_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("my diary\n")

    with pytest.raises(HostError, match="journal:1: is damaged"):
        journal(tmp_path / "journal")

    assert (tmp_path / "journal").read_text() == "my diary\n"


def test_a_directory_that_is_none_is_an_error_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(HostError, match="cannot be read or written"):
        journal(tmp_path / "file" / "journal")
