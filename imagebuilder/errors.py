"""What can stop a command, one class per thing a caller can do differently.

Each error says where, what and how to mend it; `exit_code` is the exit status of `imgbuild` (see `imgbuild --help`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """A position in a file that a person wrote; line and column count from 1."""

    path: Path
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, kw_only=True, order=True)
class Fault:
    """One thing wrong in a recipe or an overlay: where, what, how to mend it."""

    place: Place
    what: str
    fix: str | None = None

    def __str__(self) -> str:
        text = f"{self.place}: {self.what}"
        return f"{text}\n  fix: {self.fix}" if self.fix else text


class ImgbuildError(Exception):
    """A command cannot go on; str() gives "where: what" and, on a second line, the fix."""

    exit_code: ClassVar[int] = 5

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  fix: {self.fix}" if self.fix else text


class CheckError(ImgbuildError):
    """What was asked for is not done, because something that was checked is not as it must be."""

    exit_code = 1


class UsageError(ImgbuildError):
    """The command line asks for something that does not exist or cannot be combined."""

    exit_code = 2


class RecipeError(ImgbuildError):
    """The recipes or overlays are invalid; carries every fault found, in file order."""

    exit_code = 3

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults), key=lambda fault: (fault.place, fault.what)))
        super().__init__(f"{len(self.faults)} faults")

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))


class HostError(ImgbuildError):
    """This machine lacks something: a program, a right, disk space, a kernel."""

    exit_code = 4


class BuildError(ImgbuildError):
    """An image could not be built or read; nothing was published."""

    exit_code = 5


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """One thing that a failed run has left in a cloud, and the command line that removes it."""

    what: str
    undo_command: str

    def __str__(self) -> str:
        return f"{self.what}\n    {self.undo_command}"


class RemoteError(ImgbuildError):
    """A cloud or a dom0 refused or failed; what the run had made there is removed, or the next run goes on with it."""

    exit_code = 6


class LeftoversError(RemoteError):
    """A cloud failed, and what the run had made there could not be removed: it is listed."""

    exit_code = 7

    def __init__(
        self, what: str, *, leftovers: Iterable[Leftover], where: object = None, fix: str | None = None
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.leftovers = tuple(leftovers)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), "  left behind; remove each with the command below it:", *self._listed()])

    def _listed(self) -> list[str]:
        return [f"  {leftover}" for leftover in self.leftovers]
