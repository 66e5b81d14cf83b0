"""Where everything stands in the drawing of a rehearsal's time: the guests' starts, their prompts, the checks. Pure.

Sizes are in CSS pixels, from the upper left corner.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from imagebuilder.rehearse.outcome import CheckOutcome, Report, Verdict

WIDTH = 960
# Holds the names; a fixed-width font of 12 pixels is 7.3 wide.
NAMES_WIDTH = 150
NAME_CHARACTERS = 18
# Holds a duration behind a bar that ends late.
RIGHT = 90
ROW = 20
TOP = 24
# Between the guests and the checks.
APART = 12
# Steps of the axis, in seconds; the first that gives few enough is taken.
STEPS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
MOST_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class Tick:
    """One mark of the axis."""

    x: float
    at_s: float


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A guest, from switching on to its prompt, or to the end if there never was one."""

    guest: str
    label: str
    y: float
    begin: float
    end: float
    prompt_s: float | None


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A check, where it was decided."""

    check: CheckOutcome
    x: float


@dataclass(frozen=True, kw_only=True)
class Lane:
    """The checks with one verdict."""

    verdict: Verdict
    y: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class TimeLine:
    """All that is drawn; `left` and `right` are where the time begins and ends."""

    width: float
    height: float
    left: float
    right: float
    ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    lanes: tuple[Lane, ...]


def draw_time_line(report: Report) -> TimeLine:
    """The time line of a rehearsal: a row for each guest, then one for each verdict that a check has."""
    ends = [guest.started_s + (guest.prompt_s or 0) for guest in report.guests]
    span_s = max([1, report.took_s, *ends, *(check.at_s for check in report.checks)])
    left, right = NAMES_WIDTH, WIDTH - RIGHT
    scale = (right - left) / span_s
    bars = tuple(
        Bar(
            guest=guest.name,
            label=guest.name if len(guest.name) <= NAME_CHARACTERS else f"{guest.name[: NAME_CHARACTERS - 1]}…",
            y=TOP + number * ROW,
            begin=left + guest.started_s * scale,
            end=right if guest.prompt_s is None else left + (guest.started_s + guest.prompt_s) * scale,
            prompt_s=guest.prompt_s,
        )
        for number, guest in enumerate(report.guests)
    )
    lanes = tuple(_lanes(report, TOP + len(bars) * ROW + APART, left, scale))
    height = TOP + len(bars) * ROW + APART + len(lanes) * ROW + APART
    step = next((one for one in STEPS_S if span_s / one <= MOST_STEPS), STEPS_S[-1])
    ticks = tuple(Tick(x=left + at * scale, at_s=at) for at in range(0, int(span_s) + 1, step))
    return TimeLine(width=WIDTH, height=height, left=left, right=right, ticks=ticks, bars=bars, lanes=lanes)


def _lanes(report: Report, top: float, left: float, scale: float) -> Iterator[Lane]:
    verdicts = [verdict for verdict in get_args(Verdict) if report.count(verdict)]
    for number, verdict in enumerate(verdicts):
        checks = [check for check in report.checks if check.verdict == verdict]
        marks = tuple(Mark(check=check, x=left + check.at_s * scale) for check in checks)
        yield Lane(verdict=verdict, y=top + number * ROW, marks=marks)
