"""Which block of a snapshot has which content: what it was given, on top of what its parent had."""

import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from imagebuilder.cloud.block_store import BlockStore

# A block's index and its SHA-256.
_RECORD = struct.Struct(">I32s")


class BlockMap:
    """The map of one snapshot, kept in `directory` in two files.

    `blocks` has a record for each put, in their order; a put is one append, so that one who is killed leaves at the
    most a record that is cut off, of a put that was not answered. `inherited` has what the parent had at the start.
    """

    def __init__(self, directory: Path, store: BlockStore) -> None:
        self._journal = directory / "blocks"
        self._store = store
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._frozen = False
        self.inherited: Mapping[int, bytes] = dict(_records(directory / "inherited"))
        self.own: dict[int, bytes] = dict(_records(self._journal))
        self.changed_at = self._journal.stat().st_mtime if self._journal.exists() else 0.0
        store.hold((*self.own.values(), *self.inherited.values()))

    @classmethod
    def create(cls, directory: Path, store: BlockStore, inherited: Mapping[int, bytes]) -> "BlockMap":
        """The map of a new snapshot, in a directory that there is."""
        if inherited:
            (directory / "inherited").write_bytes(b"".join(_RECORD.pack(*pair) for pair in inherited.items()))
        return cls(directory, store)

    def put(self, index: int, digest: bytes, content: bytes | bytearray) -> bool:
        """Give a block its content, whose SHA-256 is `digest`. False, and nothing is done, if the map is frozen."""
        self._store.put(digest, content)
        with self._lock:
            if self._frozen:
                self._store.release((digest,))
                return False
            if self._descriptor is None:
                self._descriptor = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.write(self._descriptor, _RECORD.pack(index, digest))
            before = self.own.get(index)
            self.own[index] = digest
            self.changed_at = time.time()
        if before is not None:
            self._store.release((before,))
        return True

    def freeze(self) -> None:
        """Let no further put through."""
        with self._lock:
            self._frozen = True
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def thaw(self) -> None:
        """Let puts through again."""
        self._frozen = False

    def release(self) -> None:
        """Let go of all blocks: the snapshot is deleted."""
        self.freeze()
        self._store.release((*self.own.values(), *self.inherited.values()))

    def all(self) -> dict[int, bytes]:
        """Every block that the snapshot has, its parent's included, in order."""
        with self._lock:
            return dict(sorted({**self.inherited, **self.own}.items()))

    def digest(self, index: int) -> bytes | None:
        """The SHA-256 of one block."""
        return self.own.get(index) or self.inherited.get(index)


def _records(path: Path) -> Iterator[tuple[int, bytes]]:
    if path.exists():
        content = path.read_bytes()
        whole = len(content) - len(content) % _RECORD.size
        yield from _RECORD.iter_unpack(content[:whole])
