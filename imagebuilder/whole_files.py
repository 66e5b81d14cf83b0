"""Files that are there whole or not at all, whatever ends the program or the power; and locks that end with it."""

import fcntl
import os
from pathlib import Path
from typing import Literal


def write_whole(
    path: Path, content: bytes, *, mode: int = 0o644, survives: Literal["kill", "power cut"] = "power cut"
) -> None:
    """Put a file in the place of another, or of none, in one step. `mode` is the file's from its first byte on.

    What is to survive only a kill of this program need not wait for the disk.
    Two at once must not write the same file. Raises OSError, and then leaves what was there.
    """
    new = path.with_name(f".{path.name}.new")  # no pattern such as *.json finds it
    new.unlink(missing_ok=True)  # left by a run that was killed
    # The mode is given at creation: a chmod afterwards would leave a moment in which others could open it.
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            if survives == "power cut":
                stream.flush()
                os.fsync(stream.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    if survives == "power cut":
        flush(path.parent)


def flush(path: Path) -> None:
    """Have the disk keep what was written to a file, or the names that a directory has now."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock file at `path`; one that is not there is not locked."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
