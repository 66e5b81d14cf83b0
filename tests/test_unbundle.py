"""Damaged and forged bundles: each is refused in clear words, and nothing is written."""

import gzip
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner, Result

from imagebuilder.cli import app
from imagebuilder.ec2.ciphers import read_private_key
from imagebuilder.ec2.manifest import Part, parse_manifest, render_manifest, signed_bytes_of
from imagebuilder.ec2.sparse_tar import Member, Segment, header_of, trailer_of
from imagebuilder.ec2.unbundle import open_manifest, unbundle
from imagebuilder.errors import BuildError, HostError, UsageError
from imagebuilder.secret import Secret
from tests.bundles import KEY, MIB, Pair, make_bundle, pair, user
from tests.command import imgbuild


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a bundle of three parts; nobody changes it."""
    return make_bundle(tmp_path_factory.mktemp("bundle") / "whole").parent


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    """A directory with a copy of the bundle, to damage."""
    directory = tmp_path / "bundle"
    subprocess.run(["cp", "-a", "--reflink=auto", whole, directory], check=True)
    return directory


def open_it(directory: Path, owner: Pair | None = None, signer: Pair | None = None) -> None:
    key = (owner or user()).private
    opened = open_manifest(directory / "worker.manifest.xml", key, None if signer is None else signer.public)
    unbundle(opened, directory.parent / "image.raw")


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def swap_parts(directory: Path) -> None:
    first, second = directory / "worker.part.0", directory / "worker.part.1"
    first.rename(directory / "x")
    second.rename(first)
    (directory / "x").rename(second)


def edit(directory: Path, old: str, new: str) -> None:
    file = directory / "worker.manifest.xml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda d: flip(d / "worker.part.0", 0), r"worker\.part\.0: is damaged: its SHA-1"),
        (lambda d: flip(d / "worker.part.2", -1), r"worker\.part\.2: is damaged: its SHA-1"),
        (lambda d: (d / "worker.part.1").unlink(), r"worker\.part\.1: is missing"),
        (lambda d: (d / "worker.part.1").rename(d / "worker.part.9"), r"worker\.part\.1: is missing"),
        (swap_parts, r"worker\.part\.0: is damaged"),
        (lambda d: os.truncate(d / "worker.part.2", 100), "parts have 20971620 bytes together"),
        (lambda d: (d / "worker.part.3").write_bytes(b"x"), r"worker\.part\.3: is no part that the manifest lists"),
        (lambda d: edit(d, "<size>", "<size>1"), "signature is not by the owner"),
        (lambda d: edit(d, "x86_64", "i386"), "signature is not by the owner"),
        (lambda d: edit(d, "worker.part.0", "worker.part.00"), "signature is not by the owner"),
        (lambda d: edit(d, "<signature>", "<signature>00"), "signature is not by the owner"),
        (lambda d: os.truncate(d / "worker.manifest.xml", 1000), "is no manifest"),
    ],
)
def test_a_damaged_bundle_is_refused(bundle: Path, damage: Callable[[Path], object], what: str) -> None:
    damage(bundle)

    with pytest.raises(BuildError, match=what):
        open_it(bundle)

    assert list(bundle.parent.iterdir()) == [bundle]


def test_another_key_opens_nothing(bundle: Path) -> None:
    with pytest.raises(BuildError, match="signature is not by the owner of this key"):
        open_it(bundle, owner=pair("stranger"))
    with pytest.raises(BuildError, match="is encrypted for another key"):
        open_it(bundle, owner=pair("stranger"), signer=user())
    with pytest.raises(BuildError, match="signature is not by the owner of this key"):
        open_it(bundle, signer=pair("stranger"))


def test_an_image_is_never_overwritten(bundle: Path) -> None:
    (bundle.parent / "image.raw").write_bytes(b"mine")

    with pytest.raises(UsageError, match="is there already"):
        open_it(bundle)

    assert (bundle.parent / "image.raw").read_bytes() == b"mine"


def sign_anew(
    directory: Path,
    payload: bytes,
    *,
    tar_sha1: str = "0" * 40,
    size_bytes: int = MIB,
    padding: bytes = b"\x10" * 16,
) -> None:
    """Put `payload`, of whole blocks of AES, into the bundle, with a manifest of its owner that says so."""
    key, iv = (bytes.fromhex(secret.reveal().decode()) for secret in (KEY.key, KEY.iv))
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    content = encryptor.update(payload + padding) + encryptor.finalize()
    file = directory / "worker.manifest.xml"
    manifest = replace(
        parse_manifest(file.read_bytes()).manifest,
        bundled_bytes=len(content),
        parts=(Part(file_name="worker.part.0", sha1=hashlib.sha1(content, usedforsecurity=False).hexdigest()),),
        tar_sha1=tar_sha1,
        size_bytes=size_bytes,
    )
    for part in directory.glob("worker.part.*"):
        part.unlink()
    (directory / "worker.part.0").write_bytes(content)
    signature = user().private.sign(signed_bytes_of(manifest))
    file.write_bytes(render_manifest(manifest, signature=signature, bundler=("forger", "1")))


def archive(*, size_bytes: int = MIB) -> bytes:
    stream = header_of(Member(name="w", size_bytes=size_bytes, segments=(Segment(start=0, length=4096),)))
    stream += b"b" * 4096
    return stream + trailer_of(len(stream))


def zipped(stream: bytes) -> bytes:
    """`stream` as gzip data of a whole number of AES's blocks; a file name in its header makes up for the rest."""
    member = gzip.compress(stream, mtime=0)
    name = b"n" * (-(len(member) + 1) % 16) + b"\0"
    return member[:3] + b"\x08" + member[4:10] + name + member[10:]


