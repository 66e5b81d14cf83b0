import os
import select
from pathlib import Path

import pytest

from imagebuilder.errors import HostError
from imagebuilder.programs import require_programs, start_conversation, start_program


def test_programs_that_are_there_may_be_started_by_others() -> None:
    require_programs("sh", "env")


def test_a_program_that_only_an_administrator_has_on_path_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    require_programs("ldconfig")


def test_a_program_that_another_would_start_is_missed_before_that() -> None:
    with pytest.raises(HostError) as raised:
        require_programs("sh", "no-such-program")

    assert str(raised.value) == ("the program no-such-program is not installed\n  fix: put no-such-program on PATH")


def test_a_program_runs_beside_this_one_hears_a_line_and_is_read(tmp_path: Path) -> None:
    program = start_program(
        ["sh", "-c", 'pwd; read -r word; echo "$word"; read -r word || echo end'],
        directory=tmp_path,
        log=tmp_path / "log",
    )

    where = program.read_line()
    program.tell("word")
    said = [program.read_line(), program.read_line(), program.read_line()]
    program.end()

    assert where == str(tmp_path)
    assert said == ["word", "end", ""]


def test_a_program_that_is_ended_takes_with_it_what_it_started(tmp_path: Path) -> None:
    program = start_program(["sh", "-c", "sleep 60 & echo $!; wait"], directory=tmp_path, log=tmp_path / "log")
    child = os.pidfd_open(int(program.read_line()))
    before, _, _ = select.select([child], [], [], 0)

    program.end()

    ended, _, _ = select.select([child], [], [], 10)
    os.close(child)
    assert (before, ended) == ([], [child])


def test_what_a_program_says_on_standard_error_is_appended_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n", encoding="utf-8")

    program = start_program(["sh", "-c", "echo trouble >&2"], directory=tmp_path, log=log)
    program.read_line()
    program.end()

    assert log.read_text(encoding="utf-8") == "before\ntrouble\n"


def test_a_program_that_has_ended_may_be_told_something_and_ended(tmp_path: Path) -> None:
    program = start_program(["true"], directory=tmp_path, log=tmp_path / "log")
    said = program.read_line()

    program.tell("anybody there?")
    program.end()

    assert said == ""


def test_a_program_that_is_not_installed_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no-such-program is not installed"):
        start_program(["no-such-program"], directory=tmp_path, log=tmp_path / "log")


def test_a_program_is_asked_again_and_again() -> None:
    talk = start_conversation(["sh"])

    answers = [talk.ask(f"echo {word}; printf 'end 0\\n'\n", last_line="end", within_s=10) for word in ("one", "two")]
    talk.end()

    assert answers == ["one\nend 0\n", "two\nend 0\n"]


def test_an_answer_ends_with_the_whole_of_a_line_that_begins_as_told() -> None:
    talk = start_conversation(["sh"])

    answer = talk.ask(
        "echo the end; printf 'en'; sleep 0.1; printf 'd'; sleep 0.1; echo ing\n", last_line="end", within_s=9
    )
    talk.end()

    assert answer == "the end\nending\n"


def test_a_long_answer_comes_whole() -> None:
    talk = start_conversation(["sh"])

    answer = talk.ask("seq 200000; echo end\n", last_line="end", within_s=30)
    talk.end()

    assert answer.count("\n") == 200001


def test_a_program_that_does_not_answer_in_time_is_not_waited_for() -> None:
    talk = start_conversation(["sleep", "60"])

    with pytest.raises(TimeoutError):
        talk.ask("question\n", last_line="end", within_s=0.1)

    assert talk.end() == (-9, "")


def test_a_program_that_ends_in_place_of_an_answer_has_said_why() -> None:
    talk = start_conversation(["sh", "-c", "echo no >&2; exit 3"])

    with pytest.raises(EOFError):
        talk.ask("question\n", last_line="end", within_s=10)

    assert talk.end() == (3, "no\n")


def test_of_what_a_program_says_on_standard_error_the_last_is_kept() -> None:
    talk = start_conversation(["sh", "-c", "seq 100000 >&2"])

    with pytest.raises(EOFError):
        talk.ask("question\n", last_line="end", within_s=10)
    _, said = talk.end()

    assert (len(said), said[-7:]) == (1 << 16, "100000\n")


def test_a_program_without_an_end_of_its_answer_is_not_listened_to_for_ever() -> None:
    talk = start_conversation(["cat", "/dev/zero"])

    with pytest.raises(EOFError):
        talk.ask("", last_line="end", within_s=60)

    assert talk.end() == (-9, "")


def test_a_program_to_talk_with_that_is_not_installed_is_named() -> None:
    with pytest.raises(HostError) as raised:
        start_conversation(["no-such-program"])

    assert str(raised.value) == "the program no-such-program is not installed\n  fix: put no-such-program on PATH"
