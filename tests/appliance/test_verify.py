"""Whether `imgbuild verify` sees each kind of change that somebody makes to a finished image."""

import json
import shutil
from pathlib import Path

import pytest

from imagebuilder.programs import run_program
from tests.command import imgbuild

pytestmark = pytest.mark.appliance

EMULATION = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}

# Of the base's files, /usr/lib/systemd/systemd is one that no plan touches; no size changes but that of the extra file.
TAMPERING = b"""
write /etc/hostname "local02\\n"
write /usr/lib/systemd/systemd "NOT really\\n"
chmod 0666 /etc/hosts
chown 1 2 /etc/nftables.conf
rm /etc/yp.conf
rm-f /etc/defaultdomain
mkdir /etc/defaultdomain
ln-sf /etc/hostname /var/lib/dbus/machine-id
mkdir /root/.ssh
write /root/.ssh/authorized_keys "ssh-ed25519 AAAA somebody\\n"
"""


@pytest.fixture(scope="module")
def built(site: Path) -> Path:
    outcome = imgbuild(site, "build")
    assert outcome.code == 0, outcome.err
    return site


@pytest.fixture(scope="module")
def tampered(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the store, with a node's image that somebody has written to."""
    store = tmp_path_factory.mktemp("tampered") / "store"
    shutil.copytree(built / "store", store, symlinks=True)
    disk = store / "images/node/local01/current/disk.qcow2"
    argv: list[str | Path] = ["guestfish", "--rw", "--format=qcow2", "-a", disk, "-m", "/dev/sda"]
    run_program(argv, stdin=TAMPERING, environment=EMULATION, timeout_s=300)
    return store


def test_finished_images_are_as_foreseen(built: Path) -> None:
    outcome = imgbuild(built, "verify")

    lines = [line.split() for line in outcome.out.splitlines()]
    assert outcome.code == 0, outcome.err
    assert [(line[0], line[1:3], line[4]) for line in lines] == [
        ("oneserver", ["as", "foreseen"], "paths"),
        ("local01", ["as", "foreseen"], "paths"),
        ("worker", ["as", "foreseen"], "paths"),
    ]
    assert outcome.err.count("start the appliance") == 1


def test_each_tampered_path_is_named_and_no_other(built: Path, tampered: Path) -> None:
    outcome = imgbuild(built, "verify", "node", store=tampered)

    first, *lines = outcome.out.splitlines()
    without_digests = [line.partition(" bytes ")[0] for line in lines]
    assert outcome.code == 1, outcome.err
    assert first.startswith("local01  differs in 9 of ")
    assert without_digests == [
        "~ /etc/defaultdomain  file 0644 0:0 12",
        "~ /etc/hostname  content",
        "~ /etc/hosts  mode 0644 → 0666",
        "~ /etc/nftables.conf  owner 0:0 → 1:2",
        "- /etc/yp.conf  file 0644 0:0 36",
        "+ /root/.ssh  directory 0755 0:0",
        "+ /root/.ssh/authorized_keys  file 0644 0:0 26",
        "~ /usr/lib/systemd/systemd  content",
        "~ /var/lib/dbus/machine-id  link to /etc/machine-id → /etc/hostname",
    ]


def test_the_other_images_of_a_tampered_store_are_as_foreseen(built: Path, tampered: Path) -> None:
    outcome = imgbuild(built, "verify", "worker", "--json", store=tampered)

    [described] = json.loads(outcome.out)
    assert outcome.code == 0, outcome.err
    assert (described["name"], described["as_foreseen"], described["differences"]) == ("worker", True, [])


def test_an_image_is_not_verified_against_other_recipes_than_its_own(built: Path) -> None:
    recipe = built / "recipes/cluster.yaml"
    text = recipe.read_text()
    recipe.write_text(text.replace('authorized_ports: "22-25"', 'authorized_ports: "22"'))

    outcome = imgbuild(built, "verify")
    recipe.write_text(text)

    assert outcome.code == 2
    assert outcome.err.splitlines()[-2:] == [
        "imgbuild: the image of worker is not what the recipes say now",
        "  fix: run `imgbuild build worker`; `imgbuild why` says what has changed",
    ]


def test_verifying_writes_nothing_into_the_store(built: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (built / "store").rglob("*")}

    outcome = imgbuild(built, "verify", "worker")

    assert outcome.code == 0, outcome.err
    assert {path: path.stat().st_mtime_ns for path in (built / "store").rglob("*")} == before


def test_a_disk_that_is_no_file_system_any_more_is_an_error(built: Path, tampered: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(tampered, store, symlinks=True)
    disk = store / "images/worker/worker/current/disk.qcow2"
    run_program(["qemu-io", "-c", "write -q -P 0 0 64k", disk])

    outcome = imgbuild(built, "verify", "worker", store=store)

    assert outcome.code == 5
    assert "its file systems cannot be mounted" in outcome.err
    assert "Traceback" not in outcome.err
