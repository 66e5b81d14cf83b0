"""Bounds the start of an appliance: ends its QEMU if that takes too long, and on an interrupt.

While libguestfs launches, its handle is locked, so no other thread can have it shut down, or ask it for its QEMU.
That one is found among this process's children.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_DONE = 0  # no signal has this number
# QEMU may be started only after it was found that it is to end, so it is looked for again and again.
_PAUSE_S = 0.2


class Overdue(Exception):  # noqa: N818 - the caller may try again
    """A launch took longer than it may, and was ended."""


@contextmanager
def bounded_launch(limit_s: float) -> Iterator[None]:
    """Raise Overdue if the block, a launch, takes longer than `limit_s` seconds; its QEMU is ended then.

    SIGINT and SIGTERM end it, too, and are acted upon after the block. The QEMU must lead a process group of its own,
    as after libguestfs's `set_pgroup`, and be a child of this process, which it is with the direct back end only.
    """
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)  # noqa: FBT003 - as signal.set_wakeup_fd demands
    with ear, mouth, _interrupts_deferred(mouth), _ended_in_time(ear, mouth, limit_s):
        yield


@contextmanager
def _interrupts_deferred(mouth: socket.socket) -> Iterator[None]:
    """Hold SIGINT and SIGTERM back while the block runs, and act on them after it; their numbers go to `mouth` at once.

    While the appliance starts, libguestfs calls back into Python with its messages. Python would deliver a signal
    there, and libguestfs drops whatever a callback raises, an interrupt too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are delivered to the main thread only
        return
    pending: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: pending.append(number))
        for number in _INTERRUPTS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    # Python's own handlers wait until the launch returns, which a hanging one does not.
    woken = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        if pending:
            signal.raise_signal(pending[0])


@contextmanager
def _ended_in_time(ear: socket.socket, mouth: socket.socket, limit_s: float) -> Iterator[None]:
    """End the QEMU that the block starts once `ear` hears of an interrupt, or the time is over; then raise Overdue."""
    earlier = set(_group_leaders())
    done = threading.Event()
    heard: list[Literal["done", "interrupted", "overdue"]] = []

    def watch() -> None:
        heard.append(_listen(ear, limit_s))
        while heard != ["done"] and not done.is_set():
            for leader in set(_group_leaders()) - earlier:
                with suppress(ProcessLookupError):
                    os.killpg(leader, signal.SIGKILL)
            done.wait(_PAUSE_S)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        mouth.send(bytes([_DONE]))
        watcher.join()
        if heard == ["overdue"]:
            raise Overdue


def _listen(ear: socket.socket, limit_s: float) -> Literal["done", "interrupted", "overdue"]:
    end_s = time.monotonic() + limit_s
    while (left_s := end_s - time.monotonic()) > 0:
        ear.settimeout(left_s)
        with suppress(TimeoutError):
            [number] = ear.recv(1)
            if number == _DONE:
                return "done"
            if number in _INTERRUPTS:
                return "interrupted"
    return "overdue"


def _group_leaders() -> Iterator[int]:
    """The children of this process that lead a process group."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may have gone in the meantime
            _, parent, group, *_ = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(parent) == os.getpid() and group == process.name:
                yield int(process.name)
