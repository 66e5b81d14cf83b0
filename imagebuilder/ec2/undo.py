"""Removes what a run has made in EC2, if the run fails; what cannot be removed is listed with the command for it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from imagebuilder.ec2.account import Account
from imagebuilder.ec2.images import deregister
from imagebuilder.ec2.journal import Journal
from imagebuilder.ec2.retry import RetryBudget, RetryLimits
from imagebuilder.ec2.snapshots import delete_snapshot
from imagebuilder.errors import ImgbuildError, Leftover, LeftoversError, RemoteError

_LIMITS = RetryLimits(attempt_timeout_s=20, attempts=5, patience_s=60)


class Undo:
    """The AMIs to remove if the run fails; made by `undone_on_failure`."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._searches: list[Callable[[Account], Sequence[str]]] = []
        self._ids: list[str] = []

    def may_make(self, find: Callable[[Account], Sequence[str]]) -> None:
        """An AMI is about to be made, and the answer with its id may get lost; `find` then finds the id."""
        self._searches.append(find)

    def made(self, ami_id: str) -> None:
        """The AMI was made."""
        self._ids.append(ami_id)

    def keep(self) -> None:
        """The run has succeeded: nothing is to be removed any more."""
        self._ids.clear()
        self._searches.clear()

    def remove(self) -> list[Leftover]:
        """Remove all that was made, and return what is left."""
        account = undoing(self._account)
        leftovers: list[Leftover] = []
        for find in self._searches:
            try:
                self._ids += [one for one in find(account) if one not in self._ids]
            except (ImgbuildError, KeyboardInterrupt):
                command = f"aws --region {account.region} ec2 describe-images --owners self"
                leftovers.append(Leftover(what="perhaps an AMI, whose id did not arrive", undo_command=command))
        return [*leftovers, *remove(account, self._ids)]


@contextmanager
def undone_on_failure(account: Account) -> Iterator[Undo]:
    """While the block runs, note what it makes; if it fails or is interrupted, remove that.

    Raises LeftoversError in place of the block's error if something is left.
    """
    undo = Undo(account)
    try:
        yield undo
    except BaseException as error:
        leftovers = undo.remove()
        if not leftovers:
            raise
        raise _with_leftovers(error, leftovers) from error


@contextmanager
def undone_by(undo: Callable[[], object], journal: Journal) -> Iterator[None]:
    """If the block fails or is interrupted, undo what the journal tells of, and remove it.

    `undo` raises LeftoversError if something is left; the journal stays then.
    """
    try:
        yield
    except BaseException as error:
        try:
            undo()
        except LeftoversError as left:
            raise _with_leftovers(error, left.leftovers) from error
        journal.remove()
        raise


def _with_leftovers(error: BaseException, leftovers: Sequence[Leftover]) -> LeftoversError:
    """`error`, and what is left behind of the run that it ended."""
    match error:
        case LeftoversError():
            both = (*error.leftovers, *leftovers)
            return LeftoversError(error.what, leftovers=both, where=error.where, fix=error.fix)
        case ImgbuildError():
            return LeftoversError(error.what, leftovers=leftovers, where=error.where, fix=error.fix)
        case KeyboardInterrupt():
            return LeftoversError("interrupted", leftovers=leftovers)
        case _:
            return LeftoversError(f"failed: {error}", leftovers=leftovers)


def undoing(account: Account) -> Account:
    """The account with a retry budget of its own: somebody waits for the end of a run that has failed already."""
    return account.with_budget(RetryBudget(_LIMITS))


def remove(account: Account, ids: Sequence[str]) -> list[Leftover]:
    """Remove AMIs and snapshots, in this order, and return those that could not be removed."""
    leftovers = []
    for one in ids:
        try:
            if one.startswith("ami-"):
                deregister(account, one)
            else:
                delete_snapshot(account, one)
        except (RemoteError, KeyboardInterrupt):
            leftovers.append(Leftover(what=one, undo_command=undo_command(account.region, one)))
    return leftovers


def undo_command(region: str, resource_id: str) -> str:
    """The command line that removes an AMI or a snapshot."""
    verb = "deregister-image --image-id" if resource_id.startswith("ami-") else "delete-snapshot --snapshot-id"
    return f"aws --region {region} ec2 {verb} {resource_id}"
