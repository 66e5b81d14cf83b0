"""The report on an image says what was found, gives no secret away, and cannot be changed unnoticed."""

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from imagebuilder.ec2.evidence import Evidence
from imagebuilder.ec2.seal import RULES
from imagebuilder.ec2.seal_report import make_report, read_report, write_report
from imagebuilder.errors import BuildError, HostError
from imagebuilder.image.store import Image
from imagebuilder.pki import SigningKey, ensure_signing_key, init_authority, read_verifying_key
from tests.evidence import PEM_KEY, sound_evidence, without_boot_loader

NOW = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
IMAGE = Image(
    role="worker",
    name="worker",
    key="a" * 64,
    format="qcow2",
    directory=Path("/store/images/worker/worker") / ("a" * 64),
    base_digest="b" * 64,
    built_at="2026-11-25T07:21:01+00:00",
    inputs={},
)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    init_authority(tmp_path / "pki", "squirrel", now=NOW)
    return tmp_path / "pki"


@pytest.fixture
def key(pki: Path) -> SigningKey:
    return ensure_signing_key(pki)


def report_on(evidence: Evidence, key: SigningKey) -> dict[str, Any]:
    return make_report(IMAGE, evidence, audience="private", now=NOW, signer=key.verifying)


def test_the_report_of_a_sound_image_has_every_rule_passed(key: SigningKey) -> None:
    report = report_on(sound_evidence(), key)

    assert [(rule["name"], rule["outcome"]) for rule in report["rules"]] == [(rule.name, "passed") for rule in RULES]
    assert (report["passed"], report["boot_mode"], report["audience"]) == (True, "legacy-bios", "private")
    assert report["image"]["base_digest"] == "b" * 64
    assert report["disk"] == {"size_bytes": 4 << 30, "sha256": "5" * 64}
    assert report["inspected_at"] == "2026-11-25T09:30:00+00:00"


def test_the_report_of_another_has_its_findings(key: SigningKey) -> None:
    report = report_on(without_boot_loader(sound_evidence()), key)

    [failed] = [rule for rule in report["rules"] if rule["outcome"] == "failed"]
    assert failed["name"] == "boot-loader"
    assert [finding["what"] for finding in failed["findings"]] == ["the first sector has no boot code"]
    assert (report["passed"], report["boot_mode"]) == (False, None)


def test_the_report_names_the_key_of_the_vpn_and_does_not_tell_it(key: SigningKey, tmp_path: Path) -> None:
    path = write_report(tmp_path, report_on(sound_evidence(), key), key)

    [secret] = json.loads(path.read_text())["secrets"]
    assert (secret["path"], secret["kind"], secret["mode"], secret["owner"]) == (
        "/etc/openvpn/client/client.key",
        "private key",
        "0600",
        "0:0",
    )
    assert secret["fingerprint"].startswith("sha256:")
    assert PEM_KEY.splitlines()[1] not in path.read_text()


def test_a_report_is_read_again_by_who_has_the_public_key(pki: Path, key: SigningKey, tmp_path: Path) -> None:
    write_report(tmp_path, report_on(sound_evidence(), key), key)

    report = read_report(tmp_path, read_verifying_key(pki))

    assert (report.image_key, report.disk_sha256, report.audience, report.passed) == (
        "a" * 64,
        "5" * 64,
        "private",
        True,
    )


def test_openssl_accepts_the_signature(pki: Path, key: SigningKey, tmp_path: Path) -> None:
    write_report(tmp_path, report_on(sound_evidence(), key), key)

    verify: list[str | Path] = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", pki / "seal.pub"]
    files: list[str | Path] = ["-sigfile", tmp_path / "seal.json.sig", "-in", tmp_path / "seal.json"]
    outcome = subprocess.run([*verify, *files], capture_output=True, text=True, check=False)

    assert (outcome.returncode, outcome.stdout.strip()) == (0, "Signature Verified Successfully")


def change_a_word(directory: Path) -> None:
    file = directory / "seal.json"
    file.write_bytes(file.read_bytes().replace(b'"private"', b'"public"', 1))


def cut_the_signature(directory: Path) -> None:
    file = directory / "seal.json.sig"
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("tamper", [change_a_word, cut_the_signature])
def test_a_tampered_report_is_refused(key: SigningKey, tmp_path: Path, tamper: Callable[[Path], None]) -> None:
    write_report(tmp_path, report_on(sound_evidence(), key), key)

    tamper(tmp_path)

    with pytest.raises(BuildError, match="is not what this site has signed"):
        read_report(tmp_path, key.verifying)


def test_a_report_of_another_site_is_refused(key: SigningKey, tmp_path: Path) -> None:
    init_authority(tmp_path / "other", "squirrel", now=NOW)
    other = ensure_signing_key(tmp_path / "other")
    write_report(tmp_path, report_on(sound_evidence(), other), other)

    with pytest.raises(BuildError, match="is not what this site has signed"):
        read_report(tmp_path, key.verifying)


def test_a_report_without_its_signature_is_none(key: SigningKey, tmp_path: Path) -> None:
    write_report(tmp_path, report_on(sound_evidence(), key), key).with_suffix(".json.sig").unlink()

    with pytest.raises(BuildError, match=r"seal\.json\.sig"):
        read_report(tmp_path, key.verifying)


def test_the_signing_key_is_made_once_and_only_its_owner_may_read_it(pki: Path) -> None:
    first = ensure_signing_key(pki)

    second = ensure_signing_key(pki)

    assert first.verifying.fingerprint == second.verifying.fingerprint
    assert (pki / "seal.key").stat().st_mode & 0o777 == 0o600


def test_nothing_is_signed_where_there_is_no_authority(tmp_path: Path) -> None:
    with pytest.raises(HostError):
        ensure_signing_key(tmp_path / "pki")
