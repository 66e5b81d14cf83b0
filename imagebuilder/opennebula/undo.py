"""What a run has done in oned, to be undone in reverse if it fails; what cannot be is listed with a command."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from imagebuilder.errors import ImgbuildError, Leftover, LeftoversError, RemoteError


@dataclass(kw_only=True)
class Deed:
    """One thing that was done, or that may have been done: its call was sent."""

    undo: Callable[[], None]
    leftover: Leftover


@dataclass(kw_only=True)
class Deeds:
    """What a run has done, in its order."""

    done: list[Deed] = field(default_factory=list)

    def begin(self, undo: Callable[[], None], *, what: str, command: str) -> Deed:
        """Something is about to be done, which `undo` undoes; `command` does so by hand."""
        deed = Deed(undo=undo, leftover=Leftover(what=what, undo_command=command))
        self.done.append(deed)
        return deed

    def undo(self) -> list[Leftover]:
        """Undo all of it, and return what is left."""
        leftovers = []
        while self.done:
            deed = self.done.pop()
            try:
                deed.undo()
            except (RemoteError, KeyboardInterrupt):
                leftovers.append(deed.leftover)
        return leftovers


@contextmanager
def undone_on_failure() -> Iterator[Deeds]:
    """Note what the block does; if it fails or is interrupted, undo that.

    Raises LeftoversError in place of the block's error if something is left.
    """
    deeds = Deeds()
    try:
        yield deeds
    except BaseException as error:
        leftovers = deeds.undo()
        if not leftovers:
            raise
        raise _with_leftovers(error, leftovers) from error


def _with_leftovers(error: BaseException, leftovers: Sequence[Leftover]) -> LeftoversError:
    match error:
        case ImgbuildError():
            return LeftoversError(error.what, leftovers=leftovers, where=error.where, fix=error.fix)
        case KeyboardInterrupt():
            return LeftoversError("interrupted", leftovers=leftovers)
        case _:
            return LeftoversError(f"failed: {error}", leftovers=leftovers)
