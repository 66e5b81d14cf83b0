"""The digests of a snapshot's blocks, kept beside the image: what a later snapshot on top of it need not send.

The file: a line that says what it is, a line of JSON, then for each block its index in 4 bytes, big-endian, and its
SHA-256 in 32, ascending.
"""

import hashlib
import json
import struct
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from imagebuilder.whole_files import write_whole

CHECKSUM_TAG = "imgbuild:checksum"
"""The tag of a snapshot that has `BlockDigests.checksum`."""

_MAGIC = b"imgbuild block digests 1\n"
_ROW = struct.Struct(">I32s")


def linear_checksum(digests: Mapping[int, bytes]) -> bytes:
    """SHA-256 of the digests in the indexes' order, as CompleteSnapshot's LINEAR."""
    return hashlib.sha256(b"".join([digest for _, digest in sorted(digests.items())])).digest()


@dataclass(frozen=True, kw_only=True)
class SnapshotState:
    """What EC2's DescribeSnapshots says of a snapshot."""

    status: str
    """`pending`, `completed` or `error`."""
    volume_gib: int
    tags: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    is_encrypted: bool = False


@dataclass(frozen=True, kw_only=True)
class BlockDigests:
    """Which blocks a snapshot has, those of its parents among them, and the SHA-256 of each."""

    snapshot_id: str
    volume_gib: int
    digests: Mapping[int, bytes]

    @cached_property
    def checksum(self) -> str:
        """The linear checksum over all blocks, in base64."""
        return b64encode(linear_checksum(self.digests)).decode()

    def to_bytes(self) -> bytes:
        """The content of its file."""
        rows = b"".join([_ROW.pack(index, digest) for index, digest in sorted(self.digests.items())])
        about = {"snapshot": self.snapshot_id, "volume_gib": self.volume_gib, "checksum": self.checksum}
        return _MAGIC + json.dumps(about).encode() + b"\n" + rows

    @classmethod
    def from_bytes(cls, content: bytes) -> "BlockDigests":
        """What `to_bytes` gave. Raises ValueError if `content` is anything else, or damaged."""
        if not content.startswith(_MAGIC):
            raise ValueError("no record of block digests")
        line, _, rows = content.removeprefix(_MAGIC).partition(b"\n")
        if len(rows) % _ROW.size:
            raise ValueError("it ends too early")
        match json.loads(line):
            case {"snapshot": str(snapshot_id), "volume_gib": int(volume_gib), "checksum": str(checksum)}:
                record = cls(snapshot_id=snapshot_id, volume_gib=volume_gib, digests=dict(_ROW.iter_unpack(rows)))
            case _:
                raise ValueError("no record of block digests")
        if record.checksum != checksum:
            raise ValueError("its checksum is wrong")
        return record

    def write(self, path: Path) -> None:
        """Put its file in place, whole or not at all."""
        write_whole(path, self.to_bytes())

    @classmethod
    def read(cls, path: Path) -> "BlockDigests":
        """The record in a file. Raises OSError or ValueError."""
        return cls.from_bytes(path.read_bytes())

    def doubt(self, state: SnapshotState | None, indexes: Iterable[int]) -> str | None:
        """Why the cloud's snapshot is not what this says, or None if it is.

        `state` is None if the snapshot does not exist; `indexes` are those that ListSnapshotBlocks gives, which is
        not asked if the state tells enough.
        """
        snapshot = self.snapshot_id
        if state is None:
            return f"{snapshot} does not exist"
        if (what := self._difference(state)) is not None:
            return f"{snapshot} {what}"
        return f"{snapshot} has other blocks" if set(indexes) != set(self.digests) else None

    def _difference(self, state: SnapshotState) -> str | None:
        if state.status != "completed":
            return f"is {state.status}"
        if state.volume_gib != self.volume_gib:
            return f"has {state.volume_gib} GiB, not {self.volume_gib}"
        if state.is_encrypted:  # and so would be all that is put on top of it
            return "is encrypted"
        if (tag := state.tags.get(CHECKSUM_TAG)) != self.checksum:
            return f"has {'another' if tag else 'no'} tag {CHECKSUM_TAG}"
        return None
