"""Guests for tests that answer commands from a script, without a machine behind them."""

from collections.abc import Sequence

from imagebuilder.rehearse.guest import Guest
from imagebuilder.rehearse.qmp import Ran


class ScriptedGuest(Guest):
    """Answers each program with the next of its answers, and keeps what it was to run."""

    def __init__(self, name: str, **answers: Sequence[Ran]) -> None:
        self.name = name
        self.commands: list[tuple[str, ...]] = []
        self.inputs: list[bytes] = []
        self._answers = {program: list(them) for program, them in answers.items()}

    async def run(self, *argv: str, stdin: bytes = b"", limit_s: float = 60) -> Ran:  # noqa: ARG002 - it is quick
        """The next answer for this program."""
        self.commands.append(argv)
        self.inputs.append(stdin)
        return self._answers[argv[0]].pop(0)
