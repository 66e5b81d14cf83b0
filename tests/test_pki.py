import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imagebuilder.errors import HostError, UsageError
from imagebuilder.pki import (
    Authority,
    Purpose,
    State,
    ensure_credentials,
    init_authority,
    list_troubles,
    open_authority,
    read_passphrase,
)
from imagebuilder.secret import Secret

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NEEDS: dict[str, Purpose] = {"oneserver": "server", "worker": "client"}
OPENSSL = shutil.which("openssl")

needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    ensure_credentials(tmp_path / "pki", "cluster", NEEDS, NOW)
    return tmp_path / "pki"


@pytest.fixture
def authority(pki: Path) -> Authority:
    return open_authority(pki)


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def openssl(*words: str | Path, text: str = "") -> str:
    done = subprocess.run(["openssl", *words], input=text, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def states(authority: Authority, now: datetime = NOW) -> list[tuple[str, State, bool]]:
    return [(row.name, row.state, row.superseded) for row in authority.status(now)][2:]


# What other programs make of it


@needs_openssl
@pytest.mark.parametrize(
    ("name", "purpose", "verdict"),
    [
        ("oneserver", "sslserver", "OK"),
        ("oneserver", "sslclient", "unsuitable certificate purpose"),
        ("worker", "sslclient", "OK"),
        ("worker", "sslserver", "unsuitable certificate purpose"),
    ],
)
def test_openssl_accepts_a_certificate_for_its_own_purpose_only(
    pki: Path, name: str, purpose: str, verdict: str
) -> None:
    certificate, at = pki / f"issued/{name}-1.crt", str(int(NOW.timestamp()))

    said = openssl("verify", "-x509_strict", "-attime", at, "-CAfile", pki / "ca.crt", "-purpose", purpose, certificate)

    assert verdict in said


@needs_openssl
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("ca.crt", "X509v3 Basic Constraints: critical CA:TRUE, pathlen:0"),
        ("ca.crt", "X509v3 Key Usage: critical Certificate Sign, CRL Sign"),
        ("ca.crt", "Not Before: Feb 27 12:00:00 2026 GMT Not After : Feb 27 12:00:00 2036 GMT"),
        ("issued/worker-1.crt", "X509v3 Basic Constraints: critical CA:FALSE"),
        ("issued/worker-1.crt", "X509v3 Key Usage: critical Digital Signature"),
        ("issued/worker-1.crt", "X509v3 Extended Key Usage: TLS Web Client Authentication X509v3"),
        ("issued/worker-1.crt", "X509v3 Subject Alternative Name: DNS:worker"),
        ("issued/worker-1.crt", "X509v3 Authority Key Identifier:"),
        ("issued/worker-1.crt", "X509v3 Subject Key Identifier:"),
        ("issued/worker-1.crt", "Subject: O = cluster, CN = worker"),
        ("issued/worker-1.crt", "Signature Algorithm: ecdsa-with-SHA256"),
        ("issued/worker-1.crt", "NIST CURVE: P-256"),
        ("issued/worker-1.crt", "Not Before: Feb 27 12:00:00 2026 GMT Not After : Feb 28 12:00:00 2029 GMT"),
        ("issued/oneserver-1.crt", "X509v3 Extended Key Usage: TLS Web Server Authentication X509v3"),
    ],
)
def test_a_certificate_says(pki: Path, file: str, expected: str) -> None:
    text = openssl("x509", "-in", pki / file, "-noout", "-text")

    assert expected in " ".join(text.split())


@needs_openssl
def test_openssl_refuses_a_revoked_certificate_by_the_new_list(authority: Authority, pki: Path) -> None:
    at = str(int(NOW.timestamp()))
    check = ("verify", "-attime", at, "-crl_check_all", "-CAfile", pki / "ca.crt", "-CRLfile", pki / "crl.pem")

    before = openssl(*check, pki / "issued/worker-1.crt")
    authority.revoke("worker", now=NOW)
    after = openssl(*check, pki / "issued/worker-1.crt")

    assert "OK" in before
    assert "certificate revoked" in after
    assert "OK" in openssl(*check, pki / "issued/oneserver-1.crt")


