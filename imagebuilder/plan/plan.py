"""A plan: what one machine's image will differ in from its base, as a set of changes, at most one a path."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from imagebuilder.plan.changes import Change, MakeDirectory, MakeLink, RemovePath, WriteFile
from imagebuilder.plan.listing import Entry, Kind, Listing

# Raised whenever the same changes would come out as another file system: it is part of every key.
_APPLY_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All the changes that make the image of `name` from the base with this digest, in order of path."""

    name: str
    role: str
    base_digest: str
    changes: tuple[Change, ...]
    uids: Mapping[str, int]
    """Numbers of the users that own what is written."""
    gids: Mapping[str, int]
    origins: Mapping[PurePosixPath, tuple[str, ...]]
    """The edits that each change comes from; no part of the key."""

    @cached_property
    def key(self) -> str:
        """What the image is: SHA-256, in hex, over its base and its changes. Equal keys, equal file systems."""
        text = json.dumps([_APPLY_FORMAT, self.name, self.role, self.base_digest, self.rows()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def rows(self) -> list[dict[str, object]]:
        """The changes as plain values, secrets by their digest only."""
        return [self._row(change) for change in self.changes]

    def _row(self, change: Change) -> dict[str, object]:
        path = str(change.path)
        match change:
            case WriteFile():
                kind = "secret file" if change.is_secret else "file"
                return {"path": path, "change": kind, **self._ownership(change), "sha256": change.digest}
            case MakeDirectory():
                return {"path": path, "change": "directory", **self._ownership(change)}
            case MakeLink():
                return {"path": path, "change": "link", "target": change.target}
            case RemovePath():
                return {"path": path, "change": "remove"}

    def _ownership(self, change: WriteFile | MakeDirectory) -> dict[str, object]:
        return {"mode": f"{change.mode:04o}", "uid": self.uids[change.owner], "gid": self.gids[change.group]}

    def entries(self) -> Iterator[tuple[PurePosixPath, Entry | None]]:
        """What will be at each changed path; None for a path that will be gone."""
        for change in self.changes:
            match change:
                case WriteFile():
                    size, digest = len(change.payload), change.digest
                    yield change.path, self._entry(Kind.FILE, change, size=size, digest=digest)
                case MakeDirectory():
                    yield change.path, self._entry(Kind.DIRECTORY, change)
                case MakeLink():
                    yield change.path, Entry(Kind.LINK, 0o777, 0, 0, target=change.target)
                case RemovePath():
                    yield change.path, None

    def _entry(self, kind: Kind, change: WriteFile | MakeDirectory, *, size: int = 0, digest: str = "") -> Entry:
        return Entry(kind, change.mode, self.uids[change.owner], self.gids[change.group], size=size, digest=digest)


def foresee(base: Listing, plan: Plan) -> Listing:
    """What the image will hold once `plan` is applied to a base that holds `base`."""
    entries = dict(base)
    for path, entry in plan.entries():
        if entry is not None:
            entries[path] = entry
        elif path in entries:
            for gone in (path, *base.below(path)):
                entries.pop(gone, None)
    return Listing(entries)
