"""The snapshots of a region: what is known of each, and its blocks."""

import secrets
import shutil
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from imagebuilder.cloud.block_map import BlockMap
from imagebuilder.cloud.block_store import BlockStore
from imagebuilder.whole_files import write_whole

BLOCK_SIZE = 524_288
GIB = 1 << 30
BLOCKS_A_GIB = GIB // BLOCK_SIZE

State = Literal["pending", "completed", "error"]


class Snapshot(BaseModel):
    """What is known of one snapshot; `frozen`: a change makes a new one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    volume_size_gib: int
    started_at: datetime
    visible_at: datetime
    """Before that it "does not exist" yet."""
    description: str = ""
    tags: dict[str, str] = {}
    parent_id: str | None = None
    lineage: str
    """The snapshot that it descends from, or its own id: what ListChangedBlocks compares is of one lineage."""
    kms_key_arn: str | None = None
    """Of an encrypted snapshot."""
    client_token: str | None = None
    request: str = ""
    """What StartSnapshot asked for, to tell a repetition from another request with the same token."""
    timeout_minutes: int = 60
    sealed_at: datetime | None = None
    completed_at: datetime | None = None
    """When it is `completed`; set when it is sealed."""
    failed: bool = False
    volume_users: frozenset[str] = frozenset()
    volume_groups: frozenset[str] = frozenset()

    @property
    def blocks(self) -> int:
        """How many blocks the volume has room for."""
        return self.volume_size_gib * BLOCKS_A_GIB

    def state(self, now: datetime) -> State:
        """The state that it shows at `now`."""
        if self.failed:
            return "error"
        return "completed" if self.completed_at is not None and self.completed_at <= now else "pending"

    def progress(self, now: datetime) -> int:
        """How much is done, in percent."""
        if self.sealed_at is None or self.completed_at is None:
            return 0
        whole = (self.completed_at - self.sealed_at).total_seconds()
        done = (now - self.sealed_at).total_seconds()
        return 100 if done >= whole else int(100 * done / whole)


class Snapshots:
    """The snapshots of one region, kept in `directory`. Safe to use from several threads."""

    def __init__(self, directory: Path, blocks: BlockStore, *, minute_s: float) -> None:
        self._directory = directory
        self._blocks = blocks
        self._minute_s = minute_s
        self._maps: dict[str, BlockMap] = {}
        self._all: dict[str, Snapshot] = {}
        self.lock = threading.RLock()
        """Held by who looks at one or several snapshots to then change one."""
        directory.mkdir(parents=True, exist_ok=True)
        for home in sorted(directory.iterdir()):
            if (home / "snapshot.json").is_file():
                snapshot = Snapshot.model_validate_json((home / "snapshot.json").read_bytes())
                self._all[snapshot.id] = snapshot
                self._maps[snapshot.id] = BlockMap(home, blocks)
            else:
                shutil.rmtree(home)  # of a cloud that was killed while it began or deleted it

    def add(self, snapshot: Snapshot, inherited: Mapping[int, bytes]) -> None:
        """Take in a new one, with the blocks that it has from the beginning."""
        home = self._directory / snapshot.id
        home.mkdir()
        with self.lock:
            self._maps[snapshot.id] = BlockMap.create(home, self._blocks, inherited)
            self.change(snapshot)

    def change(self, snapshot: Snapshot) -> None:
        """Replace what is known of a snapshot."""
        with self.lock:
            path = self._directory / snapshot.id / "snapshot.json"
            write_whole(path, snapshot.model_dump_json(indent=1).encode(), survives="kill")
            self._all[snapshot.id] = snapshot

    def delete(self, snapshot_id: str) -> None:
        """Delete one, with the blocks that no other has."""
        with self.lock:
            del self._all[snapshot_id]
            (self._directory / snapshot_id / "snapshot.json").unlink()
            self._maps.pop(snapshot_id).release()
            shutil.rmtree(self._directory / snapshot_id)

    def find(self, snapshot_id: str, now: datetime) -> Snapshot | None:
        """The snapshot with this id, if it can be seen at `now`."""
        with self.lock:
            snapshot = self._all.get(snapshot_id)
            if snapshot is None or now < snapshot.visible_at:
                return None
            return self._aged(snapshot, now)

    def visible(self, now: datetime) -> list[Snapshot]:
        """All that can be seen at `now`, in the order of their ids."""
        with self.lock:
            known = sorted(self._all.values(), key=lambda snapshot: snapshot.id)
            return [self._aged(snapshot, now) for snapshot in known if snapshot.visible_at <= now]

    def all(self) -> list[Snapshot]:
        """All, also those that cannot be seen yet, in the order of their ids."""
        with self.lock:
            return [self._aged(one, utc_now()) for one in sorted(self._all.values(), key=lambda one: one.id)]

    def by_token(self, client_token: str) -> Snapshot | None:
        """The snapshot that was started with this token."""
        return next((one for one in self._all.values() if one.client_token == client_token), None)

    def pending(self, now: datetime) -> int:
        """How many are started and not sealed."""
        with self.lock:
            return sum(self._aged(one, now).state(now) == "pending" and not one.sealed_at for one in self._all.values())

    def blocks(self, snapshot_id: str) -> BlockMap:
        """The blocks of one. Raises KeyError if it has been deleted meanwhile."""
        return self._maps[snapshot_id]

    def content(self, digest: bytes) -> bytes:
        """The block with this SHA-256."""
        return self._blocks.get(digest)

    def _aged(self, snapshot: Snapshot, now: datetime) -> Snapshot:
        """The snapshot, failed if it has been left alone for longer than its Timeout."""
        if snapshot.sealed_at is not None or snapshot.failed:
            return snapshot
        touched = max(snapshot.started_at.timestamp(), self._maps[snapshot.id].changed_at)
        if now.timestamp() <= touched + snapshot.timeout_minutes * self._minute_s:
            return snapshot
        with self.lock:
            failed = snapshot.model_copy(update={"failed": True})
            self._maps[snapshot.id].freeze()
            self.change(failed)
            return failed


def new_id(prefix: str) -> str:
    """An id as EC2 gives them, such as snap-0a1b2c3d4e5f60718."""
    return f"{prefix}-0{secrets.token_hex(8)}"


def copy_of(  # noqa: PLR0913 - what a copy may differ in
    source: Snapshot,
    *,
    now: datetime,
    description: str,
    tags: Mapping[str, str],
    kms_key_arn: str | None,
    takes_s: float,
) -> Snapshot:
    """A new snapshot with what `source` holds, to be added with its blocks; `takes_s` until it is completed."""
    new = new_id("snap")
    return Snapshot(
        id=new,
        volume_size_gib=source.volume_size_gib,
        started_at=now,
        visible_at=now,
        description=description,
        tags=dict(tags),
        lineage=new,
        kms_key_arn=kms_key_arn,
        sealed_at=now,
        completed_at=now + timedelta(seconds=takes_s),
    )


def utc_now() -> datetime:
    """The time, to the millisecond, as AWS tells it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
