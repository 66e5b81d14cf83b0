"""Shows a rehearsal as it goes: a live table on a terminal, a line for each event elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from imagebuilder.cli.progress import read_durations, remember_durations
from imagebuilder.cli.settings import Settings
from imagebuilder.rehearse.outcome import CheckOutcome, Report, Verdict
from imagebuilder.rehearse.record import Watcher

_MARKS = {"passed": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("-", "yellow"), "not reached": ("✗", "red")}
_VERDICTS: tuple[Verdict, ...] = ("passed", "failed", "skipped", "not reached")
_DURATIONS = "rehearsal.json"


@contextmanager
def follow(settings: Settings) -> Iterator[Watcher]:
    """A watcher that shows what it is told, on standard error; it remembers how long each check takes."""
    console = Console(stderr=True, highlight=False)
    file = settings.cache_directory / _DURATIONS
    view = _View(console, read_durations(file), settings)
    if settings.verbosity != "quiet" and console.is_terminal:
        with Live(view, console=console, refresh_per_second=2, transient=True):
            yield view
    else:
        yield view
    remember_durations(file, view.durations)


class _View:
    """What is known of the rehearsal; rich draws it again and again."""

    def __init__(self, console: Console, durations: dict[str, float], settings: Settings) -> None:
        self.durations = durations
        self._console = console
        self._is_live = console.is_terminal
        self._is_quiet = settings.verbosity == "quiet"
        self._began = time.monotonic()
        self._guests: dict[str, tuple[str, float]] = {}
        self._trying: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """The check of this name is being tried."""
        self._trying[name] = time.monotonic()

    def decide(self, outcome: CheckOutcome) -> None:
        """A check has ended."""
        self._trying.pop(outcome.name, None)
        if outcome.verdict == "passed":
            self.durations.pop(outcome.name, None)
            self.durations[outcome.name] = outcome.took_s
        mark, colour = _MARKS[outcome.verdict]
        reason = f": {outcome.reason}" if outcome.reason else ""
        self._print(Text.assemble((mark, colour), f" {outcome.name} ", (f"({outcome.took_s:.0f} s)", "dim"), reason))

    def guest(self, label: str, state: str) -> None:
        """A guest is now in this state."""
        self._guests[label] = state, time.monotonic()
        self._print(Text(f"{label} {state}", "bold"))

    def _print(self, text: Text) -> None:
        if not self._is_quiet:
            line = Text.assemble((f"{time.monotonic() - self._began:5.0f} s  ", "dim"), text)
            self._console.print(line, soft_wrap=True)

    def __rich__(self) -> Group:
        now = time.monotonic()
        guests = Table.grid(padding=(0, 2))
        for label, (state, since) in self._guests.items():
            guests.add_row(Text(label, "bold"), state, Text(f"{now - since:.0f} s", "dim"))
        checks = Table.grid(padding=(0, 2))
        for name, since in self._trying.items():
            usual = self.durations.get(name)
            expected = f" of about {usual:.0f} s" if usual else ""
            checks.add_row(Text(name), Text(f"{now - since:.0f} s{expected}", "dim"))
        return Group(Text(f"─── {now - self._began:.0f} s", "dim"), guests, checks)


def tally(report: Report) -> str:
    """How many checks ended how, and how long all took: `12 passed, 1 failed, 301 s`."""
    counts = [f"{report.count(verdict)} {verdict}" for verdict in _VERDICTS if report.count(verdict)]
    return ", ".join([*counts, f"{report.took_s:.0f} s"])
