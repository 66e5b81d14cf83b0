"""Threads that share the work on the blocks of a snapshot, and stop at once if one fails or the run is interrupted."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from imagebuilder.ec2.ebs import BLOCK_BYTES

Item = TypeVar("Item")

_TICK_S = 0.1
# What a thread may still do after it was told to stop; all are daemons, so that none keeps the program from ending.
_FAREWELL_S = 5.0


class Stopped(Exception):  # noqa: N818 - nothing is wrong in the thread that is told
    """The crew has stopped; raised by `pause` in the threads that still wait."""


class Concurrency:
    """How many threads are worth it: twice as many while that is faster, half as many if requests take too long."""

    def __init__(self, *, first: int = 2, most: int = 64, slow_s: float = 15.0) -> None:
        """`slow_s` is what one request may take before the network counts as crowded."""
        self.wanted = first
        self._most = most
        self._slow_s = slow_s
        self._lock = threading.Lock()
        self._settled = False
        self._best_rate = 0.0
        self._began: float | None = None
        self._done = 0

    def note(self, now: float, took_s: float) -> None:
        """A request has taken `took_s`."""
        with self._lock:
            if took_s > self._slow_s:
                self.wanted, self._settled = max(1, self.wanted // 2), True
            if self._settled:
                return
            if self._began is None:
                self._began = now
                return
            self._done += 1
            seconds = now - self._began
            if seconds >= 0.2 and self._done >= 4 * self.wanted:
                self._judge(self._done / seconds)
                self._began, self._done = now, 0

    def _judge(self, rate: float) -> None:
        if rate < 1.15 * self._best_rate:
            self.wanted, self._settled = max(1, self.wanted // 2), True
        else:
            self._best_rate = rate
            self.wanted, self._settled = min(self._most, self.wanted * 2), self.wanted * 2 > self._most


class Crew(Generic[Item]):
    """Does `work` for each of `items`, with a buffer of a block's size that is the thread's own."""

    def __init__(
        self,
        items: Iterable[Item],
        work: Callable[[Item, bytearray], None],
        *,
        concurrency: Concurrency,
        abort: Callable[[], None],
    ) -> None:
        """`abort` is called when the crew stops early, to wake the threads that wait for an answer."""
        self._items = iter(items)
        self._work = work
        self._concurrency = concurrency
        self._abort = abort
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._changed = threading.Event()
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def run(self, on_tick: Callable[[], None]) -> None:
        """Do all the work; calls `on_tick` about every tenth of a second, in the caller's thread.

        Raises what the first thread to fail has raised. No thread goes on when this returns or raises.
        """
        try:
            while True:
                self._man()
                self._changed.wait(_TICK_S)
                self._changed.clear()
                on_tick()
                if self._failure is not None:
                    raise self._failure
                if not any(thread.is_alive() for thread in self._threads):
                    on_tick()
                    return
        finally:
            self._stop.set()
            deadline = time.monotonic() + _FAREWELL_S
            while (alive := [thread for thread in self._threads if thread.is_alive()]) and time.monotonic() < deadline:
                self._abort()  # again and again: a thread may just have connected
                alive[0].join(_TICK_S)

    def pause(self, seconds: float) -> None:
        """Sleep in a thread of the crew. Raises Stopped as soon as the crew stops."""
        if self._stop.wait(seconds):
            raise Stopped

    def _man(self) -> None:
        while len(self._threads) < self._concurrency.wanted and not self._stop.is_set():
            thread = threading.Thread(target=self._toil, args=(len(self._threads),), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _toil(self, number: int) -> None:
        buffer = bytearray(BLOCK_BYTES)
        try:
            while number < self._concurrency.wanted and not self._stop.is_set():
                with self._lock:
                    item = next(self._items)
                self._work(item, buffer)
        except (Stopped, StopIteration):
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            with self._lock:
                self._failure = self._failure or error
            self._stop.set()
        self._changed.set()
