import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from imagebuilder.errors import HostError
from imagebuilder.pki import (
    Authority,
    Impostor,
    ensure_credentials,
    make_expired,
    make_foreigner,
    make_revoked,
    open_authority,
)
from imagebuilder.secret import Secret

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    ensure_credentials(tmp_path / "pki", "squirrel", {"oneserver": "server", "worker": "client"}, NOW)
    return tmp_path / "pki"


@pytest.fixture
def authority(pki: Path) -> Authority:
    return open_authority(pki)


def verified(pki: Path, certificate: str, *, at: datetime = NOW, revocation_list: str | None = None) -> str:
    """What openssl says of a client's certificate at that time, as the VPN server has it check it."""
    scratch = pki.parent / "seen"
    scratch.mkdir(exist_ok=True)
    (scratch / "client.crt").write_text(certificate, encoding="utf-8")
    listed = revocation_list or (pki / "crl.pem").read_text(encoding="utf-8")
    (scratch / "crl.pem").write_text(listed, encoding="utf-8")
    command: list[str | Path] = [
        *("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-attime", str(int(at.timestamp()))),
        *("-crl_check", "-CRLfile", scratch / "crl.pem", "-CAfile", pki / "ca.crt", scratch / "client.crt"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def snapshot(directory: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def subject(impostor: Impostor) -> str:
    return x509.load_pem_x509_certificate(impostor.certificate.encode()).subject.rfc4514_string()


@needs_openssl
def test_a_worker_s_own_certificate_is_well(pki: Path) -> None:
    said = verified(pki, (pki / "issued/worker-1.crt").read_text(encoding="utf-8"))

    assert said.endswith("client.crt: OK\n")


@needs_openssl
def test_a_foreigner_is_refused_for_its_issuer_only(pki: Path) -> None:
    said = verified(pki, make_foreigner("squirrel", NOW).certificate)

    assert "unable to get local issuer certificate" in said
    assert said.count("error") == 2  # openssl says so once more at the end


@needs_openssl
def test_a_foreigner_s_issuer_has_the_name_of_ours(pki: Path) -> None:
    foreign = x509.load_pem_x509_certificate(make_foreigner("squirrel", NOW).certificate.encode())
    own = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())

    assert foreign.issuer == own.subject


@needs_openssl
def test_an_expired_one_is_refused_for_its_date_only(authority: Authority, pki: Path) -> None:
    certificate = make_expired(authority, NOW).certificate

    refused, earlier = verified(pki, certificate), verified(pki, certificate, at=NOW - 1.5 * DAY)

    assert "certificate has expired" in refused
    assert refused.count("error") == 2
    assert earlier.endswith("client.crt: OK\n")


@needs_openssl
def test_a_revoked_one_is_refused_by_its_list_only(authority: Authority, pki: Path) -> None:
    impostor, revocation_list = make_revoked(authority, NOW)

    refused = verified(pki, impostor.certificate, revocation_list=revocation_list)
    accepted = verified(pki, impostor.certificate)

    assert "certificate revoked" in refused
    assert refused.count("error") == 2
    assert accepted.endswith("client.crt: OK\n")


@needs_openssl
def test_the_list_that_revokes_an_impostor_does_not_revoke_anybody_else(authority: Authority, pki: Path) -> None:
    worker = (pki / "issued/worker-1.crt").read_text(encoding="utf-8")

    _, revocation_list = make_revoked(authority, NOW)

    assert verified(pki, worker, revocation_list=revocation_list).endswith("client.crt: OK\n")


def test_who_was_revoked_before_is_so_in_the_impostor_s_list_too(authority: Authority) -> None:
    authority.revoke("worker", now=NOW)

    impostor, text = make_revoked(authority, NOW + DAY)

    revoked = {entry.serial_number for entry in x509.load_pem_x509_crl(text.encode())}
    [worker] = authority.directory.read_index().all_of("worker")
    assert revoked == {worker.serial_number, impostor.serial_number}


def test_impostors_are_told_apart_by_name_and_serial_number(authority: Authority) -> None:
    impostors = [make_foreigner("squirrel", NOW), make_expired(authority, NOW), make_revoked(authority, NOW)[0]]

    assert [subject(one) for one in impostors] == [
        "CN=impostor-foreign,O=squirrel",
        "CN=impostor-expired,O=squirrel",
        "CN=impostor-revoked,O=squirrel",
    ]
    assert len({one.serial_number for one in impostors}) == 3


def test_an_impostor_has_the_key_of_its_certificate_and_does_not_show_it(authority: Authority) -> None:
    impostor = make_expired(authority, NOW)

    key = load_pem_private_key(impostor.key.reveal(), password=None)
    assert key.public_key() == x509.load_pem_x509_certificate(impostor.certificate.encode()).public_key()
    assert "PRIVATE" not in repr(impostor)


def test_nothing_of_an_impostor_is_kept(authority: Authority, pki: Path) -> None:
    before = snapshot(pki)

    make_foreigner("squirrel", NOW)
    make_expired(authority, NOW)
    make_revoked(authority, NOW)

    assert snapshot(pki) == before


def test_a_pki_that_may_not_be_written_has_impostors_too(pki: Path) -> None:
    authority = open_authority(pki, access="rehearse")

    impostor, _ = make_revoked(authority, NOW)

    assert impostor.name == "impostor-revoked"


def test_without_the_ca_s_key_there_are_foreigners_only(authority: Authority, pki: Path) -> None:
    (pki / "ca.key").rename(pki.parent / "elsewhere.key")

    assert make_foreigner("squirrel", NOW).name == "impostor-foreign"
    with pytest.raises(HostError, match=r"ca\.key"):
        make_expired(authority, NOW)
    with pytest.raises(HostError, match=r"ca\.key"):
        make_revoked(authority, NOW)


def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path) -> None:
    passphrase = Secret("correct horse")
    ensure_credentials(tmp_path, "squirrel", {"worker": "client"}, NOW, passphrase=passphrase)

    assert make_expired(open_authority(tmp_path, passphrase=passphrase), NOW).name == "impostor-expired"
    with pytest.raises(HostError, match="is encrypted"):
        make_expired(open_authority(tmp_path), NOW)
