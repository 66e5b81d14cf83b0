"""A directory as the place of a bundle: whole under its names, or not there."""

import errno
import fcntl
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal

from imagebuilder.ec2.manifest import manifest_name
from imagebuilder.errors import HostError, UsageError
from imagebuilder.whole_files import flush

_NEW = ".new-bundle-"
_PAGE = 4096  # what a write past the page cache begins and ends at

Existing = Literal["refuse", "replace"]


class BundleDirectory:
    """Takes a bundle; made by `open_bundle_directory`."""

    def __init__(self, directory: Path, name: str, scratch: Path) -> None:
        self._directory = directory
        self._name = name
        self._scratch = scratch

    def take(self, index: int, content: memoryview, sha1: str) -> None:  # noqa: ARG002 - a PartSink
        """Write part `index`."""
        _write(self._scratch / str(index), content)

    def finish(self, names: tuple[str, ...], manifest_file: str, manifest: bytes) -> None:
        """Rename all into place, the manifest last; without it nothing there is taken for a bundle."""
        _write(self._scratch / manifest_file, memoryview(manifest))
        moved: list[Path] = []
        with _told_of(self._directory):
            for file in self._scratch.iterdir():
                flush(file)
            for old in files_of_bundle(self._directory, self._name):  # the manifest sorts first
                old.unlink()
            try:
                for index, name in enumerate(names):
                    moved.append(self._directory / name)
                    (self._scratch / str(index)).rename(moved[-1])
                moved.append(self._directory / manifest_file)
                (self._scratch / manifest_file).rename(moved[-1])
            except BaseException:
                for file in moved:
                    file.unlink(missing_ok=True)
                raise
            flush(self._directory)


@contextmanager
def open_bundle_directory(directory: Path, name: str, *, existing: Existing = "refuse") -> Iterator[BundleDirectory]:
    """A sink (see `PartSink`) for the bundle `name`; until it is whole, all lies in a hidden directory within.

    Bundles of other names stay. Raises UsageError if there are files of a bundle of this name and they are not to be
    replaced, or if another process writes there now; HostError for what the file system refuses.
    """
    with _told_of(directory):
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor, directory)
        if existing == "refuse" and (there := files_of_bundle(directory, name)):
            fix = "choose another directory or name, or have it replaced"
            raise UsageError(f"has a bundle of this name: {there[0].name}", where=directory, fix=fix)
        with _told_of(directory):
            for leaving in directory.glob(f"{_NEW}*"):  # of a run that was killed: we have the lock
                shutil.rmtree(leaving)
            scratch = Path(mkdtemp(prefix=_NEW, dir=directory))
        try:
            yield BundleDirectory(directory, name, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        os.close(descriptor)


def files_of_bundle(directory: Path, name: str) -> list[Path]:
    """The manifest and the parts of the bundle `name` in `directory`, whole or not; sorted."""
    pattern = re.compile(rf"{re.escape(manifest_name(name))}|{re.escape(name)}\.part\.[0-9]+")
    return sorted(file for file in directory.iterdir() if pattern.fullmatch(file.name)) if directory.is_dir() else []


def _lock(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        fix = "wait for it, or choose another directory"
        raise UsageError("another run is writing a bundle here", where=directory, fix=fix) from error


def _write(path: Path, content: memoryview) -> None:
    """Write past the page cache where the file system can, and `content` lies at the beginning of a page.

    Nobody reads a part soon, and to find pages for it and copy it there costs up to a third of what a bundle does.
    """
    whole = len(content) // _PAGE * _PAGE
    with _told_of(path.parent.parent), path.open("xb", buffering=0) as stream:
        flags = fcntl.fcntl(stream, fcntl.F_GETFL)
        try:
            fcntl.fcntl(stream, fcntl.F_SETFL, flags | os.O_DIRECT)
            _write_fully(stream, content[:whole])
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            whole = 0
        fcntl.fcntl(stream, fcntl.F_SETFL, flags)
        stream.seek(whole)
        _write_fully(stream, content[whole:])


def _write_fully(stream: io.FileIO, content: memoryview) -> None:
    while content:
        content = content[stream.write(content) :]


@contextmanager
def _told_of(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fix = "make room, or choose another directory"
        raise HostError(f"cannot be written: {error.strerror}", where=directory, fix=fix) from error
