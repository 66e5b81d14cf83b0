"""What a file system holds, path by path: the common ground of foreseeing, verifying and comparing."""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Self


class Kind(Enum):
    """The type of a file."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    DEVICE = "device"
    FIFO = "fifo"
    SOCKET = "socket"


@dataclass(frozen=True, slots=True)
class Entry:
    """One path: type, permission bits, numeric owner and group; SHA-256 and size of a file, target of a link.

    Times are left out: they say when an image was built, not what it is.
    """

    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int = 0
    digest: str = ""
    target: str = ""

    def __str__(self) -> str:
        text = f"{self.kind.value} {self.mode:04o} {self.uid}:{self.gid}"
        match self.kind:
            case Kind.FILE:
                return f"{text} {self.size} bytes {self.digest[:12]}"
            case Kind.LINK:
                return f"{text} -> {self.target}"
            case _:
                return text


class Listing(Mapping[PurePosixPath, Entry]):
    """Every path of a file system with what is there, in order of the path's parts."""

    def __init__(self, entries: Mapping[PurePosixPath, Entry]) -> None:
        self._entries = dict(sorted(entries.items(), key=lambda item: item[0].parts))

    def __getitem__(self, path: PurePosixPath) -> Entry:
        return self._entries[path]

    def __iter__(self) -> Iterator[PurePosixPath]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def below(self, directory: PurePosixPath) -> Iterator[PurePosixPath]:
        """Every path inside `directory`, at any depth."""
        return (path for path in self._entries if path != directory and path.is_relative_to(directory))

    def write(self, file: Path) -> None:
        """Write the listing to `file`, one JSON array a line, compressed; the same listing gives the same bytes."""
        with (
            file.open("wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=3, mtime=0, filename="") as out,
        ):
            for path, entry in self._entries.items():
                out.write(json.dumps(_row(path, entry), ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n")

    @classmethod
    def read(cls, file: Path) -> Self:
        """The listing that `write` wrote."""
        with gzip.open(file, "rb") as stream:
            rows = (json.loads(line.decode("utf-8", "surrogateescape")) for line in stream)
            return cls(dict(map(_from_row, rows)))


def _row(path: PurePosixPath, entry: Entry) -> list[object]:
    last = entry.target if entry.kind is Kind.LINK else entry.digest
    return [str(path), entry.kind.value, f"{entry.mode:04o}", entry.uid, entry.gid, entry.size, last]


def _from_row(row: list[str | int]) -> tuple[PurePosixPath, Entry]:
    path, kind_name, mode, uid, gid, size, last = row
    kind = Kind(kind_name)
    entry = Entry(
        kind=kind,
        mode=int(str(mode), 8),
        uid=int(uid),
        gid=int(gid),
        size=int(size),
        digest=str(last) if kind is Kind.FILE else "",
        target=str(last) if kind is Kind.LINK else "",
    )
    return PurePosixPath(str(path)), entry


def parents(paths: Iterable[PurePosixPath]) -> set[PurePosixPath]:
    """Every directory above any of `paths`, the root included."""
    return {parent for path in paths for parent in path.parents}
