"""What a run has done in a cloud, line by line on the disk, so that the next run goes on where this one was killed.

The first line says what the journal is of; each other line is one event, or one block of the snapshot that is there
for good. Nobody else may use the journal meanwhile: the caller holds a lock.
"""

import json
import os
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from imagebuilder.errors import HostError
from imagebuilder.whole_files import flush

Value = str | int | float | bool | None

_FORMAT = 1
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line: a kind such as `snapshot-started`, and what belongs to it. Never a secret."""

    kind: str
    values: Mapping[str, Value]


class Journal:
    """Made by `Journal.open`. `note_block` may be called by several threads."""

    def __init__(self, path: Path, descriptor: int, events: list[Event], blocks: dict[int, bytes]) -> None:
        self.path = path
        self._descriptor = descriptor
        self._events = events
        self._blocks = blocks
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, subject: Mapping[str, Value], *, on_other: Callable[["Journal"], None]) -> Self:
        """The journal at `path` to go on with, if there is one of the same `subject`, else a new one.

        `subject` is what is made and of what: another image, size or option is another subject. A journal of another
        subject is given to `on_other` first, to undo what it tells of; if that raises, the old journal stays.
        Raises HostError if the journal cannot be written.
        """
        old = cls.read(path)
        if old is not None and old.subject != dict(subject):
            with old:
                on_other(old)
            old = None
        if old is not None:
            return old
        with _journal_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f".new-{path.name}")
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            made = cls(path, descriptor, [], {})
            try:
                made.note("subject", format=_FORMAT, **subject)
                new.replace(path)
                flush(path.parent)
            except BaseException:
                os.close(descriptor)
                raise
        return made

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The journal at `path` as it is, to go on with; None if there is none.

        A last line that was not written to its end is cut off. Raises HostError if it is no journal, or damaged.
        """
        with _journal_errors(path):
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                content = path.read_bytes()
                whole = content[: content.rfind(b"\n") + 1]
                if len(whole) < len(content):
                    os.ftruncate(descriptor, len(whole))
                events, blocks = _parse(path, whole)
            except BaseException:
                os.close(descriptor)
                raise
        return cls(path, descriptor, events, blocks)

    @property
    def subject(self) -> dict[str, Value]:
        """What it is of."""
        return {name: value for name, value in self._events[0].values.items() if name != "format"}

    def note(self, kind: str, **values: Value) -> None:
        """Add an event; it is on the disk when this returns."""
        self._write(json.dumps({"event": kind, **values}, separators=(",", ":")).encode() + b"\n")
        os.fsync(self._descriptor)
        self._events.append(Event(kind=kind, values=values))

    def events(self, *kinds: str) -> tuple[Event, ...]:
        """The events of these kinds, in order; of all, if none is named."""
        return tuple(event for event in self._events if not kinds or event.kind in kinds)

    def last(self, *kinds: str) -> Event | None:
        """The last event of these kinds."""
        found = self.events(*kinds)
        return found[-1] if found else None

    def note_block(self, index: int, digest: bytes) -> None:
        """Add a block that the service has confirmed.

        It outlives this process at once, but a power cut only when the next event is noted: then it is sent again.
        """
        self._write(b'[%d,"%b"]\n' % (index, b64encode(digest)))  # as json.dumps would, in a tenth of the time
        self._blocks[index] = digest

    def blocks(self) -> dict[int, bytes]:
        """The SHA-256 of each block that was confirmed since the last snapshot was begun."""
        return dict(self._blocks)

    def forget_blocks(self, kind: str, **values: Value) -> None:
        """Note an event after which no block counts any more: another snapshot is begun, or this one is gone."""
        self.note(kind, forget=True, **values)
        self._blocks.clear()

    def remove(self) -> None:
        """Close and remove it: all that it tells of is finished, or undone."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close it; it stays on the disk."""
        with suppress(OSError):
            os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        try:
            with self._lock:
                written = os.write(self._descriptor, line)
                if written < len(line):
                    os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
        except OSError as error:
            raise HostError(f"cannot be written: {error.strerror}", where=self.path) from error
        if written < len(line):
            raise HostError("cannot be written: the disk is full", where=self.path)


def _parse(path: Path, content: bytes) -> tuple[list[Event], dict[int, bytes]]:
    events: list[Event] = []
    blocks: dict[int, bytes] = {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        match said:
            case [int(index), str(digest)] if events:
                blocks[index] = b64decode(digest)
            case {"event": str(kind), **values} if events or (kind == "subject" and values.get("format") == _FORMAT):
                plain = {str(name): value for name, value in values.items() if isinstance(value, _PLAIN)}
                events.append(Event(kind=kind, values=plain))
                if values.get("forget"):
                    blocks.clear()
            case _:
                raise _damaged(path, number)
    if not events:
        raise _damaged(path, 1)
    return events, blocks


def _damaged(path: Path, line: int) -> HostError:
    fix = "look in the account for what the run before left, and remove this file"
    return HostError("is damaged, so what it tells of is not known", where=f"{path}:{line}", fix=fix)


@contextmanager
def _journal_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(f"cannot be read or written: {error.strerror}", where=path) from error
