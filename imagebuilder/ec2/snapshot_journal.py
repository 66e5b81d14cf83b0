"""What a journal tells of the snapshot that is being made: begun, sealed, gone; and how it is undone."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from imagebuilder.ec2.block_digests import SnapshotState
from imagebuilder.ec2.ebs import EbsClient, NewSnapshot
from imagebuilder.ec2.journal import Journal, Value
from imagebuilder.errors import Leftover, LeftoversError, RemoteError

_ASKED, _STARTED, _SEALING, _COMPLETED = "snapshot-asked", "snapshot-started", "snapshot-sealing", "snapshot-completed"
_DELETED = "snapshot-deleted"


class Snapshots(Protocol):
    """What EC2 itself, not the EBS direct APIs, can say of snapshots and do to them."""

    def state(self, snapshot_id: str) -> SnapshotState | None:
        """The snapshot's state by DescribeSnapshots; None if it is not found. Raises RemoteError."""

    def delete(self, snapshot_id: str, *, made_at: float | None) -> None:
        """DeleteSnapshot; one that is not found is deleted, but if it is new: see `RetryBudget.run`.

        Raises RemoteError.
        """


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The snapshot that a journal tells of, and that is neither gone nor deleted."""

    new: NewSnapshot
    asked_at: float
    """By the clock of the wall."""
    snapshot_id: str | None
    """None if the run was killed before the service had answered."""
    stage: str

    @property
    def is_sealing(self) -> bool:
        """Whether CompleteSnapshot was called, or was about to be."""
        return self.stage in {_SEALING, _COMPLETED}


def begun_snapshot(journal: Journal) -> Begun | None:
    """The snapshot that the journal tells of."""
    last = journal.last(_ASKED, _STARTED, _SEALING, _COMPLETED, _DELETED)
    asked = journal.last(_ASKED)
    if last is None or asked is None or last.kind == _DELETED:
        return None
    started = None if last.kind == _ASKED else str(last.values["id"])
    values = asked.values
    return Begun(new=_new(values), asked_at=float(values["at"] or 0), snapshot_id=started, stage=last.kind)


def note_asking(journal: Journal, new: NewSnapshot) -> None:
    """Before StartSnapshot: with the token the snapshot can be found, and with the rest be asked for again."""
    journal.forget_blocks(
        _ASKED,
        client_token=new.client_token,
        volume_gib=new.volume_gib,
        description=new.description,
        tags=json.dumps(dict(new.tags)),
        parent=new.parent,
        encrypted=new.encrypted,
        kms_key=new.kms_key,
        timeout_minutes=new.timeout_minutes,
        at=time.time(),
    )


def note_started(journal: Journal, snapshot_id: str) -> None:
    """After StartSnapshot."""
    journal.note(_STARTED, id=snapshot_id)


def note_sealing(journal: Journal, snapshot_id: str) -> None:
    """Before CompleteSnapshot."""
    journal.note(_SEALING, id=snapshot_id)


def note_completed(journal: Journal, snapshot_id: str) -> None:
    """When the snapshot is `completed`."""
    journal.note(_COMPLETED, id=snapshot_id)


def note_deleted(journal: Journal, snapshot_id: str) -> None:
    """When the snapshot is gone, whoever has deleted it."""
    journal.forget_blocks(_DELETED, id=snapshot_id)


def delete_begun(journal: Journal, *, client: EbsClient, snapshots: Snapshots) -> str | None:
    """Delete the snapshot that the journal tells of, in whatever state; its id, None if there was none.

    Raises LeftoversError, with the command that deletes it, if that fails.
    """
    begun = begun_snapshot(journal)
    if begun is None:
        return None
    snapshot_id = begun.snapshot_id
    try:
        if snapshot_id is None:  # the token tells which it is; if the first request was lost, one is made to be deleted
            snapshot_id = client.start_snapshot(begun.new)
            note_started(journal, snapshot_id)
        snapshots.delete(snapshot_id, made_at=made_at(begun, client))
    except RemoteError as error:
        raise LeftoversError(
            "a snapshot could not be deleted",
            where=error.where,
            fix=error.what,
            leftovers=[_leftover(snapshot_id, begun.new, client.region)],
        ) from error
    note_deleted(journal, snapshot_id)
    return snapshot_id


def made_at(begun: Begun, client: EbsClient) -> float:
    """When the snapshot was begun, by the clock of the budget."""
    return client.budget.now() - max(0.0, time.time() - begun.asked_at)


def _leftover(snapshot_id: str | None, new: NewSnapshot, region: str) -> Leftover:
    if snapshot_id is None:
        what = f"perhaps a pending snapshot of {new.volume_gib} GiB, begun with the token {new.client_token}"
        find = "aws ec2 describe-snapshots --owner-ids self --filters Name=status,Values=pending"
        return Leftover(what=what, undo_command=f"{find} --region {region}")
    return Leftover(
        what=f"snapshot {snapshot_id}",
        undo_command=f"aws ec2 delete-snapshot --snapshot-id {snapshot_id} --region {region}",
    )


def _new(values: Mapping[str, Value]) -> NewSnapshot:
    parent, kms_key = values["parent"], values["kms_key"]
    return NewSnapshot(
        client_token=str(values["client_token"]),
        volume_gib=int(values["volume_gib"] or 0),
        description=str(values["description"]),
        tags=json.loads(str(values["tags"])),
        parent=None if parent is None else str(parent),
        encrypted=bool(values["encrypted"]),
        kms_key=None if kms_key is None else str(kms_key),
        timeout_minutes=int(values["timeout_minutes"] or 0),
    )
