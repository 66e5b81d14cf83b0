"""The real worker becomes an AMI on the local cloud, and what comes back is the image, byte for byte."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuilder.cloud import Fault, RunningCloud, Tuning
from tests import bundles
from tests.cloud.publishing import cloud_in_environment
from tests.command import Outcome, imgbuild

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module", autouse=True)
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    state = tmp_path_factory.mktemp("cloud")
    with pytest.MonkeyPatch.context() as patch, cloud_in_environment(state, patch, Tuning()) as running:
        yield running


@pytest.fixture(scope="module")
def registered(cluster: Path) -> Outcome:
    return imgbuild(cluster, "bundle", "worker", "--register", "--json")


def is_the_worker(cluster: Path, raw: Path) -> bool:
    disk = json.loads(imgbuild(cluster, "show", "worker", "--json").out)["path"]
    done = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, disk], check=False)
    return done.returncode == 0


def test_the_worker_is_registered(cluster: Path, registered: Outcome) -> None:
    record = json.loads(registered.out)

    assert registered.code == 0
    assert set(record) == {"ami", "snapshot", "name", "region", "bytes_sent", "blocks_sent", "seconds"}
    assert record["bytes_sent"] == record["blocks_sent"] * 524288 > 100e6
    listed = imgbuild(cluster, "ami", "list").out.split()
    assert listed[:3] == ["IMAGE", record["ami"], record["name"]]
    assert listed[4:] == ["available", "private", "x86_64", "machine", "ebs", "hvm"]


def test_registered_again_it_is_the_same_ami(cluster: Path, cloud: RunningCloud, registered: Outcome) -> None:
    since = len(cloud.requests())

    again = json.loads(imgbuild(cluster, "bundle", "worker", "--register", "--json").out)

    assert (again["ami"], again["blocks_sent"]) == (json.loads(registered.out)["ami"], 0)
    assert "PutSnapshotBlock" not in {call["action"] for call in cloud.requests()[since:]}


def test_the_snapshot_is_the_image(cluster: Path, registered: Outcome, tmp_path: Path) -> None:
    outcome = imgbuild(
        cluster, "ami", "fetch", json.loads(registered.out)["ami"], "--output", str(tmp_path / "fetched.raw")
    )

    assert outcome.code == 0
    assert is_the_worker(cluster, tmp_path / "fetched.raw")


def test_the_classic_bundle_is_the_image(cluster: Path, tmp_path: Path) -> None:
    user, ec2 = bundles.user(), bundles.ec2()
    options = ("--user", bundles.ACCOUNT, "--cert", str(user.certificate), "--key", str(user.key))

    bundled = imgbuild(
        cluster, "bundle", "worker", "--format", "instance-store", "--output", str(tmp_path / "bundle"),
        *options, "--ec2cert", str(ec2.certificate),
    )  # fmt: skip
    manifest = tmp_path / "bundle/worker.manifest.xml"
    opened = imgbuild(
        cluster, "unbundle", str(manifest), "--key", str(user.key), "--output", str(tmp_path / "image.raw")
    )

    assert (bundled.code, bundled.out.strip()) == (0, str(manifest))
    assert opened.code == 0
    assert is_the_worker(cluster, tmp_path / "image.raw")


def test_what_carries_the_vpn_key_is_not_shared(cluster: Path, registered: Outcome) -> None:
    outcome = imgbuild(cluster, "ami", "share", json.loads(registered.out)["ami"], "--public")

    assert outcome.code == 2
    assert "carries OpenVPN key, private key" in outcome.err


def test_a_failure_leaves_nothing(cluster: Path, cloud: RunningCloud) -> None:
    before = cloud.state()
    cloud.add_fault(Fault(kind="access-denied", action="RegisterImage", nth=2, count=10))

    outcome = imgbuild(cluster, "bundle", "worker", "--register", "--name", "another")

    cloud.clear_faults()
    assert outcome.code == 6
    assert "not authorized" in outcome.err
    assert cloud.state() == before
