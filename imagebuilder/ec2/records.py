"""What was registered from this store, in one region: a record for each AMI, and the digests of its snapshot's blocks.

NAME.json       the record
NAME.journal    of an upload that is at work, or was killed
SNAPSHOT.blocks the digests
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from imagebuilder.ec2.block_digests import BlockDigests
from imagebuilder.ec2.ebs import BLOCK_BYTES
from imagebuilder.image.store import Store
from imagebuilder.whole_files import write_whole


@dataclass(frozen=True, kw_only=True)
class Record:
    """An AMI, what it was made from, and what the run that registered it has sent; `seconds` is that run's time."""

    ami: str
    snapshot: str | None
    name: str
    region: str
    key: str
    base_digest: str
    blocks_sent: int
    bytes_sent: int
    seconds: float
    registered_at: str

    @property
    def bytes_per_s(self) -> float | None:
        """How fast it was, if it sent enough to tell."""
        enough = self.bytes_sent >= 32 * BLOCK_BYTES and self.seconds > 0
        return self.bytes_sent / self.seconds if enough else None


@dataclass(frozen=True, kw_only=True)
class Records:
    """The directory of a region's records."""

    directory: Path

    @classmethod
    def of(cls, store: Store, region: str) -> "Records":
        """Those of a store."""
        return cls(directory=store.root / "artifacts" / "ami" / region)

    @classmethod
    def everywhere(cls, store: Store) -> "tuple[Records, ...]":
        """Those of a store, of each region."""
        return tuple(cls(directory=path) for path in sorted((store.root / "artifacts" / "ami").glob("*/")))

    def journal(self, name: str) -> Path:
        """Where the journal of an AMI's upload is."""
        return self.directory / f"{name}.journal"

    def all(self) -> tuple[Record, ...]:
        """Every record that is whole, the newest first."""
        return tuple(sorted(self._read(), key=lambda record: record.registered_at, reverse=True))

    def digests(self, record: Record) -> BlockDigests | None:
        """The digests of the record's snapshot; None if they are not there, or damaged."""
        try:
            return BlockDigests.read(self.directory / f"{record.snapshot}.blocks")
        except (OSError, ValueError):
            return None

    def write_digests(self, digests: BlockDigests) -> None:
        """Keep the digests of a snapshot."""
        self.directory.mkdir(parents=True, exist_ok=True)
        digests.write(self.directory / f"{digests.snapshot_id}.blocks")

    def write(self, record: Record) -> Path:
        """Keep a record; in place of an earlier one of the name."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.path(record)
        write_whole(path, (json.dumps(asdict(record), indent=2) + "\n").encode())
        return path

    def forget(self, ami_id: str) -> None:
        """Remove the record of an AMI that is gone, and the digests of its snapshot."""
        for record in self.all():
            if record.ami == ami_id:
                (self.directory / f"{record.snapshot}.blocks").unlink(missing_ok=True)
                self.path(record).unlink(missing_ok=True)

    def path(self, record: Record) -> Path:
        """Where a record is."""
        return self.directory / f"{record.name}.json"

    def _read(self) -> Iterator[Record]:
        names = {field.name for field in fields(Record)}
        for path in self.directory.glob("*.json"):
            try:
                value = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(value, dict) and set(value) == names:
                yield Record(**value)