@needs_openssl
def test_a_revocation_list_is_numbered_backdated_and_lasts_as_long_as_the_ca(authority: Authority, pki: Path) -> None:
    authority.revoke("worker", now=NOW)

    text = " ".join(openssl("crl", "-in", pki / "crl.pem", "-CAfile", pki / "ca.crt", "-noout", "-text").split())

    assert "verify OK" in text
    assert "X509v3 CRL Number: 2 " in text
    assert "Last Update: Feb 27 12:00:00 2026 GMT Next Update: Feb 27 12:00:00 2036 GMT" in text
    assert "Revocation Date: Mar 1 12:00:00 2026 GMT" in text


@needs_openssl
def test_all_keys_are_on_the_curve_of_the_ca(tmp_path: Path) -> None:
    authority = init_authority(tmp_path / "pki", "cluster", now=NOW, curve="P-384")

    authority.issue("oneserver", "server", now=NOW)

    assert "secp384r1" in openssl("pkey", "-in", tmp_path / "pki/ca.key", "-noout", "-text")
    assert "secp384r1" in openssl("pkey", "-in", tmp_path / "pki/issued/oneserver-1.key", "-noout", "-text")


# The directory


@pytest.mark.usefixtures("open_umask")
def test_nothing_is_open_to_others_whatever_the_umask(tmp_path: Path) -> None:
    ensure_credentials(tmp_path / "secrets/pki", "cluster", NEEDS, NOW)

    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").rglob("*") if path.is_file()}

    assert modes == {0o600}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secrets/pki").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secrets/pki/issued").stat().st_mode & 0o777 == 0o700


