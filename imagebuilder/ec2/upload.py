"""A disk into one EBS snapshot: whole or what changed, and on from where an earlier run was killed."""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from imagebuilder.ec2.block_digests import BlockDigests, SnapshotState
from imagebuilder.ec2.block_sender import BlockSender, Coverage, Progress, Selection
from imagebuilder.ec2.ebs import BLOCK_BYTES, EbsClient, NewSnapshot
from imagebuilder.ec2.journal import Journal
from imagebuilder.ec2.snapshot_journal import (
    Begun,
    Snapshots,
    begun_snapshot,
    made_at,
    note_asking,
    note_completed,
    note_deleted,
    note_sealing,
    note_started,
)
from imagebuilder.errors import RemoteError, UsageError
from imagebuilder.image.disk_reader import DiskReader

# A sealed snapshot takes minutes, for it is copied to S3; longer than this and something is wrong.
_COMPLETION_S = 3600.0
_LONGEST_POLL_S = 5.0


@dataclass(frozen=True, kw_only=True)
class SnapshotRequest:
    """The snapshot that is wanted."""

    volume_gib: int
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The same for each run of the same upload: the service takes another tag for another request."""
    coverage: Coverage = "allocated"
    parent: BlockDigests | None = None
    """What the snapshot below it holds, as `verified_parent` gives it: only what differs is sent."""
    encrypted: bool = False
    kms_key: str | None = None
    timeout_minutes: int = 60

    def __post_init__(self) -> None:
        if self.parent and (self.encrypted or self.kms_key):
            raise UsageError("a snapshot has the encryption of its parent", fix="send it whole, with --full")
        if self.encrypted and self.coverage != "everything":
            raise UsageError("an encrypted snapshot needs all blocks: what it lacks reads as noise")


@dataclass(frozen=True, kw_only=True)
class UploadedSnapshot:
    """A completed snapshot."""

    id: str
    blocks_sent: int
    """In this run."""
    blocks_put: int
    """In all runs: what is its own, beside what its parent has."""
    seconds: float
    digests: BlockDigests

    @property
    def bytes_sent(self) -> int:
        """In this run, without heads and repetitions."""
        return self.blocks_sent * BLOCK_BYTES

    @property
    def checksum(self) -> str:
        """For the tag CHECKSUM_TAG: over all that the snapshot holds."""
        return self.digests.checksum


@dataclass(frozen=True, kw_only=True)
class Services:
    """Both services that an upload needs."""

    client: EbsClient
    snapshots: Snapshots


@dataclass(frozen=True, kw_only=True)
class Reports:
    """Who is told how it goes."""

    say: Callable[[str], None]
    """A sentence for people, where an upload does not go the plain way."""
    on_progress: Callable[[Progress], None]
    """About ten times a second, in the caller's thread."""


def upload_snapshot(
    disk: DiskReader,
    request: SnapshotRequest,
    account: Services,
    *,
    journal: Journal,
    reports: Reports,
) -> UploadedSnapshot:
    """The snapshot of `disk`, completed.

    The journal must be of this disk and this request; with what it tells the upload goes on. On any failure, an
    interruption among them, no thread goes on; the snapshot is left, and `delete_begun` undoes it.
    Raises RemoteError, and BuildError if the disk cannot be read or has changed since an earlier run.
    """
    began = time.monotonic()
    if disk.size_bytes > request.volume_gib << 30:
        raise UsageError(f"{disk.size_bytes} bytes do not fit into a volume of {request.volume_gib} GiB")
    begun, state = _still_there(journal, account, reports.say)
    if begun is None or begun.snapshot_id is None:
        begun = _begin(journal, account.client, request, begun)
    snapshot_id = str(begun.snapshot_id)
    parent = request.parent.digests if request.parent else {}
    selection = Selection(coverage=request.coverage, volume_gib=request.volume_gib, parent=parent)
    sender = BlockSender(disk, selection, client=account.client, journal=journal, snapshot_id=snapshot_id)
    sender.send(made_at=made_at(begun, account.client), on_progress=reports.on_progress)
    if state is None or state.status != "completed":
        _seal(begun, sender.digests, journal, account)
    note_completed(journal, snapshot_id)
    digests = {**parent, **sender.digests}
    return UploadedSnapshot(
        id=snapshot_id,
        blocks_sent=sender.sent,
        blocks_put=len(sender.digests),
        seconds=time.monotonic() - began,
        digests=BlockDigests(snapshot_id=snapshot_id, volume_gib=request.volume_gib, digests=digests),
    )


