"""Small images and what bundles are made with; keys are made once a run."""

import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from imagebuilder.ec2.bundle import Bundle, BundleRequest, write_bundle
from imagebuilder.ec2.bundle_directory import Existing, open_bundle_directory
from imagebuilder.ec2.ciphers import BundleKey, PrivateKey, PublicKey, read_certificate, read_pair
from imagebuilder.ec2.gzip_member import Effort
from imagebuilder.image.disk_reader import DiskReader, Extent
from imagebuilder.secret import Secret

MIB = 1 << 20
ACCOUNT = "123456789012"
KEY = BundleKey(key=Secret("00112233445566778899aabbccddeeff"), iv=Secret("0f1e2d3c4b5a69788796a5b4c3d2e1f0"))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The files of a key and its certificate."""

    key: Path
    certificate: Path

    @property
    def private(self) -> PrivateKey:
        return read_pair(certificate=self.certificate, key=self.key)

    @property
    def public(self) -> PublicKey:
        return read_certificate(self.certificate)


@cache
def pair(name: str, kind: str = "rsa:2048") -> Pair:
    """A self-signed certificate and its key, as a user makes them; the same name is the same pair in one run."""
    directory = Path(mkdtemp(prefix="imgbuild-test-keys-"))
    made = Pair(key=directory / f"{name}.key", certificate=directory / f"{name}.crt")
    files: list[str | Path] = ["-keyout", made.key, "-out", made.certificate]
    what: list[str | Path] = ["-x509", "-newkey", *kind.split(" "), "-nodes", "-subj", f"/CN={name}"]
    subprocess.run(["openssl", "req", *what, *files], check=True, capture_output=True)
    return made


def user() -> Pair:
    return pair("user")


def ec2() -> Pair:
    return pair("ec2", "rsa:1024")  # as EC2's own


def noise(length: int, seed: int = 1) -> bytes:
    """Bytes that cannot be compressed."""
    return random.Random(seed).randbytes(length)


@contextmanager
def disk_of(file: Path, size_bytes: int, pieces: Sequence[tuple[int, bytes]]) -> Iterator[DiskReader]:
    """A disk that has `pieces` at their offsets and holes elsewhere; `file` holds it as a raw image."""
    with file.open("wb+") as stream:
        for start, content in pieces:
            stream.seek(start)
            stream.write(content)
        stream.truncate(size_bytes)
        stream.flush()
        extents = [Extent(start=start, length=len(content), file=0, offset=start) for start, content in pieces]
        yield DiskReader(size_bytes=size_bytes, extents=extents, descriptors=[stream.fileno()])


def request(
    *, name: str = "worker", effort: Effort = "fast", key: BundleKey = KEY, account: str = ACCOUNT
) -> BundleRequest:
    return BundleRequest(name=name, user=account, owner=user().private, ec2=ec2().public, effort=effort, key=key)


def bundle_into(directory: Path, disk: DiskReader, asked: BundleRequest, existing: Existing = "refuse") -> Bundle:
    with open_bundle_directory(directory, asked.name, existing=existing) as sink:
        return write_bundle(disk, asked, sink)


def make_bundle(directory: Path) -> Path:
    """A bundle of three parts in `directory`; the manifest's path. The image is `directory`.raw."""
    pieces = [(0, b"boot" * 1000), (5 * MIB, noise(22 * MIB)), (40 * MIB, b"end")]
    with disk_of(directory.with_suffix(".raw"), 41 * MIB + 512, pieces) as disk:
        bundle = bundle_into(directory, disk, request())
    return directory / bundle.manifest_file
