"""Keeps what a rehearsal finds: runs each check, and notes how it ended, with its evidence."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from imagebuilder.errors import BuildError
from imagebuilder.plan.check import Check
from imagebuilder.rehearse.guest import Guest
from imagebuilder.rehearse.outcome import CheckOutcome, Evidence, Verdict
from imagebuilder.rehearse.qmp import GuestError, Ran

T = TypeVar("T")

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.5, 4.0
# A report is read by people; what a command prints beyond this is left out in the middle.
_MOST_SHOWN = 20_000


class CheckFailure(Exception):  # noqa: N818 - it is no error of the program
    """What a check found is not as it should be; str() says in what."""


class Skip(Exception):  # noqa: N818 - likewise
    """A check needs something that is not here; str() says what."""


class Watcher(Protocol):
    """Follows a rehearsal as it goes."""

    def begin(self, name: str) -> None:
        """The check of this name is being tried."""

    def decide(self, outcome: CheckOutcome) -> None:
        """A check has ended."""

    def guest(self, label: str, state: str) -> None:
        """A guest is now in this state."""


@dataclass(kw_only=True)
class Trial:
    """A check while it is tried: gathers its evidence; `began_s` is when, in seconds after the rehearsal's start."""

    began_s: float
    evidence: list[Evidence] = field(default_factory=list)

    def show(self, where: str, command: str, output: str, code: int = 0) -> None:
        """Add a command and what came of it to the evidence."""
        if len(output) > _MOST_SHOWN:
            half = _MOST_SHOWN // 2
            output = f"{output[:half]}\n[…]\n{output[-half:]}"
        self.evidence.append(Evidence(where=where, command=command, output=output, code=code))

    async def run(self, guest: Guest, *argv: str, stdin: bytes = b"", limit_s: float = 60) -> Ran:
        """Run a command in a guest as part of the evidence."""
        ran = await guest.run(*argv, stdin=stdin, limit_s=limit_s)
        self.show(guest.name, shown(argv), ran.said, ran.code)
        return ran

    async def until(
        self, guest: Guest, *argv: str, so: Callable[[Ran], bool], within_s: float, what: str, limit_s: float = 60
    ) -> Ran:
        """Run a command again and again until `so` holds for what came of it; only its last run is evidence.

        Raises CheckFailure with `what` if that takes more than `within_s` seconds.
        """
        ran = await repeat(lambda: guest.run(*argv, limit_s=limit_s), so, within_s)
        self.show(guest.name, shown(argv), ran.said, ran.code)
        require(so(ran), f"{what}, {within_s:g} s long")
        return ran


def shown(argv: Collection[str]) -> str:
    """A command as a person would type it, but for quotes."""
    words = list(argv)
    return words[-1] if words[:2] == ["sh", "-c"] else " ".join(words)


def require(condition: object, what: str) -> None:
    """Raise CheckFailure with `what` unless `condition` holds."""
    if not condition:
        raise CheckFailure(what)


async def within(wanted: Awaitable[T], limit_s: float, what: str) -> T:
    """What `wanted` gives. Raises CheckFailure with `what` if that takes more than `limit_s` seconds."""
    try:
        return await asyncio.wait_for(wanted, limit_s)
    except TimeoutError as error:
        raise CheckFailure(f"{what}, {limit_s:g} s long") from error


async def repeat(call: Callable[[], Awaitable[T]], so: Callable[[T], bool], within_s: float) -> T:
    """What `call` gives as soon as `so` holds for it, or what it gave last when `within_s` seconds are over."""
    clock = asyncio.get_running_loop().time
    end_s = clock() + within_s
    pause_s = _FIRST_PAUSE_S
    while True:
        result = await call()
        if so(result) or clock() >= end_s:
            return result
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LAST_PAUSE_S)


class Record:
    """The checks of one rehearsal, as far as it has come; `only` has patterns for the names that are wanted."""

    def __init__(self, proves: Mapping[str, str], only: Collection[str], watcher: Watcher) -> None:
        self.outcomes: list[CheckOutcome] = []
        self._proves = proves
        self._only = only
        self._watcher = watcher
        self.began_s = asyncio.get_running_loop().time()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the rehearsal began."""
        return asyncio.get_running_loop().time() - self.began_s

    def wants(self, name: str) -> bool:
        """Whether this check was asked for: by its name, by a group that it is in, or by a pattern."""
        return is_wanted(name, self._only)

    def wants_any(self, prefix: str) -> bool:
        """Whether a check of the scenario was asked for whose name begins with `prefix`."""
        return any(self.wants(name) for name in self._proves if name.startswith(prefix))

    @asynccontextmanager
    async def check(self, name: str, proves: str | None = None) -> AsyncIterator[Trial]:
        """Try the check `name` in the block: it has passed if that ends without an error.

        A CheckFailure, a guest or a program of this machine that fails is its reason to have failed, and goes no
        further.
        """
        trial = Trial(began_s=self.elapsed_s)
        if self.wants(name):
            self._watcher.begin(name)
        proves = proves or self._proves[name]
        try:
            yield trial
        except CheckFailure as failure:
            self._decide(name, proves, trial, "failed", str(failure))
        except Skip as skip:
            self._decide(name, proves, trial, "skipped", str(skip))
        except (BuildError, GuestError) as error:
            self._decide(name, proves, trial, "failed", str(error).replace("\n  fix:", ";"))
        else:
            self._decide(name, proves, trial, "passed")

    async def prove(self, guest: Guest, name: str, check: Check) -> None:
        """Try a check that an edit brings, for as long as it gives."""
        if not self.wants(name):
            return
        async with self.check(name, check.proves) as trial:

            async def attempt() -> tuple[Ran, str | None]:
                ran = await guest.run(*check.command)
                return ran, check.expects.trouble(ran.code, ran.output)

            ran, trouble = await repeat(attempt, lambda result: result[1] is None, check.within_s)
            trial.show(guest.name, shown(check.command), ran.said, ran.code)
            require(trouble is None, trouble or "")

    def give_up(self, reason: str) -> None:
        """Note that each wanted check of the scenario that was not tried was not reached."""
        tried = {outcome.name for outcome in self.outcomes}
        for name, proves in self._proves.items():
            if name not in tried:
                self._decide(name, proves, Trial(began_s=self.elapsed_s), "not reached", reason)

    def _decide(self, name: str, proves: str, trial: Trial, verdict: Verdict, reason: str = "") -> None:
        if not self.wants(name):
            return
        outcome = CheckOutcome(
            name=name,
            proves=proves,
            verdict=verdict,
            reason=reason,
            evidence=tuple(trial.evidence),
            at_s=round(self.elapsed_s, 1),
            took_s=round(self.elapsed_s - trial.began_s, 1),
        )
        self.outcomes.append(outcome)
        self._watcher.decide(outcome)


def is_wanted(name: str, only: Collection[str]) -> bool:
    """Whether one of the patterns in `only` is the name, a group that it is in, or matches it; all are, if empty."""
    parts = name.split(".")
    whole_groups = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    return not only or any(pattern in whole_groups or fnmatchcase(name, pattern) for pattern in only)
