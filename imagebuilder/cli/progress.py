"""Shows on standard error which step a run is at: a live line on a terminal, plain lines elsewhere."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from imagebuilder.cli.settings import Settings

_DURATIONS = "durations.json"
_WORTH_TELLING_S = 0.05
_MOST_STEPS = 200  # to remember: a step may name a file of the user's


@contextmanager
def show_steps(settings: Settings) -> Iterator[Callable[[str], None]]:
    """A function to call with the name of each step as it begins; says how long the step took the last time."""
    file = settings.cache_directory / _DURATIONS
    steps = _Steps(read_durations(file))
    console = Console(stderr=True, highlight=False)
    if settings.verbosity == "quiet":
        yield steps.begin
    elif console.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            yield lambda name: _show_live(progress, steps, name)
            _finish_live(progress, steps)
    else:
        yield lambda name: _show_plain(console, steps, name)
    steps.end()
    remember_durations(file, steps.durations)


class _Steps:
    """The step that runs now, and how long each took, this time or else the last."""

    def __init__(self, durations: dict[str, float]) -> None:
        self.durations = durations
        self.name: str | None = None
        self._began = 0.0

    def begin(self, name: str) -> None:
        self.end()
        self.name, self._began = name, time.monotonic()

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
