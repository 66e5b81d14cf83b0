import json
from dataclasses import replace
from datetime import datetime
from io import StringIO
from ipaddress import IPv4Address
from textwrap import indent

import pytest
from rich.console import Console

from imagebuilder.cli.cluster_table import View, print_status
from imagebuilder.operate.grid import Grid, Job, parse_grid
from imagebuilder.operate.reading import Reading, Worker
from imagebuilder.operate.status import ClusterStatus, Expected, compare, to_json
from tests.machines import PROJECT, TESTS

CASES = TESTS / "cases/qstat"
DOCUMENT = (PROJECT / "docs/status.md").read_text(encoding="utf-8")
EXPECTED = Expected(
    cluster="squirrel",
    server="oneserver",
    hosts=("local01", "local02"),
    workers={f"workernode{number}": IPv4Address("10.1.1.100") + number for number in range(155)},
)
WORKERS = {
    "workernode0": Worker(name="workernode0", is_connected=True, instance_id="i-0396f7a2221e68978"),
    "workernode1": Worker(name="workernode1", is_connected=True),
    "workernode2": Worker(name="workernode2", is_connected=False, instance_id="i-0123abcd"),
}


def status_of(name: str, **differences: object) -> ClusterStatus:
    """The cluster when qstat printed this case: local02 is missing, a worker joins, another has gone."""
    grid = parse_grid((CASES / f"{name}.xml").read_text(encoding="utf-8"))
    reading = Reading(time=datetime(2026, 11, 29, 17, 50), grid=grid, workers=WORKERS)
    return compare(EXPECTED, replace(reading, **differences))  # type: ignore[arg-type]


def printed(status: ClusterStatus, capsys: pytest.CaptureFixture[str], trouble: str = "") -> str:
    print_status(status, trouble)
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["busy", "disabled", "unreachable"])
def test_the_table_is_the_one_in_the_case(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(status_of(name), capsys)

    assert shown == (CASES / f"{name}.without-local02.txt").read_text(encoding="utf-8")


def test_no_line_is_cut_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")

    shown = printed(status_of("busy"), capsys)

    assert "10.1.1.100   i-0396f7a2221e68978" in shown


def drawn(status: ClusterStatus, *, width: int) -> list[str]:
    """The lines on a terminal of this width, without the blanks at their ends."""
    console = Console(width=width, file=StringIO())
    with console.capture() as captured:
        console.print(View(status))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_on_a_narrow_terminal_ids_stay_whole_and_jobs_have_a_table_of_their_own() -> None:
    lines = drawn(status_of("busy"), width=80)

    assert max(map(len, lines)) <= 80
    assert lines[2:] == (CASES / "busy.narrow.txt").read_text(encoding="utf-8").splitlines()


def test_on_a_wide_terminal_the_table_is_the_one_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    status = status_of("busy")

    assert drawn(status, width=120) == printed(status, capsys).splitlines()


def test_of_many_hosts_that_are_not_well_the_first_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    hosts = tuple(f"local{number:02}" for number in range(1, 11))
    status = compare(
        replace(EXPECTED, hosts=hosts),
        Reading(time=datetime(2026, 11, 29), grid=Grid(instances=(), pending=()), workers={}),
    )

    shown = printed(status, capsys)

    assert shown.endswith("not well: local01, local02, local03, local04, local05, local06 and 4 more\n")


def test_of_many_jobs_that_wait_the_first_are_shown_and_all_counted(capsys: pytest.CaptureFixture[str]) -> None:
    pending = tuple(
        Job(number=number, name="x", owner="me", state="qw", slots=1, since="2026-11-28T23:59:59")
        for number in range(1, 26)
    )

    lines = printed(status_of("busy", grid=Grid(instances=(), pending=pending)), capsys).splitlines()

    [last] = [number for number, line in enumerate(lines) if line.startswith("20 ")]
    assert lines[last].split() == ["20", "x", "me", "qw", "1", "2026-11-28", "23:59"]
    assert lines[last + 1] == "and 5 more"
    assert "25 pending" in lines[-1]


def test_a_job_without_a_time_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    pending = (Job(number=1, name="x", owner="me", state="qw", slots=1, since=""),)

    lines = printed(status_of("busy", grid=Grid(instances=(), pending=pending)), capsys).splitlines()

    assert "1        x     me     qw     1      -" in lines


def test_what_keeps_it_from_being_newer_is_said_below(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(status_of("busy"), capsys, "oneserver: does not answer within 30 s")

    assert shown.endswith("\noneserver: does not answer within 30 s (trying again)\n")


def test_what_a_job_is_called_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    pending = (Job(number=1, name="[red]:smile:[/x]", owner="me", state="qw", slots=1, since=""),)

    assert "[red]:smile:[/x]" in printed(status_of("busy", grid=Grid(instances=(), pending=pending)), capsys)


def test_the_table_that_is_documented_is_the_one_there_is() -> None:
    shown = indent((CASES / "busy.txt").read_text(encoding="utf-8"), "    ")

    assert shown in DOCUMENT


def test_the_json_that_is_documented_is_what_there_is() -> None:
    grid = status_of("busy").hosts[2].instances
    worker = replace(WORKERS["workernode0"], public_address=IPv4Address("75.101.155.97"))
    status = compare(
        replace(EXPECTED, hosts=()),
        Reading(
            time=datetime(2026, 11, 29, 17, 50),
            grid=Grid(instances=grid, pending=()),
            workers={worker.name: worker},
        ),
    )

    assert indent(json.dumps(to_json(status), indent=2), "    ") in DOCUMENT
