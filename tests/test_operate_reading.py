from datetime import datetime
from ipaddress import IPv4Address

import pytest

from imagebuilder.errors import RemoteError
from imagebuilder.operate.grid import Grid
from imagebuilder.operate.reading import Reading, Worker, last_line, parse_answer, question

MARK = "0123abcd"
GRID = "<job_info><queue_info></queue_info></job_info>"
INSTANCE = "i-0123456789abcdef0"


def answer(*notes: str, grid: str = GRID, trouble: str = "", code: int = 0, before: str = "") -> str:
    """What the server says: a line for each note, what qstat printed, and how it ended."""
    lines = [f"{MARK} time", "2026-11-25T03:12:11", f"{MARK} notes", *notes, f"{MARK} grid", grid]
    return before + "\n".join([*lines, f"{MARK} trouble", trouble, f"{last_line(MARK)}{code}", ""])


def workers_of(*notes: str) -> list[Worker]:
    return list(parse_answer(answer(*notes), MARK).workers.values())


def trouble_of(text: str) -> str:
    with pytest.raises(RemoteError) as raised:
        parse_answer(text, MARK)
    return str(raised.value)


def test_an_answer_has_the_time_the_grid_and_the_workers() -> None:
    reading = parse_answer(answer("/run/imgbuild/workers/workernode0 here 0a:00"), MARK)

    assert reading == Reading(
        time=datetime(2026, 11, 25, 3, 12, 11),
        grid=Grid(instances=(), pending=()),
        workers={"workernode0": Worker(name="workernode0", is_connected=True)},
    )


def test_a_worker_s_note_its_connection_and_its_instance_belong_together() -> None:
    found = workers_of(
        "/run/imgbuild/workers/workernode0 here 0a:00",
        "/run/imgbuild/workers/workernode1 gone 4711",
        "/run/imgbuild/sessions/workernode0 75.101.155.97:1194",
        f"/run/imgbuild/instances/workernode0 {INSTANCE}",
    )

    address = IPv4Address("75.101.155.97")
    assert found == [
        Worker(name="workernode0", is_connected=True, public_address=address, instance_id=INSTANCE),
        Worker(name="workernode1", is_connected=False),
    ]


@pytest.mark.parametrize(
    "said",
    ["i-0123", "i-0123ABCD", "i-0123abcd\x1b[2J", "x", "i-0123abcd i-0123abcd", "i-\u0661\u0661\u0661\u0661abcd"],
)
def test_what_is_no_id_of_an_instance_is_none(said: str) -> None:
    [found] = workers_of("/run/imgbuild/workers/workernode0 here x", f"/run/imgbuild/instances/workernode0 {said}")

    assert found.instance_id is None


def test_what_is_no_address_is_none() -> None:
    [found] = workers_of("/run/imgbuild/workers/workernode0 here x", "/run/imgbuild/sessions/workernode0 :")

    assert found.public_address is None


def test_a_worker_cannot_pass_for_another_by_what_it_calls_itself() -> None:
    forged = f"\x0b/run/imgbuild/workers/workernode1 here x\u2028/run/imgbuild/instances/workernode0 {INSTANCE}"

    found = workers_of(f"/run/imgbuild/workers/workernode0 here {forged}")

    assert found == [Worker(name="workernode0", is_connected=True)]


def test_what_a_login_says_before_the_answer_is_none_of_it() -> None:
    assert workers_of() == list(parse_answer(answer(before="Welcome!\nthe end time\n"), MARK).workers.values())


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("error: commlib error: got select error\nerror: unable to send", "error: commlib error: got select error; "),
        ("\x1b[31merror\n\n", "\ufffd[31merror\n"),
        ("", "qstat ends with 1\n"),
    ],
)
def test_a_grid_engine_that_does_not_answer_is_an_error_in_its_own_words(trouble: str, said: str) -> None:
    text = trouble_of(answer(grid="", trouble=trouble, code=1))

    assert text.startswith(f"Grid Engine does not answer: {said}")
    assert text.endswith("\n  fix: on the server, see `systemctl status gridengine-master`")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it lacks time, notes, grid, trouble, end"),
        ("sh: not found\n", "it lacks time, notes, grid, trouble, end"),
        (answer().replace(f"{MARK} grid", "grid"), "it lacks grid"),
        (answer().replace("2026-11-25T03:12:11", "%Y"), "it does not say its time"),
        (answer().replace(MARK, "ffff0000"), "it lacks time, notes, grid, trouble, end"),
    ],
)
def test_what_is_no_answer_to_the_question_is_refused(text: str, why: str) -> None:
    assert trouble_of(text).startswith(f"what the server says is no answer: {why}\n")


def test_the_question_has_the_mark_of_each_section_and_leaves_the_shell_s_input_alone() -> None:
    script = question(MARK)

    assert script.count(MARK) == 5
    assert script.endswith("} </dev/null 2>/dev/null\n")