@pytest.mark.parametrize(
    ("payload", "size_bytes", "what"),
    [
        (zipped(archive()), MIB, "archive in it is damaged: its SHA-1"),
        (zipped(archive()), 2 * MIB, "image in it has 1048576 bytes, not the 2097152 of the manifest"),
        (zipped(archive())[:-16], MIB, "gzip data without an end"),
        (zipped(archive()) + bytes(16), MIB, "goes on behind the end of its gzip data"),
        (zipped(archive()[:3000]), MIB, "archive in it ends too early"),
        (zipped(archive()[: 512 + 4096]), MIB, "archive in it has no end"),
        (zipped(archive() + archive()), MIB, "goes on behind the image"),
        (zipped(archive() + bytes(2 * MIB)), MIB, "goes on behind the image"),
        (zipped(b"no tar" * 1000), MIB, "is no tar archive"),
        (b"no gzip data at " * 16, MIB, "damaged gzip data"),
    ],
)
def test_wrong_data_under_a_right_signature_is_refused(
    bundle: Path, payload: bytes, size_bytes: int, what: str
) -> None:
    sign_anew(bundle, payload, size_bytes=size_bytes)

    with pytest.raises(BuildError, match=what):
        open_it(bundle)

    assert list(bundle.parent.iterdir()) == [bundle]


def test_data_that_does_not_end_as_encrypted_data_is_refused(bundle: Path) -> None:
    sign_anew(bundle, zipped(archive()), padding=b"\x11" * 16)

    with pytest.raises(BuildError, match="does not end as encrypted data does"):
        open_it(bundle)


def test_a_right_bundle_by_another_hand_is_opened(bundle: Path) -> None:
    sign_anew(bundle, zipped(archive()), tar_sha1=hashlib.sha1(archive(), usedforsecurity=False).hexdigest())

    open_it(bundle)

    assert (bundle.parent / "image.raw").read_bytes() == b"b" * 4096 + bytes(MIB - 4096)


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["unbundle", *map(str, words)], catch_exceptions=False)


