import threading
import time
from collections.abc import Callable

import pytest

from imagebuilder.ec2.crew import Concurrency, Crew


def crew(items: int, work: Callable[[int, bytearray], None], abort: Callable[[], None] = lambda: None) -> Crew[int]:
    return Crew(range(items), work, concurrency=Concurrency(), abort=abort)


def nothing() -> None:
    pass


def pass_windows(concurrency: Concurrency, rates: list[float], took_s: float = 0.01) -> list[int]:
    """What is wanted after each of some windows, in which so many requests a second were done."""
    now, wanted = 0.0, []
    concurrency.note(now, took_s)
    for rate in rates:
        count = max(4 * concurrency.wanted, int(rate / 5) + 1)
        for _ in range(count):
            now += 1 / rate
            concurrency.note(now, took_s)
        wanted.append(concurrency.wanted)
    return wanted


def test_each_item_is_done_once() -> None:
    done: list[int] = []

    crew(100, lambda item, _buffer: done.append(item)).run(nothing)

    assert sorted(done) == list(range(100))


def test_several_threads_work_at_once() -> None:
    meeting = threading.Barrier(2, timeout=5)

    def work(_item: int, _buffer: bytearray) -> None:
        meeting.wait()

    crew(4, work).run(nothing)

    assert not meeting.broken


def test_the_first_failure_ends_all_and_is_raised() -> None:
    woken = threading.Event()

    def work(item: int, _buffer: bytearray) -> None:
        if item == 1:
            raise ZeroDivisionError
        woken.wait(5)

    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        crew(100, work, abort=woken.set).run(nothing)

    assert time.monotonic() - began < 3


def test_a_pause_ends_when_the_crew_stops() -> None:
    def work(item: int, _buffer: bytearray) -> None:
        if item == 1:
            raise ZeroDivisionError
        own.pause(30)

    own = crew(100, work)
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        own.run(nothing)

    assert time.monotonic() - began < 3


def test_an_interruption_in_the_main_thread_stops_all() -> None:
    done: list[int] = []

    def work(item: int, _buffer: bytearray) -> None:
        own.pause(0.05)
        done.append(item)

    def interrupt() -> None:
        raise KeyboardInterrupt

    own = crew(1000, work)
    with pytest.raises(KeyboardInterrupt):
        own.run(interrupt)

    assert len(done) < 100


def test_there_are_more_threads_as_long_as_that_is_faster() -> None:
    wanted = pass_windows(Concurrency(first=4, most=64), [100, 190, 350, 600])

    assert wanted == [8, 16, 32, 64]


def test_the_last_doubling_is_taken_back_if_it_was_no_faster() -> None:
    wanted = pass_windows(Concurrency(first=4, most=64), [100, 190, 195, 400, 800])

    assert wanted == [8, 16, 8, 8, 8]


def test_there_are_never_more_than_the_most() -> None:
    wanted = pass_windows(Concurrency(first=4, most=8), [100, 1000, 10_000])

    assert wanted == [8, 8, 8]


def test_a_crowded_network_gets_fewer() -> None:
    concurrency = Concurrency(first=8, slow_s=15)

    concurrency.note(1.0, 20.0)
    concurrency.note(2.0, 20.0)

    assert concurrency.wanted == 2
