"""One retry budget for all calls of a run, whichever library makes them.

Nothing below it may try again by itself: attempts inside attempts multiply, and nobody can say any more when a run
will give up (coldsnap#437: 36 attempts, and hangs).
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from imagebuilder.ec2.call_failed import TIMEOUT, CallFailed, Trouble
from imagebuilder.errors import RemoteError

Answer = TypeVar("Answer")

_FIRST_DELAY_S = 0.2
_LONGEST_DELAY_S = 20.0
# Between questions for a thing that its maker has just been told of (coldsnap#43: for up to about two minutes).
_LONGEST_NEW_DELAY_S = 2.0
# The pace of all senders after the first throttled call, and the slowest one.
_FIRST_INTERVAL_S = 0.004
# A service that takes fewer calls than this says no to some, and each of those waits by itself, too. A longer interval
# would let one that says no by chance, to three calls in ten, come to a stand.
_LONGEST_INTERVAL_S = 0.1
_SLOWER, _FASTER = 2.0, 0.95


@dataclass(frozen=True, kw_only=True)
class RetryLimits:
    """When a run gives up."""

    attempt_timeout_s: float = 60.0
    """The time that one attempt has, from connecting to the answer's last byte; whoever makes the call sets it."""
    attempts: int = 8
    """How often one call is tried; being throttled does not count."""
    patience_s: float = 180.0
    """How long a call may go on failing, and how long a run may go on without any call that succeeds."""
    new_s: float = 120.0
    """How long something new may be unknown to the service."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is called, for messages and for the pace: `ebs`, `PutSnapshotBlock`, `block 17 of snap-0123`."""

    service: str
    action: str
    what: str


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Clock, sleep and chance; a test has its own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
    """A number from 0 to 1."""


class RetryBudget:
    """Makes calls, again where that may help; used by all threads of a run."""

    def __init__(self, limits: RetryLimits | None = None, surroundings: Surroundings | None = None) -> None:
        self.limits = limits or RetryLimits()
        self._around = surroundings or Surroundings()
        self._lock = threading.Lock()
        self._failing_since: float | None = None
        self._paces: dict[str, _Pace] = {}
        self.retries = 0
        """The attempts so far that were not a call's first."""

    def now(self) -> float:
        """The budget's clock, for `made_at`."""
        return self._around.now()

    def run(
        self,
        call: Call,
        attempt: Callable[[], Answer],
        *,
        made_at: float | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> Answer:
        """What `attempt` returns, which raises CallFailed if it fails; only then it is tried again.

        `made_at`, by `now`, says when the thing asked for was made: that it is not found is waited out then, for
        the limits' `new_s`. `sleep` is used instead of the budget's own, to be woken by an interruption.
        Raises RemoteError, with the last failure as its cause, if the call is given up.
        """
        sleep = sleep or self._around.sleep
        pace = self._paces.get(call.service) or self._pace(call.service)
        tried, counted, began = 0, 0, self._around.now()
        while True:
            if (wait_s := pace.wait_s(self._around.now())) > 0:
                sleep(wait_s)
            sent_at = self._around.now()
            tried += 1
            try:
                answer = attempt()
            except CallFailed as failure:
                trouble = failure.trouble
                if trouble is Trouble.THROTTLED:
                    pace.slow_down(self._around.now(), sent_at)
                elif trouble is Trouble.FLEETING:
                    counted += 1
                delay_s = self._delay_s(trouble, tried, made_at)
                if delay_s is None or self._is_hopeless(counted, began, sent_at, trouble):
                    raise _given_up(call, failure, tried, self._around.now() - began, self.limits) from failure
                self.retries += 1
            else:
                self._failing_since = None
                pace.speed_up()
                return answer
            sleep(delay_s)

    def _pace(self, service: str) -> "_Pace":
        with self._lock:
            return self._paces.setdefault(service, _Pace())

    def _delay_s(self, trouble: Trouble, tried: int, made_at: float | None) -> float | None:
        """How long to wait before the next attempt; None if none is worth it."""
        match trouble:
            case Trouble.FLEETING | Trouble.THROTTLED:
                # All of it by chance, so that threads which failed together don't come back together.
                return self._around.chance() * min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(tried, 16))
            case Trouble.NOT_FOUND if made_at is not None and self._around.now() - made_at < self.limits.new_s:
                return (0.5 + self._around.chance() / 2) * min(_LONGEST_NEW_DELAY_S, 0.1 * 2.0 ** min(tried, 16))
            case _:
                return None

    def _is_hopeless(self, counted: int, began: float, sent_at: float, trouble: Trouble) -> bool:
        now = self._around.now()
        if trouble is Trouble.NOT_FOUND:  # an answer: the service is there
            return False
        with self._lock:
            if self._failing_since is None:
                self._failing_since = sent_at
            since = self._failing_since
        # A call that is told to wait has not failed as long as others get through.
        failing_s = now - (since if trouble is Trouble.THROTTLED else min(since, began))
        return counted >= self.limits.attempts or failing_s >= self.limits.patience_s


class _Pace:
    """The shortest interval between two calls of one service; 0 until the service has asked for less."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._interval_s = 0.0
        self._next_at = 0.0
        self._slowed_at = float("-inf")

    def wait_s(self, now: float) -> float:
        """How long the caller has to wait; its place in the row is taken by asking."""
        if not self._interval_s:
            return 0.0
        with self._lock:
            place = max(now, self._next_at)
            self._next_at = place + self._interval_s
            return place - now

    def slow_down(self, now: float, sent_at: float) -> None:
        """A call that was sent at `sent_at` was throttled. Those that were under way together count once."""
        with self._lock:
            if sent_at >= self._slowed_at:
                slower = max(_FIRST_INTERVAL_S, self._interval_s * _SLOWER)
                self._interval_s = min(_LONGEST_INTERVAL_S, slower)
                self._slowed_at = now

    def speed_up(self) -> None:
        """A call succeeded."""
        if self._interval_s:
            with self._lock:
                faster = self._interval_s * _FASTER
                self._interval_s = faster if faster >= _FIRST_INTERVAL_S / 16 else 0.0


def _given_up(call: Call, failure: CallFailed, tried: int, seconds: float, limits: RetryLimits) -> RemoteError:
    often = "" if tried == 1 else f" (tried {tried} times in {seconds:.0f} s)"
    hung = f", no answer within {limits.attempt_timeout_s:.0f} s" if failure.code == TIMEOUT else ""
    where = f"{call.service}:{call.action}"
    return RemoteError(f"{call.what}: {failure.reason}{hung}{often}", where=where, fix=_fix(call, failure.trouble))


def _fix(call: Call, trouble: Trouble) -> str:
    match trouble:
        case Trouble.FLEETING:
            return "check the network, the proxy and the endpoint, then run the same command again"
        case Trouble.THROTTLED:
            return f"run the same command again when less else uses {call.service}, or have its quota raised"
        case Trouble.NOT_FOUND:
            return "check the region and the account, and whether somebody has deleted it"
        case Trouble.DENIED:
            return f"allow {call.service}:{call.action} to these credentials in their IAM policy"
        case Trouble.CREDENTIALS:
            return "log in again or choose another profile, and check this machine's clock"
        case Trouble.REFUSED:
            return "see the service's message; the same request would be refused again"
