import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace

import pytest

from imagebuilder.errors import BuildError, HostError
from imagebuilder.plan.check import Check, Prints
from imagebuilder.rehearse.outcome import CheckOutcome, Evidence
from imagebuilder.rehearse.qmp import GuestError, Ran
from imagebuilder.rehearse.record import (
    CheckFailure,
    Record,
    Skip,
    Trial,
    is_wanted,
    repeat,
    require,
    shown,
    within,
)
from tests.guests import ScriptedGuest

PROVES = {"jobs.queue": "There is a queue.", "jobs.spread": "Jobs run.", "isolation.tcp": "Nothing answers."}
HOST_NAME = Check(
    name="name",
    proves="the running system has the name",
    command=("hostname", "--short"),
    expects=Prints(text="local01"),
    within_s=0,
)
WELL = Ran(code=0, output="local01\n", trouble="")
WRONG = Ran(code=0, output="localhost\n", trouble="")


@dataclass(kw_only=True)
class Notes:
    """A watcher that writes down what it is told."""

    begun: list[str] = field(default_factory=list)
    decided: list[CheckOutcome] = field(default_factory=list)

    def begin(self, name: str) -> None:
        self.begun.append(name)

    def decide(self, outcome: CheckOutcome) -> None:
        self.decided.append(outcome)

    def guest(self, label: str, state: str) -> None:
        raise AssertionError((label, state))


def record_of(
    play: Callable[[Record], Awaitable[object]], *, only: Collection[str] = (), notes: Notes | None = None
) -> list[CheckOutcome]:
    """What a record holds after `play`."""

    async def course() -> list[CheckOutcome]:
        record = Record(PROVES, only, notes or Notes())
        await play(record)
        return record.outcomes

    return asyncio.run(course())


def ended_by(error: BaseException) -> CheckOutcome:
    """The outcome of a check that this error ends."""

    async def play(record: Record) -> None:
        async with record.check("jobs.queue") as trial:
            trial.show("oneserver", "qstat -f", "")
            raise error

    [outcome] = record_of(play)
    return outcome


# What is wanted


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("jobs.spread", "jobs.spread"),
        ("jobs.spread", "jobs"),
        ("local01.nis_client.bound", "local01"),
        ("local01.nis_client.bound", "local01.nis_client"),
        ("local01.nis_client.bound", "*.nis_client.*"),
        ("workernode12.nis_client.bound", "workernode?[0-9].*"),
    ],
)
def test_a_pattern_is_a_name_a_group_or_one_with_wild_cards(name: str, pattern: str) -> None:
    assert is_wanted(name, [pattern])


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("jobs.spread", "job"),
        ("jobs.spread", "jobs."),
        ("jobs.spread", "spread"),
        ("jobs.spread", "Jobs"),
        ("jobs", "jobs.spread"),
        ("jobsother.spread", "jobs"),
        ("local01.nis_client.bound", "nis_client"),
    ],
)
def test_a_part_of_a_word_is_no_pattern(name: str, pattern: str) -> None:
    assert not is_wanted(name, [pattern])


def test_everything_is_wanted_if_nothing_is_asked_for() -> None:
    assert is_wanted("jobs.spread", [])


def test_one_pattern_of_several_is_enough() -> None:
    assert is_wanted("jobs.spread", ["boot", "jobs"])


def test_a_record_knows_whether_any_check_of_a_group_is_wanted() -> None:
    async def play(record: Record) -> None:
        assert record.wants_any("jobs.")
        assert not record.wants_any("isolation.")
        assert not record.wants_any("other.")

    record_of(play, only=["*.spread"])


# How a check ends


def test_a_block_that_ends_well_has_passed() -> None:
    notes = Notes()

    async def play(record: Record) -> None:
        async with record.check("jobs.queue") as trial:
            trial.show("oneserver", "qstat -f", "all.q@local01\n", 0)

    [outcome] = record_of(play, notes=notes)

    assert (outcome.name, outcome.verdict, outcome.reason) == ("jobs.queue", "passed", "")
    assert outcome.proves == "There is a queue."
    assert outcome.evidence == (Evidence(where="oneserver", command="qstat -f", output="all.q@local01\n", code=0),)
    assert (notes.begun, notes.decided) == (["jobs.queue"], [outcome])


