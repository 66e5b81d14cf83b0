"""Sends the blocks of a disk into a snapshot: reading, digests, signing and sending overlap in a crew of threads.

Each thread takes a block from the disk to the service by itself: so the memory is one block a thread, and nothing
waits in a queue. Reading, SHA-256 and sending let the other threads run meanwhile.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from imagebuilder.ec2.crew import Concurrency, Crew
from imagebuilder.ec2.ebs import BLOCK_BYTES, ZERO_BLOCK, ZERO_DIGEST, Block, EbsClient
from imagebuilder.ec2.journal import Journal
from imagebuilder.errors import BuildError
from imagebuilder.image.disk_reader import DiskReader

Coverage = Literal["allocated", "everything", "nonzero"]
"""Which blocks a snapshot gets. One that it lacks reads as zeros, but as noise on an encrypted volume (coldsnap#395).

`allocated`: each that touches an allocated extent, zeros included, which ext4 is content with. `everything`: all of
the volume, as encrypted volumes and other file systems need it. `nonzero`: those with anything but zeros.
"""

_BLOCKS_A_GIB = (1 << 30) // BLOCK_BYTES


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an upload or a download is, in blocks."""

    done: int
    total: int
    sent: int
    """Those of `done` that went over the network in this run."""

    @property
    def bytes_sent(self) -> int:
        """The same in bytes, without heads and repetitions."""
        return self.sent * BLOCK_BYTES


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which blocks of a disk are looked at, and which of them a snapshot needs."""

    coverage: Coverage
    volume_gib: int
    parent: Mapping[int, bytes]
    """The digests of the blocks that the snapshot has from its parent."""

    def indexes(self, disk: DiskReader) -> list[int]:
        """Those to be looked at, ascending; the parent's among them, as its data would show through otherwise."""
        if self.coverage == "everything":
            return list(range(self.volume_gib * _BLOCKS_A_GIB))
        return sorted({*disk.allocated_blocks(BLOCK_BYTES), *self.parent})

    def needs(self, index: int, digest: bytes) -> bool:
        """Whether a block has to be sent."""
        if (inherited := self.parent.get(index)) is not None:
            return digest != inherited
        return self.coverage != "nonzero" or digest != ZERO_DIGEST


class BlockSender:
    """Sends what a snapshot needs, and notes in the journal what has arrived."""

    def __init__(
        self, disk: DiskReader, selection: Selection, *, client: EbsClient, journal: Journal, snapshot_id: str
    ) -> None:
        self._disk = disk
        self._selection = selection
        self._client = client
        self._journal = journal
        self._snapshot_id = snapshot_id
        self._arrived = journal.blocks()
        self._lock = threading.Lock()
        self._done = self._sent = 0
        self.digests: dict[int, bytes] = {}
        """Of each block that was put into the snapshot, in this run or before; complete after `send`."""

    @property
    def sent(self) -> int:
        """The blocks that were sent in this run."""
        return self._sent

    def send(self, *, made_at: float | None, on_progress: Callable[[Progress], None]) -> None:
        """Send them all. `made_at` is when the snapshot was begun, by the budget's clock.

        Raises BuildError if a block is not what was sent before under its index: the disk has changed.
        """
        # What has arrived counts, though it may not look allocated any more: zeros in room that was only reserved are
        # data to the kernel as long as they are in its page cache.
        indexes = sorted({*self._selection.indexes(self._disk), *self._arrived})
        slow_s = self._client.budget.limits.attempt_timeout_s / 4
        concurrency = Concurrency(slow_s=slow_s)

        def work(index: int, buffer: bytearray) -> None:
            view = memoryview(buffer)
            self._disk.read_into(index * BLOCK_BYTES, view)
            digest = ZERO_DIGEST if buffer == ZERO_BLOCK else hashlib.sha256(view).digest()
            arrived = self._arrived.get(index)
            if arrived is not None and arrived != digest:
                raise self._changed(index)
            needed = arrived is None and self._selection.needs(index, digest)
            if needed:
                block = Block(index=index, content=view, digest=digest)
                began = time.monotonic()
                self._client.put_block(self._snapshot_id, block, made_at=made_at, sleep=crew.pause)
                self._journal.note_block(index, digest)
                now = time.monotonic()
                concurrency.note(now, now - began)
            with self._lock:
                self._done += 1
                self._sent += needed
                if needed or arrived is not None:
                    self.digests[index] = digest

        crew = Crew(indexes, work, concurrency=concurrency, abort=self._client.abort)
        crew.run(lambda: on_progress(Progress(done=self._done, total=len(indexes), sent=self._sent)))

    def _changed(self, index: int) -> BuildError:
        what = f"block {index} of the disk has changed since it was sent to {self._snapshot_id}"
        return BuildError(what, fix="let nothing write to the image, and run the same command again")
