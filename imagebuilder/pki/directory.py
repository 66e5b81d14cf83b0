"""The PKI directory: private files, each replaced as a whole, and the index that says which of them count."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from imagebuilder.errors import HostError
from imagebuilder.pki.index import Index
from imagebuilder.secret import Secret
from imagebuilder.whole_files import flush, write_whole

DEFAULT_DIRECTORY = Path("secrets/pki")  # below the site directory

CA_CERTIFICATE = "ca.crt"
CA_KEY = "ca.key"
REVOCATION_LIST = "crl.pem"
TLS_CRYPT_KEY = "tls-crypt.key"
INDEX = "index.json"

Access = Literal["write", "rehearse"]

_OTHERS = 0o077


@dataclass(frozen=True, kw_only=True)
class PkiDirectory:
    """The files at `path` (absolute). With access "rehearse" everything is computed and nothing is written.

    A file that counts is never changed, only replaced by a whole one; a reader therefore needs no lock.
    """

    path: Path
    access: Access = "write"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other writer out; it waits. The lock lies beside the directory, to cover its creation too."""
        if self.access == "rehearse":
            yield
            return
        beside = self.path.with_name(f"{self.path.name}.lock")
        with _told_of(beside):
            beside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def holds_anything(self) -> bool:
        """Whether there is a file, or anything in the directory."""
        with _told_of(self.path):
            return self.path.exists() and not (self.path.is_dir() and next(self.path.iterdir(), None) is None)

    def create(self, files: Mapping[str, bytes | Secret]) -> None:
        """Make the directory with `files` in it, all or nothing; call it under the lock."""
        if self.access == "rehearse":
            return
        partial = PkiDirectory(path=self.path.with_name(f"{self.path.name}.partial"))
        with _told_of(self.path):
            with suppress(FileNotFoundError):
                shutil.rmtree(partial.path)
            partial.path.mkdir(mode=0o700)
            (partial.path / "issued").mkdir(mode=0o700)
        # Before the first key: no key may ever be taken into a repository by `git add .`
        partial.write({".gitignore": b"*\n", **files})
        with _told_of(self.path):
            partial.path.rename(self.path)
            flush(self.path.parent)

    def write(self, files: Mapping[str, bytes | Secret]) -> None:
        """Replace each of `files` as a whole, in their order: the one that makes the others count comes last."""
        if self.access == "rehearse":
            return
        for name, content in files.items():
            with _told_of(self.path / name):
                text = content.reveal() if isinstance(content, Secret) else content
                write_whole(self.path / name, text, mode=0o600)

    def read(self, name: str, *, if_missing: str) -> bytes:
        """The bytes of a file; `if_missing` is the fix to name if there is none."""
        with _told_of(self.path / name, if_missing=if_missing):
            return (self.path / name).read_bytes()

    def read_secret(self, name: str, *, if_missing: str) -> Secret:
        """The bytes of a file that only its owner may read: HostError if others may."""
        return read_private(self.path / name, if_missing=if_missing)

    def read_index(self) -> Index:
        """The index; HostError if it is missing or was changed by hand."""
        restore = f"restore {INDEX} from a backup"
        text = self.read(INDEX, if_missing=restore)
        try:
            return Index.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(map(str, first["loc"]))
            raise HostError(f"{at or 'the file'}: {first['msg']}", where=self.path / INDEX, fix=restore) from error


def read_passphrase(path: Path) -> Secret:
    """The passphrase of a key: the first line of `path`, which only its owner may read."""
    text = read_private(path, if_missing="write the passphrase into it, mode 0600").reveal()
    first, _, _ = text.partition(b"\n")
    if not first.strip():
        raise HostError("the first line is empty", where=path, fix="write the passphrase into it")
    return Secret(first.rstrip(b"\r"))


def read_private(path: Path, *, if_missing: str) -> Secret:
    """The bytes of a file that only its owner may read: HostError if others may; `if_missing` is the fix to name."""
    with _told_of(path, if_missing=if_missing), path.open("rb") as stream:
        mode = os.fstat(stream.fileno()).st_mode & 0o777
        if mode & _OTHERS:
            raise HostError(f"others may read this secret (mode {mode:04o})", where=path, fix=f"chmod 600 {path}")
        return Secret(stream.read())


@contextmanager
def _told_of(path: Path, *, if_missing: str | None = None) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise HostError("is missing", where=path, fix=if_missing) from error
    except OSError as error:
        raise HostError(error.strerror or "cannot be used", where=path) from error
