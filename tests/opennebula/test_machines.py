from dataclasses import replace

import pytest

from imagebuilder.opennebula.machines import Machine, Measured, list_row, show_lines
from imagebuilder.opennebula.template import Template, single

MACHINE = Machine(
    id=7,
    uid=0,
    user="oneadmin",
    name="local01-7",
    state=3,
    lcm_state=3,
    deploy_id="one-7",
    host="host01",
    last_poll=0,
    begun_at=1_764_400_000,
    ended_at=0,
    is_rescheduled=False,
    measured=Measured(cpu=None, memory_kib=None, sent_bytes=None, received_bytes=None),
    template=Template(attributes=(single("CPU", "0.5"), single("MEMORY", 1024))),
    user_template=Template(attributes=()),
)


@pytest.mark.parametrize(
    ("state", "lcm_state", "short"),
    [
        (1, 0, "pend"),
        (2, 0, "hold"),
        (3, 1, "prol"),
        (3, 2, "boot"),
        (3, 3, "runn"),
        (3, 8, "migr"),
        (3, 16, "unkn"),
        (3, 20, "boot"),
        (3, 24, "snap"),
        (3, 36, "fail"),
        (3, 43, "migr"),
        (3, 44, "fail"),
        (3, 51, "snap"),
        (3, 62, "drsz"),
        (3, 66, "hotp"),
        (3, 69, "back"),
        (3, 71, "rest"),
        (6, 0, "done"),
        (8, 0, "poff"),
        (9, 0, "unde"),
        (3, 999, "999"),
        (999, 0, "999"),
    ],
)
def test_a_state_has_the_short_name_of_onevm(state: int, lcm_state: int, short: str) -> None:
    assert replace(MACHINE, state=state, lcm_state=lcm_state).short_state == short


@pytest.mark.parametrize(
    ("now", "ended_at", "shown"),
    [
        (1_764_400_000, 0, "0d 00h00"),
        (1_764_400_000 + 3 * 86400 + 4 * 3600 + 5 * 60 + 59, 0, "3d 04h05"),
        (1_764_499_999, 1_764_400_000 + 600, "0d 00h10"),
        (1_764_399_000, 0, "0d 00h00"),
    ],
)
def test_the_time_is_that_since_the_machine_was_created_until_its_end(now: int, ended_at: int, shown: str) -> None:
    row = list_row(replace(MACHINE, ended_at=ended_at), now)

    assert row == ("7", "local01-7", "runn", "0.5", "1024M", "host01", shown)


def test_what_was_not_measured_is_not_made_up() -> None:
    lines = list(show_lines(MACHINE))

    assert {"MEMORY      : -", "CPU         : -", "NET TX      : -", "NET RX      : -"} <= set(lines)
    assert "START TIME  : 11/29 07:06:40" in lines
