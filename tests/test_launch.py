"""That a launch which hangs is ended, here that of a program which sleeps."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from imagebuilder.image.launch import Overdue, bounded_launch

KILLED = str(-signal.SIGKILL)


def hang(*, first_s: float = 0) -> None:
    """Launch something that does not come to an end; raises RuntimeError, as libguestfs does, if it is ended."""
    time.sleep(first_s)
    code = start_sleep().wait()
    raise RuntimeError(code)


def start_sleep() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sleep", "30"], process_group=0)


@pytest.fixture
def earlier() -> Iterator["subprocess.Popen[bytes]"]:
    """A child that was there before the launch."""
    process = start_sleep()
    yield process
    process.kill()
    process.wait()


def test_a_launch_in_time_is_left_alone() -> None:
    with bounded_launch(10):
        process = start_sleep()

    time.sleep(0.3)
    left = process.poll()
    process.kill()
    assert left is None
    assert process.wait() == -signal.SIGKILL


def test_a_launch_that_hangs_is_ended_in_time_and_nothing_else(earlier: "subprocess.Popen[bytes]") -> None:
    began_s = time.monotonic()

    with pytest.raises(Overdue) as overdue, bounded_launch(0.3):
        hang()

    assert str(overdue.value.__context__) == KILLED
    assert time.monotonic() - began_s < 10
    assert earlier.poll() is None


def test_what_a_launch_starts_late_is_ended_too() -> None:
    with pytest.raises(Overdue) as overdue, bounded_launch(0.1):
        hang(first_s=0.5)

    assert str(overdue.value.__context__) == KILLED


@pytest.mark.parametrize("limit_s", [20, 0.1])
def test_an_interrupt_ends_a_launch_that_hangs_and_comes_after_it(limit_s: float) -> None:
    began_s = time.monotonic()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt), bounded_launch(limit_s):
        hang(first_s=0.5)

    assert time.monotonic() - began_s < 10


def test_a_launch_beside_the_main_thread_is_ended_in_time_too() -> None:
    def launch() -> None:
        with bounded_launch(0.1):
            hang()

    with ThreadPoolExecutor() as threads:
        launched = threads.submit(launch)

    assert isinstance(launched.exception(), Overdue)


def test_an_interrupt_that_is_ignored_ends_nothing() -> None:
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)

    with bounded_launch(10):
        signal.raise_signal(signal.SIGINT)
        process = start_sleep()
        time.sleep(0.3)
        left = process.poll()

    process.kill()
    process.wait()
    signal.signal(signal.SIGINT, handler)
    assert left is None