def test_no_key_can_get_into_a_repository_by_accident(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    ensure_credentials(tmp_path / "pki", "cluster", NEEDS, NOW)

    shown = subprocess.run(
        ["git", "-C", tmp_path, "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True
    ).stdout

    assert shown == "?? pki.lock\n"


def test_the_key_of_a_ca_is_never_overwritten(pki: Path) -> None:
    before = snapshot(pki)

    with pytest.raises(UsageError, match="a CA is never overwritten"):
        init_authority(pki, "cluster", now=NOW)

    assert snapshot(pki) == before


def test_ensuring_credentials_again_changes_nothing(pki: Path) -> None:
    before = snapshot(pki)

    ensure_credentials(pki, "cluster", NEEDS, NOW + 30 * DAY)

    assert snapshot(pki) == before


def test_ensuring_credentials_adds_what_is_missing(pki: Path) -> None:
    before = snapshot(pki)

    ensure_credentials(pki, "cluster", {**NEEDS, "laptop": "client"}, NOW)

    assert snapshot(pki).keys() - before.keys() == {"issued/laptop-1.crt", "issued/laptop-1.key"}


def test_a_name_is_not_used_for_both_ends(pki: Path) -> None:
    needs: dict[str, Purpose] = {"worker": "server"}

    with pytest.raises(HostError, match="worker is needed as server, but has a client certificate"):
        ensure_credentials(pki, "cluster", needs, NOW)


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    needs: list[dict[str, Purpose]] = [{f"client{number}": "client"} for number in range(8)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda need: ensure_credentials(tmp_path / "pki", "cluster", need, NOW), needs))

    names = [name for name, _, _ in states(open_authority(tmp_path / "pki"))]
    assert names == [f"client{number}" for number in range(8)]


@pytest.mark.parametrize("survived", range(5))
def test_a_renewal_that_is_killed_leaves_the_old_or_the_new_state(
    authority: Authority, survived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_before_rename(survived, monkeypatch):
        authority.renew("worker", now=NOW, superseded="revoke")

    left = states(authority)
    authority.vpn_credentials("worker")
    authority.renew("worker", now=NOW, superseded="revoke")

    assert left in (
        [("oneserver", "valid", False), ("worker", "valid", False)],
        [("oneserver", "valid", False), ("worker", "valid", False), ("worker", "valid", True)],
        [("oneserver", "valid", False), ("worker", "valid", False), ("worker", "revoked", True)],
    )
    assert {state for name, state, superseded in states(authority) if superseded} == {"revoked"}
    assert list(authority.directory.path.rglob(".*.new")) == []


@pytest.mark.parametrize("survived", range(7))
def test_an_init_that_is_killed_leaves_nothing_or_a_whole_ca(
    tmp_path: Path, survived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_before_rename(survived, monkeypatch):
        init_authority(tmp_path / "pki", "cluster", now=NOW)

    ensure_credentials(tmp_path / "pki", "cluster", NEEDS, NOW)

    assert states(open_authority(tmp_path / "pki")) == [("oneserver", "valid", False), ("worker", "valid", False)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pki", "pki.lock"]


class Killed(BaseException):
    pass


@contextmanager
def killed_before_rename(survived: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    renames = 0

    def rename(real: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def counted(source: Path, target: Path) -> Path:
            nonlocal renames
            renames += 1
            if renames > survived:
                raise Killed
            return real(source, target)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", rename(Path.replace))
        patch.setattr(Path, "rename", rename(Path.rename))
        with suppress(Killed):
            yield


# The life of a certificate


def test_a_renewed_certificate_has_a_new_key_and_serial_and_the_old_one_stays_good(authority: Authority) -> None:
    before = authority.vpn_credentials("worker")

    renewed = authority.renew("worker", now=NOW + DAY)

    after = authority.vpn_credentials("worker")
    assert renewed.purpose == "client"
    assert before.key != after.key
    assert before.crl == after.crl
    assert states(authority, NOW + DAY)[1:] == [("worker", "valid", False), ("worker", "valid", True)]


def test_a_superseded_certificate_can_be_revoked_with_its_renewal(authority: Authority) -> None:
    authority.renew("worker", now=NOW, superseded="revoke")

    assert states(authority)[1:] == [("worker", "valid", False), ("worker", "revoked", True)]


def test_a_superseded_certificate_can_be_revoked_later(authority: Authority) -> None:
    authority.renew("worker", now=NOW)

    revoked = authority.revoke("worker", now=NOW, which="superseded")

    assert [entry.generation for entry in revoked] == [1]
    assert states(authority)[1:] == [("worker", "valid", False), ("worker", "revoked", True)]


def test_revoking_a_name_revokes_all_it_ever_got(authority: Authority) -> None:
    authority.renew("worker", now=NOW)

    revoked = authority.revoke("worker", now=NOW)

    assert [entry.generation for entry in revoked] == [1, 2]
    assert states(authority)[1:] == [("worker", "revoked", False), ("worker", "revoked", True)]


def test_a_revocation_is_kept_by_the_next_one(authority: Authority) -> None:
    authority.revoke("worker", now=NOW)

    authority.revoke("oneserver", now=NOW)

    assert states(authority) == [("oneserver", "revoked", False), ("worker", "revoked", False)]


@pytest.mark.parametrize("which", ["all", "superseded"])
def test_revoking_what_is_revoked_says_so_and_makes_no_new_list(authority: Authority, pki: Path, which: str) -> None:
    authority.revoke("worker", now=NOW)
    before = snapshot(pki)

    with pytest.raises(UsageError, match="that is not revoked already"):
        authority.revoke("worker", now=NOW, which="superseded" if which == "superseded" else "all")

    assert snapshot(pki) == before


def test_an_image_never_gets_a_revoked_certificate(authority: Authority) -> None:
    authority.revoke("worker", now=NOW)

    with pytest.raises(HostError, match=r"is revoked\n  fix: imgbuild pki renew worker"):
        authority.vpn_credentials("worker")


def test_a_certificate_never_outlives_its_ca(tmp_path: Path) -> None:
    authority = init_authority(tmp_path / "pki", "cluster", now=NOW, days=100)

    issued = authority.issue("oneserver", "server", now=NOW)

    assert issued.not_after == NOW + 100 * DAY
    with pytest.raises(UsageError, match=r"would outlive the CA.*\n.*at most 100 days"):
        authority.issue("worker", "client", now=NOW, days=101)


def test_an_expired_ca_signs_nothing(authority: Authority) -> None:
    with pytest.raises(HostError, match=r"the CA expired on 2036-02-27\n  fix: move the PKI directory away"):
        authority.renew("worker", now=NOW + 3651 * DAY)


@pytest.mark.parametrize(
    "name", ["", "-worker", "worker-", "Worker", "a/b", "..", "a..b", "work_er", "a" * 65, "wörker", "worker\n"]
)
def test_a_name_that_is_no_host_name_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(UsageError, match="is no host name"):
        authority.issue(name, "client", now=NOW)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (lambda ca: ca.issue("worker", "client", now=NOW), "worker has a client certificate already"),
        (lambda ca: ca.renew("werker", now=NOW), r"no certificate was issued to werker. Did you mean worker\?"),
        (lambda ca: ca.revoke("local01", now=NOW), "no certificate was issued to local01\n"),
        (lambda ca: ca.vpn_credentials("local01"), "imgbuild pki issue local01 --for server"),
        (lambda ca: ca.renew("worker", now=NOW, days=0), "0 days is no validity"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(
    authority: Authority, pki: Path, command: Callable[[Authority], object], message: str
) -> None:
    before = snapshot(pki)

    with pytest.raises(UsageError, match=message):
        command(authority)

    assert snapshot(pki) == before


@pytest.mark.parametrize("cluster", ["", " ", "-x", "a/b", "x" * 57, "a\nb"])
def test_a_cluster_needs_a_name(tmp_path: Path, cluster: str) -> None:
    with pytest.raises(UsageError, match="is no name for a cluster"):
        init_authority(tmp_path / "pki", cluster, now=NOW)


# What a build gets


def test_a_build_never_gets_the_key_of_the_ca(authority: Authority, pki: Path) -> None:
    ca_key = (pki / "ca.key").read_bytes()
    (pki / "ca.key").unlink()

    credentials = authority.vpn_credentials("oneserver")

    assert {str(name): type(value) for name, value in asdict(credentials).items()} == {
        "ca": str,
        "certificate": str,
        "key": Secret,
        "tls_crypt": Secret,
        "crl": str,
    }
    assert credentials.key.reveal() == (pki / "issued/oneserver-1.key").read_bytes()
    assert credentials.key.reveal() != ca_key
    assert "PRIVATE KEY" not in credentials.ca + credentials.certificate + credentials.crl


def test_credentials_do_not_print_their_keys(authority: Authority) -> None:
    shown = repr(authority.vpn_credentials("worker"))

    assert "key=<secret>, tls_crypt=<secret>" in shown


@pytest.mark.parametrize("file", ["tls-crypt.key", "issued/worker-1.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_that_others_may_read_is_refused(authority: Authority, pki: Path, file: str, mode: int) -> None:
    (pki / file).chmod(mode)

    with pytest.raises(HostError, match=rf"{file}: others may read this secret \(mode 0{mode:o}\)\n  fix: chmod 600"):
        authority.vpn_credentials("worker")


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        (
            "issued/worker-1.key",
            "issued/oneserver-1.key",
            r"worker-1.key: does not belong to worker-1.crt\n  fix: .*renew",
        ),
        ("issued/worker-1.key", "ca.crt", "worker-1.key: is not a private key"),
        (
            "issued/worker-1.crt",
            "issued/oneserver-1.crt",
            "worker-1.crt: is not the certificate that index.json lists",
        ),
        ("issued/worker-1.crt", "index.json", "worker-1.crt: is not a certificate\n"),
        ("ca.crt", "issued/worker-1.crt", "ca.crt: is not the certificate of a CA"),
        ("ca.crt", "../other/ca.crt", "crl.pem: was not signed by the CA in ca.crt"),
        ("crl.pem", "../other/crl.pem", "crl.pem: was not signed by the CA in ca.crt"),
        ("crl.pem", "ca.crt", "crl.pem: is not a revocation list"),
        ("tls-crypt.key", "ca.key", "tls-crypt.key: is not an OpenVPN static key"),
        ("index.json", "ca.crt", "index.json: .*JSON"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(pki: Path, file: str, source: str, message: str) -> None:
    init_authority(pki.parent / "other", "cluster", now=NOW)

    (pki / file).write_bytes((pki / source).read_bytes())

    with pytest.raises(HostError, match=message):
        open_authority(pki).vpn_credentials("worker")


def test_a_certificate_of_another_ca_is_refused(pki: Path) -> None:
    other = pki.parent / "other"
    ensure_credentials(other, "cluster", NEEDS, NOW)

    shutil.copytree(other / "issued", pki / "issued", dirs_exist_ok=True)
    shutil.copy(other / "index.json", pki / "index.json")

    with pytest.raises(HostError, match=r"worker-1.crt: was not issued by the CA in ca.crt"):
        open_authority(pki).vpn_credentials("worker")


def test_a_certificate_for_the_other_end_is_refused(pki: Path) -> None:
    index = json.loads((pki / "index.json").read_text())

    index["issued"][1]["purpose"] = "server"
    (pki / "index.json").write_text(json.dumps(index))

    with pytest.raises(HostError, match=r"worker-1.crt: is not a certificate for a server"):
        open_authority(pki).vpn_credentials("worker")


@pytest.mark.parametrize(
    "file", ["crl.pem", "tls-crypt.key", "index.json", "issued/worker-1.crt", "issued/worker-1.key"]
)
def test_a_missing_file_is_named_with_its_fix(authority: Authority, pki: Path, file: str) -> None:
    (pki / file).unlink()

    with pytest.raises(HostError, match=rf"{re.escape(file)}: is missing\n  fix: (restore|imgbuild pki renew worker)"):
        authority.vpn_credentials("worker")


def test_a_lost_key_is_mended_by_renewing(authority: Authority, pki: Path) -> None:
    (pki / "issued/worker-1.key").unlink()

    authority.renew("worker", now=NOW)

    assert states(authority)[1:] == [("worker", "valid", False), ("worker", "valid", True)]


def test_without_a_ca_one_is_told_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"ca.crt: is missing\n  fix: imgbuild pki init"):
        open_authority(tmp_path / "pki")


def test_without_its_key_a_ca_signs_nothing(authority: Authority, pki: Path) -> None:
    (pki / "ca.key").unlink()

    with pytest.raises(HostError, match=r"ca.key: is missing\n  fix: put the key of the CA back"):
        authority.renew("worker", now=NOW)


# A passphrase for the CA's key


@needs_openssl
def test_a_passphrase_encrypts_the_key_of_the_ca_and_no_other(tmp_path: Path) -> None:
    passphrase = Secret("correct horse")

    ensure_credentials(tmp_path / "pki", "cluster", NEEDS, NOW, passphrase=passphrase)

    assert "BEGIN ENCRYPTED PRIVATE KEY" in (tmp_path / "pki/ca.key").read_text()
    assert "Key is valid" in openssl(
        "pkey", "-in", tmp_path / "pki/ca.key", "-passin", "stdin", "-check", text="correct horse\n"
    )
    assert "Key is valid" in openssl("pkey", "-in", tmp_path / "pki/issued/oneserver-1.key", "-check")


@pytest.mark.parametrize(
    ("made_with", "opened_with", "message"),
    [
        (Secret("right"), None, "ca.key: is encrypted\n  fix: give --passphrase-file"),
        (Secret("right"), Secret("wrong"), "ca.key: cannot be opened with this passphrase"),
        (None, Secret("right"), "ca.key: is not encrypted, but a passphrase was given"),
    ],
)
def test_a_passphrase_that_does_not_fit_is_refused(
    tmp_path: Path, made_with: Secret | None, opened_with: Secret | None, message: str
) -> None:
    init_authority(tmp_path / "pki", "cluster", now=NOW, passphrase=made_with)

    with pytest.raises(HostError, match=message):
        open_authority(tmp_path / "pki", passphrase=opened_with).issue("worker", "client", now=NOW)


def test_a_build_needs_no_passphrase_once_the_certificates_are_there(tmp_path: Path) -> None:
    ensure_credentials(tmp_path / "pki", "cluster", NEEDS, NOW, passphrase=Secret("right"))

    ensure_credentials(tmp_path / "pki", "cluster", NEEDS, NOW)

    assert open_authority(tmp_path / "pki").vpn_credentials("worker").key.reveal()


@pytest.mark.parametrize("text", ["right\n", "right", "right\r\nsecond line\n"])
def test_a_passphrase_is_the_first_line_of_its_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "passphrase"
    file.write_text(text)
    file.chmod(0o600)

    assert read_passphrase(file) == Secret("right")


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("\n", 0o600, "the first line is empty"),
        ("right\n", 0o644, "others may read this secret.*\n  fix: chmod 600"),
    ],
)
def test_a_passphrase_file_that_protects_nothing_is_refused(tmp_path: Path, text: str, mode: int, message: str) -> None:
    file = tmp_path / "passphrase"
    file.write_text(text)
    file.chmod(mode)

    with pytest.raises(HostError, match=message):
        read_passphrase(file)


# Status


@pytest.mark.parametrize(
    ("at", "state", "days_left"),
    [
        (-3, "not yet valid", 1098),
        (-1, "valid", 1096),
        (1035, "valid", 60),
        (1036, "expiring", 59),
        (1095, "expiring", 0),
        (1096, "expired", -1),
    ],
)
def test_a_certificate_stands(authority: Authority, at: int, state: str, days_left: int) -> None:
    row = authority.status(NOW + at * DAY)[-1]

    assert (row.name, row.state, row.days_left) == ("worker", state, days_left)


def test_status_shows_the_ca_and_the_revocation_list_first(authority: Authority) -> None:
    rows = authority.status(NOW)

    assert [(row.name, row.purpose, row.state) for row in rows] == [
        ("ca", "authority", "valid"),
        ("crl", "revocation list", "valid"),
        ("oneserver", "server", "valid"),
        ("worker", "client", "valid"),
    ]


@pytest.mark.parametrize(
    ("changes", "needed", "trouble"),
    [
        ({"state": "valid"}, ["worker"], None),
        (
            {"state": "expiring", "days_left": 9},
            [],
            "worker: the client certificate expires in 9 days (2029-02-28)",
        ),
        ({"state": "expired"}, [], "worker: the client certificate expired on 2029-02-28: the VPN refuses it"),
        ({"state": "not yet valid"}, [], "worker: the client certificate is not valid before 2026-02-27"),
        ({"state": "revoked"}, [], None),
        ({"state": "revoked"}, ["worker"], "worker: the client certificate is revoked: the VPN refuses it"),
        ({"state": "expired", "superseded": True}, [], None),
        ({}, ["local01"], "local01: has no certificate"),
    ],
)
def test_somebody_is_told(
    authority: Authority, changes: dict[str, object], needed: list[str], trouble: str | None
) -> None:
    row = replace(authority.status(NOW)[-1], **changes)  # type: ignore[arg-type]

    troubles = list_troubles([row], needed=needed)

    assert [text.splitlines()[0] for text in troubles] == [text for text in [trouble] if text]


def test_the_end_of_the_ca_needs_a_new_one(authority: Authority) -> None:
    ca, crl = list_troubles(authority.status(NOW + 3640 * DAY)[:2])

    fix = "  fix: move the PKI directory away, run imgbuild pki init and build every image again"
    assert ca == f"ca: the certificate of the CA expires in 10 days (2036-02-27)\n{fix}"
    assert crl == f"crl: the revocation list expires in 10 days (2036-02-27)\n{fix}"