def verified_parent(record: BlockDigests, account: Services, *, say: Callable[[str], None]) -> BlockDigests | None:
    """The record, if its snapshot is in the account and is what the record says; else says why not."""
    state = account.snapshots.state(record.snapshot_id)
    doubt = record.doubt(state, (index for index, _ in account.client.list_blocks(record.snapshot_id)))
    if doubt is None:
        return record
    say(f"{doubt}: everything is sent, not only what differs")
    return None


def _still_there(
    journal: Journal, account: Services, say: Callable[[str], None]
) -> tuple[Begun | None, SnapshotState | None]:
    """The snapshot that an earlier run has begun, if it can still be gone on with."""
    begun = begun_snapshot(journal)
    if begun is None or begun.snapshot_id is None:
        return begun, None
    state = _visible_state(begun, account)
    if state and (state.status == "pending" or (state.status == "completed" and begun.is_sealing)):
        say(f"going on with {begun.snapshot_id}, which has {len(journal.blocks())} blocks of an earlier run")
        return begun, state
    say(f"{begun.snapshot_id} of an earlier run is {state.status if state else 'gone'}: beginning anew")
    if state:
        account.snapshots.delete(begun.snapshot_id, made_at=None)
    note_deleted(journal, begun.snapshot_id)
    return None, None


def _begin(journal: Journal, client: EbsClient, request: SnapshotRequest, asked: Begun | None) -> Begun:
    """Begin a snapshot, or learn the id of the one that was `asked` for by a run that was killed then."""
    if asked is None:
        new = NewSnapshot(
            client_token=str(uuid.uuid4()),
            volume_gib=request.volume_gib,
            description=request.description,
            tags=request.tags,
            parent=request.parent.snapshot_id if request.parent else None,
            encrypted=request.encrypted,
            kms_key=request.kms_key,
            timeout_minutes=request.timeout_minutes,
        )
        note_asking(journal, new)
        asked = Begun(new=new, asked_at=time.time(), snapshot_id=None, stage="")
    snapshot_id = client.start_snapshot(asked.new)
    note_started(journal, snapshot_id)
    return replace(asked, snapshot_id=snapshot_id)


def _seal(begun: Begun, digests: Mapping[int, bytes], journal: Journal, account: Services) -> None:
    snapshot_id, made = str(begun.snapshot_id), made_at(begun, account.client)
    note_sealing(journal, snapshot_id)
    account.client.complete_snapshot(snapshot_id, digests=digests, made_at=made, asked_before=begun.is_sealing)
    began, poll_s = time.monotonic(), 0.1
    while (state := account.snapshots.state(snapshot_id)) is None or state.status != "completed":
        waited_s = time.monotonic() - began
        patience_s = _COMPLETION_S if state else account.client.budget.limits.new_s
        if waited_s > patience_s or (state and state.status == "error"):
            what = f"{snapshot_id} is {state.status if state else 'gone'}, {waited_s:.0f} s after all was sent"
            told = f"{what}: {state.message}" if state and state.message else what
            raise RemoteError(told, fix="run the same command again, which begins a new snapshot")
        time.sleep(poll_s)
        poll_s = min(_LONGEST_POLL_S, poll_s * 1.5)


def _visible_state(begun: Begun, account: Services) -> SnapshotState | None:
    """The state of a snapshot, which may be too new to be found."""
    visible_at = begun.asked_at + account.client.budget.limits.new_s
    while (state := account.snapshots.state(str(begun.snapshot_id))) is None and time.time() < visible_at:
        time.sleep(0.5)
    return state
