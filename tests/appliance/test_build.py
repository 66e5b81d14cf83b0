"""The build itself, on a small image of the user's own; everything here shares one site and one store."""

import csv
import io
import json
from pathlib import Path

import pytest

from imagebuilder.programs import run_program
from tests.appliance.conftest import make_site
from tests.command import imgbuild

pytestmark = pytest.mark.appliance

# Works everywhere, if slowly: these tests are about what is in the images.
EMULATION = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}


@pytest.fixture(scope="module")
def built(site: Path) -> Path:
    outcome = imgbuild(site, "build")
    assert outcome.code == 0, outcome.err
    return site


def disk_of(site: Path, name: str) -> Path:
    return Path(json.loads(imgbuild(site, "show", name, "--json").out)["path"])


def guestfish(disk: Path, *commands: str, device: str = "/dev/sda") -> list[str]:
    """The output of guestfish commands, a list of lines, on a disk that it cannot change."""
    words = [word for command in commands for word in (":", *command.split())][1:]
    argv: list[str | Path] = ["guestfish", "--ro", "--format=qcow2", "-a", disk, "-m", device, *words]
    return run_program(argv, environment=EMULATION, timeout_s=300).splitlines()


def test_every_image_is_listed_with_its_base_and_artifacts(built: Path) -> None:
    images = json.loads(imgbuild(built, "list", "--json").out)

    assert [(image["role"], image["name"], image["format"]) for image in images] == [
        ("node", "local01", "qcow2"),
        ("server", "oneserver", "qcow2"),
        ("worker", "worker", "qcow2"),
    ]
    assert len({image["base"]["digest"] for image in images}) == 1
    assert [[artifact["kind"] for artifact in image["artifacts"]] for image in images] == [["xl"], ["xl"], []]


def test_guestfish_finds_what_was_planned(built: Path) -> None:
    lines = guestfish(
        disk_of(built, "oneserver"),
        "cat /etc/hostname",
        "lstatns /etc/openvpn/server/server.key",
        "readlink /etc/systemd/system/multi-user.target.wants/nftables.service",
        "exists /etc/systemd/system/multi-user.target.wants/openvpn.service",
        "exists /etc/ssh/ssh_host_ed25519_key.pub",
        "filesize /etc/machine-id",
    )

    assert lines[0] == "oneserver"
    assert "st_mode: 33152" in lines  # a regular file, 0600
    assert lines[-4:] == ["/usr/lib/systemd/system/nftables.service", "false", "false", "0"]


def test_virt_diff_and_diff_name_the_same_paths_between_node_and_worker(built: Path) -> None:
    node, worker = disk_of(built, "local01"), disk_of(built, "worker")

    own = json.loads(imgbuild(built, "diff", "node", "worker", "--json").out)
    one_way, other_way = virt_diff(node, worker), virt_diff(worker, node)

    paths = {row[6] if row[0] == "-" else row[5] for row in one_way ^ other_way}
    assert len(paths) > 10
    assert {row["path"] for row in own["differences"]} == paths


def virt_diff(one: Path, two: Path) -> set[tuple[str, ...]]:
    """What virt-diff finds in `one` that is not the same in `two`, in whatever respect, inode numbers included.

    A file that was rewritten with the same content and mode is among it, and also if the images change places.
    """
    words = ["--checksum=sha256", "--uids", "--csv", "--format=qcow2", "-a", str(one), "-A", str(two)]
    output = run_program(["virt-diff", *words], environment=EMULATION, timeout_s=900)
    rows = {tuple(row) for row in csv.reader(io.StringIO(output)) if row}
    return {row[1:] for row in rows if row[0] == "=" or (row[0] == "-" and ("+", *row[1:]) not in rows)}


def test_nothing_changed_costs_no_appliance(built: Path) -> None:
    log = built / "store/log/imgbuild.log"
    before = log.stat().st_mtime_ns

    outcome = imgbuild(built, "build")

    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["unchanged"] * 3
    assert log.stat().st_mtime_ns == before


def test_one_value_changed_rebuilds_only_what_it_touches(built: Path) -> None:
    recipe = built / "recipes/cluster.yaml"
    text = recipe.read_text()
    recipe.write_text(text.replace('authorized_ports: "22-25"', 'authorized_ports: "22"'))

    reason = imgbuild(built, "why", "worker")
    outcome = imgbuild(built, "build")
    recipe.write_text(text)
    again = imgbuild(built, "build")

    assert reason.code == 1
    assert "cluster.yaml: ec2.authorized_ports: 22-25 -> 22" in reason.out
    assert "changes /etc/nftables.conf" in reason.out
    assert [line.split()[:2] for line in outcome.out.splitlines()] == [
        ["unchanged", "oneserver"],
        ["unchanged", "local01"],
        ["built", "worker"],
    ]
    assert [line.split()[0] for line in again.out.splitlines()] == ["unchanged"] * 3


def test_a_raw_image_is_a_full_copy_with_holes(built: Path) -> None:
    outcome = imgbuild(built, "build", "node", "--format", "raw", store=built / "raw-store")

    [disk] = (built / "raw-store").glob("images/node/local01/current/disk.raw")
    assert outcome.code == 0, outcome.err
    assert disk.stat().st_size == 48 << 20
    assert disk.stat().st_blocks * 512 < 24 << 20


def test_a_base_may_be_partitioned_and_qcow2(small_base: Path, tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", partitioned_qcow2(small_base, tmp_path))

    outcome = imgbuild(site, "build", "node")

    node = disk_of(site, "local01")
    assert outcome.code == 0, outcome.err
    assert guestfish(node, "cat /etc/hostname", device="/dev/sda1") == ["local01", ""]
    assert '"backing-filename-format": "qcow2"' in run_program(["qemu-img", "info", "--output=json", node])


def partitioned_qcow2(file_system: Path, directory: Path) -> Path:
    """A qcow2 disk with one partition that holds `file_system`."""
    raw, disk = directory / "disk.raw", directory / "disk.qcow2"
    raw.write_bytes(b"\0" * (1 << 20) + file_system.read_bytes() + b"\0" * (1 << 20))
    run_program(["sfdisk", "--quiet", raw], stdin=f"label: dos\n2048,{file_system.stat().st_size // 512},L\n".encode())
    run_program(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk])
    return disk


def test_two_builds_of_the_same_inputs_are_the_same(built: Path) -> None:
    second = imgbuild(built, "build", "server", store=built / "second-store")

    first_disk = disk_of(built, "oneserver")
    [second_disk] = (built / "second-store").glob("images/server/oneserver/current/disk.qcow2")
    difference = imgbuild(built, "diff", str(first_disk), str(second_disk))
    assert second.code == 0, second.err
    assert first_disk.parent.name == second_disk.resolve().parent.name
    assert (difference.code, difference.out) == (0, "")


def test_no_secret_is_in_a_log_a_plan_or_a_manifest(built: Path) -> None:
    [key_file] = (built / "secrets/pki/issued").glob("worker-*.key")
    secret = key_file.read_text().splitlines()[1]

    texts = [path for path in (built / "store").rglob("*") if path.is_file() and "disk" not in path.name]
    shown = imgbuild(built, "plan", "worker").out

    assert len(texts) > 10
    assert [path for path in texts if secret.encode() in path.read_bytes()] == []
    assert secret not in shown
