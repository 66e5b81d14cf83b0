"""Where a rehearsal runs in the store, what it leaves there, and how that goes away again.

    rehearsals/ID/    holder.json, disks, sockets, captures, serial logs; gone when the rehearsal ends

A rehearsal that was killed took its guests with it, but not its directory: the next one sweeps. One that was kept
runs on, with its holder; so a directory is swept only if neither its lock nor its holder is alive.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from imagebuilder.image.store import Store
from imagebuilder.rehearse.networks import Holder
from imagebuilder.whole_files import is_locked

HOLDER = "holder.json"
_LOCK = ".lock"


@dataclass(frozen=True, kw_only=True)
class KeptRehearsal:
    """A rehearsal that runs on by itself."""

    directory: Path
    holder: Holder

    def consoles(self) -> Iterator[Path]:
        """The sockets of its guests' serial consoles."""
        yield from sorted(self.directory.glob("*.console"))


@contextmanager
def new_directory(store: Store) -> Iterator[Path]:
    """A directory for one rehearsal, gone after the block unless the rehearsal is kept; sweeps dead ones first."""
    parent = _parent(store)
    # So that nobody sweeps the new directory before it is locked.
    with store.locked([parent], on_wait=lambda _: None):
        sweep(store)
        directory = Path(mkdtemp(prefix="", dir=parent))
        descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield directory
    finally:
        os.close(descriptor)
        if _holder(directory) is None:
            shutil.rmtree(directory, ignore_errors=True)


def kept_rehearsals(store: Store) -> Iterator[KeptRehearsal]:
    """The rehearsals that run on by themselves: their holder lives, and nobody works with them."""
    for directory in sorted(_parent(store).glob("*/")):
        holder = _holder(directory)
        if holder is not None and not is_locked(directory / _LOCK):
            yield KeptRehearsal(directory=directory, holder=holder)


def newest_kept(store: Store) -> KeptRehearsal | None:
    """Of the rehearsals that run on by themselves the one that was started last."""
    return max(kept_rehearsals(store), key=lambda kept: (kept.directory / HOLDER).stat().st_mtime, default=None)


def end_kept(kept: KeptRehearsal) -> None:
    """End a kept rehearsal: its guests, its networks, and its directory."""
    kept.holder.end()
    shutil.rmtree(kept.directory, ignore_errors=True)


def sweep(store: Store) -> None:
    """Remove what rehearsals left that were killed."""
    for directory in _parent(store).glob("*/"):
        if _holder(directory) is None and not is_locked(directory / _LOCK):
            shutil.rmtree(directory, ignore_errors=True)


def _parent(store: Store) -> Path:
    return store.root / "rehearsals"


def _holder(directory: Path) -> Holder | None:
    """The holder that is noted in `directory`, if it lives."""
    try:
        holder = Holder.from_json((directory / HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return holder if holder.is_alive() else None
