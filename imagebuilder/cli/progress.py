"""Shows on standard error which step a run is at: a live line on a terminal, plain lines elsewhere."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from imagebuilder.cli.settings import Settings

_DURATIONS = "durations.json"
_WORTH_TELLING_S = 0.05
_PLAIN_EVERY_S = 10.0
_MOST_STEPS = 200  # to remember: a step may name a file of the user's


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a run calls to show how far it is."""

    begin: Callable[[str], None]
    """With the name of each step as it begins; it says how long the step took the last time."""
    advance: Callable[[str], None]
    """In the middle of a step, as often as one likes, with a few words on how far it is."""


@contextmanager
def show_steps(settings: Settings) -> Iterator[Shown]:
    """Show the steps of a run, and remember how long each took."""
    file = settings.cache_directory / _DURATIONS
    steps = _Steps(read_durations(file))
    console = Console(stderr=True, highlight=False, markup=False)  # a name may have brackets
    if settings.verbosity == "quiet":
        yield Shown(begin=steps.begin, advance=lambda _: None)
    elif console.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            yield Shown(
                begin=lambda name: _show_live(progress, steps, name),
                advance=lambda words: _advance_live(progress, steps, words),
            )
            _finish_live(progress, steps)
    else:
        yield Shown(
            begin=lambda name: _show_plain(console, steps, name),
            advance=lambda words: _advance_plain(console, steps, words),
        )
    steps.end()
    remember_durations(file, steps.durations)


class _Steps:
    """The step that runs now, and how long each took, this time or else the last."""

    def __init__(self, durations: dict[str, float]) -> None:
        self.durations = durations
        self.name: str | None = None
        self._began = self._said = 0.0

    def begin(self, name: str) -> None:
        self.end()
        self.name, self._began = name, time.monotonic()
        self._said = self._began

    def is_time_to_say(self) -> bool:
        """Whether nothing was said of this step for a while."""
        now = time.monotonic()
        if now - self._said < _PLAIN_EVERY_S:
            return False
        self._said = now
        return True

    def end(self) -> None:
        if self.name is not None:
            took = time.monotonic() - self._began
            if took > _WORTH_TELLING_S:
                self.durations.pop(self.name, None)
                self.durations[self.name] = round(took, 2)
            self.name = None

    def expected(self, name: str) -> str:
        return f"  (last time {self.durations[name]:.0f} s)" if self.durations.get(name, 0) >= 1 else ""


def _show_live(progress: Progress, steps: _Steps, name: str) -> None:
    _finish_live(progress, steps)
    progress.add_task(f"{name}{steps.expected(name)}", total=1)
    steps.begin(name)


def _advance_live(progress: Progress, steps: _Steps, words: str) -> None:
    if progress.tasks and steps.name is not None:
        task = progress.tasks[-1]
        progress.update(task.id, description=f"{steps.name}{steps.expected(steps.name)}  {words}")


def _advance_plain(console: Console, steps: _Steps, words: str) -> None:
    if steps.is_time_to_say():
        console.print(f"imgbuild: {steps.name}: {words}", soft_wrap=True)


def _finish_live(progress: Progress, steps: _Steps) -> None:
    for task in progress.tasks:
        if not task.finished:
            progress.update(task.id, completed=1)
    steps.end()


def _show_plain(console: Console, steps: _Steps, name: str) -> None:
    console.print(f"imgbuild: {name}{steps.expected(name)}", soft_wrap=True)
    steps.begin(name)


def read_durations(file: Path) -> dict[str, float]:
    """How long each thing took the last time, in seconds, as `remember_durations` wrote it; nothing if it did not."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): float(took) for name, took in value.items()} if isinstance(value, dict) else {}


def remember_durations(file: Path, durations: Mapping[str, float]) -> None:
    """Keep in `file` how long the newest of these took, in seconds."""
    with suppress(OSError):  # the memory is a convenience
        file.parent.mkdir(parents=True, exist_ok=True)
        newest = dict(list(durations.items())[-_MOST_STEPS:])
        file.write_text(json.dumps(newest, indent=1), encoding="utf-8")