def test_a_failure_is_the_reason_and_what_was_seen_before_it_is_kept() -> None:
    outcome = ended_by(CheckFailure("the queue is not there"))

    assert (outcome.verdict, outcome.reason) == ("failed", "the queue is not there")
    assert [one.command for one in outcome.evidence] == ["qstat -f"]


def test_a_check_that_lacks_something_is_skipped() -> None:
    outcome = ended_by(Skip("there is no CA here"))

    assert (outcome.verdict, outcome.reason) == ("skipped", "there is no CA here")


def test_a_guest_that_dies_fails_the_check_on_one_line() -> None:
    outcome = ended_by(GuestError("its QEMU has gone", where="local01", fix="read its serial log"))

    assert (outcome.verdict, outcome.reason) == ("failed", "local01: its QEMU has gone; read its serial log")


def test_a_program_of_this_machine_that_fails_fails_the_check() -> None:
    outcome = ended_by(BuildError("took longer than 300 s and was ended", where="nmap"))

    assert (outcome.verdict, outcome.reason) == ("failed", "nmap: took longer than 300 s and was ended")


@pytest.mark.parametrize("error", [HostError("nmap is not installed"), ZeroDivisionError(), KeyboardInterrupt()])
def test_what_is_no_finding_goes_on_to_the_caller(error: BaseException) -> None:
    with pytest.raises(type(error)):
        ended_by(error)


def test_a_check_that_is_cancelled_decides_nothing() -> None:
    notes = Notes()

    async def play(record: Record) -> None:
        async def hang() -> None:
            async with record.check("jobs.queue"):
                await asyncio.sleep(60)

        task = asyncio.create_task(hang())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    outcomes = record_of(play, notes=notes)

    assert (outcomes, notes.begun) == ([], ["jobs.queue"])


def test_a_check_that_is_not_wanted_leaves_no_trace_however_it_ends() -> None:
    notes = Notes()

    async def play(record: Record) -> None:
        async with record.check("jobs.queue"):
            pass
        async with record.check("jobs.spread"):
            raise CheckFailure("no job ran")

    assert record_of(play, only=["isolation"], notes=notes) == []
    assert (notes.begun, notes.decided) == ([], [])


def test_what_was_not_tried_is_not_reached() -> None:
    async def play(record: Record) -> None:
        async with record.check("jobs.queue"):
            require([], "no")
        record.give_up("what comes before it failed")

    outcomes = record_of(play)

    assert [(one.name, one.verdict, one.reason) for one in outcomes] == [
        ("jobs.queue", "failed", "no"),
        ("jobs.spread", "not reached", "what comes before it failed"),
        ("isolation.tcp", "not reached", "what comes before it failed"),
    ]


def test_what_was_not_wanted_is_not_missed() -> None:
    async def play(record: Record) -> None:
        record.give_up("the time was over")

    assert [one.name for one in record_of(play, only=["jobs.spread"])] == ["jobs.spread"]


def test_a_decision_has_its_time_and_how_long_it_took() -> None:
    async def play(record: Record) -> None:
        await asyncio.sleep(0.06)
        async with record.check("jobs.queue"):
            await asyncio.sleep(0.06)

    [outcome] = record_of(play)

    assert 0.1 <= outcome.took_s <= outcome.at_s < 5


# What edits prove


def test_a_check_of_an_edit_passes_when_its_command_prints_what_is_expected() -> None:
    guest = ScriptedGuest("local01", hostname=[WELL])

    [outcome] = record_of(lambda record: record.prove(guest, "local01.hostname.name", HOST_NAME))

    assert (outcome.name, outcome.verdict) == ("local01.hostname.name", "passed")
    assert outcome.proves == HOST_NAME.proves
    assert outcome.evidence == (Evidence(where="local01", command="hostname --short", output="local01"),)


def test_a_check_of_an_edit_is_tried_until_it_holds() -> None:
    guest = ScriptedGuest("local01", hostname=[WRONG, WELL])
    check = replace(HOST_NAME, within_s=60)

    [outcome] = record_of(lambda record: record.prove(guest, "local01.hostname.name", check))

    assert outcome.verdict == "passed"
    assert [one.output for one in outcome.evidence] == ["local01"]
    assert guest.commands == [("hostname", "--short")] * 2


