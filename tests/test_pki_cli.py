import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imagebuilder.cli import app
from imagebuilder.pki import Purpose, ensure_credentials, open_authority

DAY = timedelta(days=1)
NEEDS: dict[str, Purpose] = {"oneserver": "server", "worker": "client"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pki_command(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["pki", *words], catch_exceptions=False)
    return result.exit_code, result.output


def test_the_commands_keep_the_pki_below_the_site(site: Path) -> None:
    made = pki_command("init", "--cluster", "demo")
    issued = pki_command("issue", "oneserver", "--for", "server", "--days", "900")
    renewed = pki_command("renew", "oneserver", "--revoke-old")
    revoked = pki_command("revoke", "oneserver")

    assert [made[0], issued[0], renewed[0], revoked[0]] == [0, 0, 0, 0]
    assert made[1].startswith("made the CA of demo, valid until ")
    assert issued[1].startswith("issued a server certificate to oneserver, valid until ")
    assert renewed[1].endswith("; the old one is revoked\n")
    assert revoked[1].startswith("revoked the server certificate ")
    rows = open_authority(site / "secrets/pki").status(datetime.now(UTC))
    assert [row.state for row in rows if row.name == "oneserver"] == ["revoked", "revoked"]


def test_the_site_directory_comes_from_the_command_above(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["-C", str(tmp_path), "pki", "init"])

    assert result.exit_code == 0
    assert (tmp_path / "secrets/pki/ca.crt").is_file()


@pytest.mark.parametrize(
    "command",
    [("issue", "laptop", "--for", "client"), ("renew", "worker", "--revoke-old"), ("revoke", "worker")],
)
def test_a_dry_run_writes_nothing(tmp_path: Path, command: tuple[str, ...]) -> None:
    ensure_credentials(tmp_path / "pki", "cluster", NEEDS, datetime.now(UTC))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    code, said = pki_command(*command, "--pki-dir", str(tmp_path / "pki"), "--dry-run")

    assert code == 0
    assert said.startswith("would have ")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_dry_run_of_init_writes_nothing(site: Path) -> None:
    code, said = pki_command("init", "-n")

    assert (code, list(site.iterdir())) == (0, [])
    assert said.startswith("would have made the CA of cluster")


@pytest.mark.parametrize(
    ("options", "code"),
    [((), 0), (("--need", "worker"), 0), (("--need", "local01"), 1), (("--warn-days", "2000"), 1)],
)
def test_status_exits_with_1_if_somebody_should_act(site: Path, options: tuple[str, ...], code: int) -> None:
    ensure_credentials(site / "secrets/pki", "cluster", NEEDS, datetime.now(UTC))

    exited, said = pki_command("status", *options)

    assert exited == code
    assert re.search(r"^worker +client +(valid|expiring) ", said, re.MULTILINE)


def test_status_is_one_json_object(site: Path) -> None:
    ensure_credentials(site / "secrets/pki", "cluster", NEEDS, datetime.now(UTC) - 1080 * DAY)

    code, said = pki_command("status", "--json")

    shown = json.loads(said)
    assert code == 1
    assert shown["directory"] == str(site / "secrets/pki")
    assert [(row["name"], row["state"], row["days_left"]) for row in shown["certificates"]] == [
        ("ca", "valid", 2569),
        ("crl", "valid", 2569),
        ("oneserver", "expiring", 14),
        ("worker", "expiring", 14),
    ]
    assert len(shown["troubles"]) == 2


def test_the_passphrase_comes_from_a_file_named_in_the_environment(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = site / "passphrase"
    file.write_text("right\n")
    file.chmod(0o600)
    monkeypatch.setenv("IMGBUILD_CA_PASSPHRASE_FILE", str(file))

    pki_command("init")
    code, _ = pki_command("issue", "worker", "--for", "client")

    assert code == 0
    assert "ENCRYPTED" in (site / "secrets/pki/ca.key").read_text()
