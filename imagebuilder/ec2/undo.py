"""Removes what a run has made in EC2, if the run fails; what cannot be removed is listed with the command for it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from imagebuilder.ec2.account import Account
from imagebuilder.ec2.ami import RUN
from imagebuilder.ec2.images import deregister, find_amis
from imagebuilder.ec2.retry import RetryBudget, RetryLimits
from imagebuilder.ec2.snapshots import delete_snapshot, find_snapshots
from imagebuilder.errors import ImgbuildError, Leftover, LeftoversError, RemoteError

# Somebody waits for the end of a run that has failed already.
_LIMITS = RetryLimits(attempt_timeout_s=20, attempts=5, patience_s=60)


@dataclass(frozen=True, kw_only=True)
class Sought:
    """Something known by the run that has made it, which the tag `imgbuild:run` says; an AMI by its snapshot, too."""

    kind: Literal["ami", "snapshot"]
    run: str
    snapshot_id: str | None = None


class Undo:
    """What to remove if the run fails; made by `undone_on_failure`."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._ids: list[str] = []
        self._sought: list[Sought] = []

    def made(self, resource_id: str) -> None:
        """An AMI or a snapshot was made."""
        self._ids.append(resource_id)

    def may_make(self, sought: Sought) -> None:
        """Something is about to be made, and the answer with its id may get lost."""
        self._sought.append(sought)

    def keep(self) -> None:
        """The run has succeeded: nothing is to be removed any more."""
        self._ids.clear()
        self._sought.clear()

    def remove(self) -> list[Leftover]:
        """Remove all that was made, the newest first, and return what is left."""
        account = self._account.with_budget(RetryBudget(_LIMITS))
        leftovers: list[Leftover] = []
        for sought in self._sought:
            try:
                self._ids += [one for one in find_made(account, sought) if one not in self._ids]
            except (ImgbuildError, KeyboardInterrupt):
                what = f"perhaps {'an AMI' if sought.kind == 'ami' else 'a snapshot'}, whose id did not arrive"
                leftovers.append(Leftover(what=what, undo_command=_look_command(account.region, sought)))
        # An AMI holds its snapshots fast.
        for resource_id in sorted(self._ids, key=lambda one: not one.startswith("ami-")):
            leftovers += remove(account, [resource_id])
        return leftovers


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
        match error:
            case LeftoversError():
                both = (*error.leftovers, *leftovers)
                raise LeftoversError(error.what, leftovers=both, where=error.where, fix=error.fix) from error
            case ImgbuildError():
                raise LeftoversError(error.what, leftovers=leftovers, where=error.where, fix=error.fix) from error
            case KeyboardInterrupt():
                raise LeftoversError("interrupted", leftovers=leftovers) from error
            case _:
                raise LeftoversError(f"failed: {error}", leftovers=leftovers) from error


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


def find_made(account: Account, sought: Sought) -> list[str]:
    """The ids of what a run has made, whose answer it may not have got."""
    if sought.kind == "snapshot":
        snapshots = find_snapshots(account, filters={f"tag:{RUN}": [sought.run]})
        return [one.id for one in snapshots if one.tags.get(RUN) == sought.run]
    if sought.snapshot_id is not None:
        amis = find_amis(account, filters={"block-device-mapping.snapshot-id": [sought.snapshot_id]})
        return [one.id for one in amis if sought.snapshot_id in one.snapshot_ids]
    amis = find_amis(account, filters={f"tag:{RUN}": [sought.run]})
    return [one.id for one in amis if one.tags.get(RUN) == sought.run]


def _look_command(region: str, sought: Sought) -> str:
    verb = "describe-images --owners self" if sought.kind == "ami" else "describe-snapshots --owner-ids self"
    return f"aws --region {region} ec2 {verb} --filters Name=tag:{RUN},Values={sought.run}"