def test_a_check_of_an_edit_that_never_holds_fails_with_what_it_saw_last() -> None:
    guest = ScriptedGuest("local01", hostname=[Ran(code=3, output="", trouble="no name\n")])

    [outcome] = record_of(lambda record: record.prove(guest, "local01.hostname.name", HOST_NAME))

    assert (outcome.verdict, outcome.reason) == ("failed", "exit status 3")
    assert outcome.evidence == (Evidence(where="local01", command="hostname --short", output="no name", code=3),)


def test_a_check_of_an_edit_that_is_not_wanted_runs_nothing() -> None:
    guest = ScriptedGuest("local01")

    assert record_of(lambda record: record.prove(guest, "local01.hostname.name", HOST_NAME), only=["jobs"]) == []
    assert guest.commands == []


# Trials


def test_a_command_of_a_trial_is_evidence_with_its_status_and_both_outputs() -> None:
    guest = ScriptedGuest("local01", ls=[Ran(code=2, output="a\n", trouble="no b\n")])
    trial = Trial(began_s=0)

    ran = asyncio.run(trial.run(guest, "ls", "a", "b"))

    assert ran.code == 2
    assert trial.evidence == [Evidence(where="local01", command="ls a b", output="a\nno b", code=2)]


def test_the_input_of_a_command_is_no_evidence() -> None:
    guest = ScriptedGuest("oneserver", tee=[Ran(code=0, output="", trouble="")])
    trial = Trial(began_s=0)

    asyncio.run(trial.run(guest, "tee", "/a", stdin=b"secret"))

    assert "secret" not in str(trial.evidence)
    assert guest.inputs == [b"secret"]


def test_long_evidence_is_cut_in_the_middle() -> None:
    trial = Trial(began_s=0)

    trial.show("local01", "journalctl", "a" * 30_000 + "b" * 30_000)

    assert trial.evidence[0].output == f"{'a' * 10_000}\n[…]\n{'b' * 10_000}"


def test_waiting_ends_when_it_is_so_and_shows_that() -> None:
    guest = ScriptedGuest("local01", hostname=[WELL, WRONG])
    trial = Trial(began_s=0)

    asyncio.run(trial.until(guest, "hostname", so=lambda ran: ran == WELL, within_s=60, what="it is localhost"))

    assert [one.output for one in trial.evidence] == ["local01"]


def test_waiting_in_vain_fails_and_says_for_how_long() -> None:
    guest = ScriptedGuest("local01", hostname=[WRONG])
    trial = Trial(began_s=0)

    with pytest.raises(CheckFailure) as raised:
        asyncio.run(trial.until(guest, "hostname", so=lambda ran: ran == WELL, within_s=0, what="it is localhost"))

    assert str(raised.value) == "it is localhost, 0 s long"
    assert [one.output for one in trial.evidence] == ["localhost"]


def test_what_holds_at_once_is_asked_once() -> None:
    asked = []

    async def ask() -> int:
        asked.append(1)
        return 7

    assert asyncio.run(repeat(ask, lambda found: found == 7, within_s=60)) == 7
    assert len(asked) == 1


def test_what_takes_too_long_is_a_failure() -> None:
    with pytest.raises(CheckFailure, match=r"there is no login prompt, 0\.01 s long"):
        asyncio.run(within(asyncio.sleep(60), 0.01, "there is no login prompt"))


def test_what_comes_in_time_is_given_back() -> None:
    assert asyncio.run(within(asyncio.sleep(0, "local01 login:"), 60, "")) == "local01 login:"


def test_a_requirement_that_is_not_met_is_a_failure() -> None:
    require([1], "met")

    with pytest.raises(CheckFailure, match="not met"):
        require([], "not met")


def test_a_command_is_shown_as_a_person_would_type_it() -> None:
    assert shown(("systemctl", "is-active", "ssh.service")) == "systemctl is-active ssh.service"
    assert shown(("sh", "-c", "head -n 5 /home/a/*")) == "head -n 5 /home/a/*"