def test_the_command_gives_the_image_back(whole: Path, tmp_path: Path) -> None:
    words = (whole / "worker.manifest.xml", "--key", user().key, "-o", tmp_path / "w.raw")

    dry = command(*words, "-n")
    was_written = (tmp_path / "w.raw").exists()
    done = command(*words, "--cert", user().certificate, "--json")

    assert (dry.stdout, was_written) == ("", False)
    assert dry.stderr == f"imgbuild: would open 3 parts and write {tmp_path}/w.raw\n"
    assert json.loads(done.stdout)["image"] == f"{tmp_path}/w.raw"
    assert (tmp_path / "w.raw").read_bytes() == whole.with_suffix(".raw").read_bytes()


def test_the_command_opens_an_encrypted_key(whole: Path, tmp_path: Path) -> None:
    passphrase, key = encrypted_key(tmp_path)

    done = command(whole / "worker.manifest.xml", "-n", "--key", key, "--key-passphrase-file", passphrase)

    assert done.exit_code == 0


def test_the_command_says_what_is_wrong_and_where(bundle: Path, tmp_path: Path) -> None:
    flip(bundle / "worker.part.1", 5)
    words = (str(bundle / "worker.manifest.xml"), "--key", str(user().key), "-o", str(tmp_path / "w.raw"))

    done = imgbuild(tmp_path, "unbundle", *words)

    assert (done.code, done.out) == (5, "")
    assert f"{bundle}/worker.part.1: is damaged: its SHA-1 is not the one in the manifest\n  fix: fetch" in done.err


def private_file(path: Path, content: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(content)
    return path


def encrypted_key(directory: Path) -> tuple[Path, Path]:
    """A file with a passphrase, and the user's key, encrypted with it."""
    passphrase, key = private_file(directory / "passphrase", "sesame-4711\n"), private_file(directory / "user.key", "")
    encrypt: list[str | Path] = ["openssl", "pkey", "-in", user().key, "-aes256", "-passout", f"file:{passphrase}"]
    subprocess.run([*encrypt, "-out", key], check=True)
    return passphrase, key


def test_an_encrypted_key_wants_its_passphrase(tmp_path: Path) -> None:
    _, key = encrypted_key(tmp_path)

    with pytest.raises(HostError, match="is encrypted\n  fix: name a file with its passphrase"):
        read_private_key(key)
    with pytest.raises(HostError, match="is not a key that this passphrase opens") as refused:
        read_private_key(key, Secret("wrong-0815"))
    with pytest.raises(HostError, match="is not encrypted, but a passphrase is given"):
        read_private_key(user().key, Secret("wrong-0815"))

    assert "0815" not in str(refused.value)


def test_only_rsa_keys_will_do() -> None:
    elliptic = pair("elliptic", "ec -pkeyopt ec_paramgen_curve:P-256")

    with pytest.raises(HostError, match="is not an RSA key"):
        elliptic.private  # noqa: B018
    with pytest.raises(HostError, match="is not a certificate of an RSA key"):
        elliptic.public  # noqa: B018


def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = private_file(tmp_path / "user.key", "-----BEGIN PRIVATE KEY-----\nsecret-4711\n-----END PRIVATE KEY-----\n")

    with pytest.raises(HostError, match="is not a private key in PEM") as refused:
        replace(user(), key=file).private  # noqa: B018

    assert "4711" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    key = private_file(tmp_path / "user.key", user().key.read_text())
    key.chmod(0o640)

    with pytest.raises(HostError, match=re.escape(f"others may read this secret (mode 0640)\n  fix: chmod 600 {key}")):
        replace(user(), key=key).private  # noqa: B018


def test_a_key_and_a_certificate_must_belong_together() -> None:
    with pytest.raises(HostError, match="does not belong to the certificate"):
        replace(user(), certificate=pair("stranger").certificate).private  # noqa: B018


def test_a_certificate_that_has_expired_will_do(tmp_path: Path) -> None:
    key, name = user().private.rsa, x509.Name([])
    builder = x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key(), serial_number=1)
    dated = builder.not_valid_before(datetime(2010, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2011, 1, 1, tzinfo=UTC))
    (tmp_path / "old.crt").write_bytes(dated.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))

    expired = replace(user(), certificate=tmp_path / "old.crt")

    assert expired.public == user().public
