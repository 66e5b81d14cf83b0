"""Sets up what guests are booted on, and runs them to their end, whatever that is."""

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from imagebuilder.cli.settings import Settings
from imagebuilder.host.accelerator import Accelerator
from imagebuilder.image.store import Store, make_directory
from imagebuilder.rehearse.leavings import new_directory
from imagebuilder.rehearse.record import Watcher
from imagebuilder.rehearse.stage import Stage

T = TypeVar("T")


@contextmanager
def open_stage(settings: Settings, accelerator: Accelerator, watcher: Watcher) -> Iterator[Stage]:
    """A stage in a new directory of the store, which is gone after the block unless the guests on it are kept."""
    log = settings.store / "log" / "rehearsal.log"
    make_directory(log.parent)
    with new_directory(Store(root=settings.store)) as directory:
        yield Stage(directory=directory, log=log, accelerator=accelerator, watcher=watcher)


def run_to_end(course: Coroutine[Any, Any, T]) -> T:
    """Run `course` in an event loop; on SIGTERM it cleans up as on SIGINT, and KeyboardInterrupt is raised."""

    async def interruptible() -> T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has a task
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await course

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error
