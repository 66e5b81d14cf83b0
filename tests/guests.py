"""Guests for tests that answer commands from a script, without a machine behind them, and what they run on."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from imagebuilder.host.accelerator import Accelerator
from imagebuilder.programs import RunningProgram
from imagebuilder.rehearse.guest import Guest
from imagebuilder.rehearse.networks import Holder, Networks
from imagebuilder.rehearse.outcome import CheckOutcome
from imagebuilder.rehearse.qmp import GuestError, Ran
from imagebuilder.rehearse.record import Record
from imagebuilder.rehearse.running import RunningCluster
from imagebuilder.rehearse.topology import GuestPlan, Topology
from tests.machines import shipped_site


class ScriptedGuest(Guest):
    """Answers each program with the next of its answers, and keeps what it was to run; dead when there is none."""

    def __init__(self, name: str, plan: GuestPlan | None = None, **answers: Sequence[Ran]) -> None:
        self.name = name
        if plan is not None:
            self.plan = plan
        self.commands: list[tuple[str, ...]] = []
        self.inputs: list[bytes] = []
        self._answers = {program: list(them) for program, them in answers.items()}

    async def run(self, *argv: str, stdin: bytes = b"", limit_s: float = 60) -> Ran:  # noqa: ARG002 - it is quick
        """The next answer for this program."""
        self.commands.append(argv)
        self.inputs.append(stdin)
        answers = self._answers.get(argv[0])
        if not answers:
            raise GuestError("its QEMU has gone", where=self.name)
        return answers.pop(0)

    async def prompt(self) -> str:
        """None comes."""
        raise GuestError("its QEMU has gone", where=self.name)


class Unwatched:
    """Looks away."""

    def begin(self, name: str) -> None:
        """The check of this name is being tried."""

    def decide(self, outcome: CheckOutcome) -> None:
        """A check has ended."""

    def guest(self, label: str, state: str) -> None:
        """A guest is now in this state."""


def networks_of(program: RunningProgram) -> Networks:
    """Networks that are none, held by nobody: commands run on those of the test. `program` is what `keep` tells."""
    return Networks(enter=(), holder=Holder(pid=0, started=""), _program=program, _end=ExitStack())


def cluster_of(
    guests: Sequence[ScriptedGuest],
    topology: Topology,
    proves: Mapping[str, str],
    program: RunningProgram,
    directory: Path,
) -> RunningCluster:
    """A cluster that consists of these guests and proves all of this; to be called in an event loop."""
    watcher = Unwatched()
    return RunningCluster(
        site=shipped_site(),
        topology=topology,
        images={},
        networks=networks_of(program),
        directory=directory,
        log=directory / "log",
        accelerator=Accelerator(name="tcg", reason=""),
        record=Record(proves, (), watcher),
        watcher=watcher,
        now=datetime(2026, 3, 1, 12, tzinfo=UTC),
        guests=list(guests),
    )
