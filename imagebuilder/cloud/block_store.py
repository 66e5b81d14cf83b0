"""Keeps snapshot blocks by their SHA-256: the same content, in however many snapshots, is one file."""

import secrets
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_NEW = ".new"


class BlockStore:
    """The blocks of all snapshots; each is there while something holds it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._holders: Counter[bytes] = Counter()
        self._lock = threading.Lock()

    def put(self, digest: bytes, content: bytes | bytearray) -> None:
        """Keep a block and hold it once. `digest` is its SHA-256, which the caller has made sure of."""
        self.hold((digest,))
        path = self._path(digest)
        if path.exists():
            return
        new = path.with_name(f"{path.name}.{secrets.token_hex(4)}{_NEW}")
        with self._create(new) as stream:
            stream.write(content)
        new.rename(path)

    def get(self, digest: bytes) -> bytes:
        """The block with this SHA-256."""
        return self._path(digest).read_bytes()

    def hold(self, digests: Iterable[bytes]) -> None:
        """Keep these blocks for one holder more."""
        with self._lock:
            self._holders.update(digests)

    def release(self, digests: Iterable[bytes]) -> None:
        """Undo one `hold` of each; what nobody holds is gone."""
        with self._lock:
            for digest in digests:
                self._holders[digest] -= 1
                if self._holders[digest] <= 0:
                    del self._holders[digest]
                    self._path(digest).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what nobody holds: left by a cloud that was killed. Call it when every holder has said so."""
        for path in self._directory.glob("*/*"):
            with suppress(ValueError):
                if path.name.endswith(_NEW) or bytes.fromhex(path.name) not in self._holders:
                    path.unlink(missing_ok=True)

    def _create(self, path: Path) -> BinaryIO:
        try:
            return path.open("xb")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._directory / name[:2] / name
