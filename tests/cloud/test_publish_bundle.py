"""An image becomes one AMI on a classic bundle in S3, or nothing is left there."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuilder.cloud import Fault, RunningCloud
from imagebuilder.ec2.bundle import PART_BYTES
from imagebuilder.ec2.ciphers import read_private_key
from imagebuilder.ec2.unbundle import open_manifest, unbundle
from imagebuilder.errors import LeftoversError, RemoteError
from tests import bundles
from tests.cloud.clients import Clients
from tests.cloud.publishing import (
    BUCKET,
    NAME,
    Certificates,
    cloud_in_environment,
    images,
    make_image,
    order,
    publish_classic,
)

PASSING = [
    Fault(kind="throttle", service="s3", action="PutObject", probability=0.3, seed=1),
    Fault(kind="error-503", service="s3", action="PutObject", nth=2, count=2),
    Fault(kind="drop", service="s3", action="PutObject", nth=3),
    Fault(kind="drop", service="s3", action="PutObject", nth=3, when="after"),
    Fault(kind="hang", service="s3", action="PutObject", nth=2),
    Fault(kind="drop", action="RegisterImage", nth=2, when="after"),
    Fault(kind="throttle", action="RegisterImage", nth=2, count=2),
]
LASTING = [
    Fault(kind="access-denied", service="s3", action="PutObject", nth=3, count=100),
    Fault(kind="access-denied", action="RegisterImage", nth=2, count=100),
    Fault(kind="error-500", service="s3", action="PutObject", nth=3, count=100),
]


def named(fault: Fault) -> str:
    return f"{fault.action}-{fault.kind}-{fault.when}"


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningCloud]:
    """A cloud with a bucket for bundles."""
    with cloud_in_environment(tmp_path / "cloud", monkeypatch) as running:
        Clients(running).s3.create_bucket(Bucket=BUCKET, ObjectOwnership="BucketOwnerPreferred")
        yield running


@pytest.fixture
def certificates(cloud: RunningCloud) -> Certificates:
    user = bundles.user()
    return Certificates(user=user.certificate, user_key=user.key, ec2=cloud.ec2_certificate())


def objects(cloud: RunningCloud) -> list[str]:
    return [row["Key"] for row in Clients(cloud).s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def assert_whole(cloud: RunningCloud, disk: Path, scratch: Path, certificates: Certificates) -> None:
    """One AMI, whose bundle in the bucket is the disk, and nothing else there."""
    [row] = images()
    assert (row["Name"], row["ImageLocation"], row["State"]) == (NAME, f"{BUCKET}/w1/worker.manifest.xml", "available")
    scratch.mkdir()
    for key in objects(cloud):
        Clients(cloud).s3.download_file(BUCKET, key, str(scratch / Path(key).name))
    opened = open_manifest(scratch / "worker.manifest.xml", read_private_key(certificates.user_key))
    unbundle(opened, scratch / "image.raw")
    assert (scratch / "image.raw").read_bytes() == disk.read_bytes()
    assert len(objects(cloud)) == len(opened.manifest.parts) + 1


@pytest.mark.parametrize("fault", PASSING, ids=named)
def test_faults_that_pass_change_nothing(
    cloud: RunningCloud, tmp_path: Path, certificates: Certificates, fault: Fault
) -> None:
    image = make_image(tmp_path / "image")
    cloud.add_fault(fault)

    publish_classic(order(image), tmp_path / "records", certificates)

    assert any("fault" in call for call in cloud.requests())
    cloud.clear_faults()
    assert_whole(cloud, image.disk, tmp_path / "scratch", certificates)


@pytest.mark.parametrize("fault", LASTING, ids=named)
def test_a_run_that_fails_leaves_nothing(
    cloud: RunningCloud, tmp_path: Path, certificates: Certificates, fault: Fault
) -> None:
    image = make_image(tmp_path / "image")
    cloud.add_fault(fault)

    with pytest.raises(RemoteError) as failed:
        publish_classic(order(image), tmp_path / "records", certificates)

    cloud.clear_faults()
    assert failed.value.exit_code == 6
    assert (images(), objects(cloud)) == ([], [])
    publish_classic(order(image), tmp_path / "records", certificates)
    assert_whole(cloud, image.disk, tmp_path / "scratch", certificates)


def test_objects_that_cannot_be_removed_are_listed(
    cloud: RunningCloud, tmp_path: Path, certificates: Certificates
) -> None:
    image = make_image(tmp_path / "image")
    cloud.add_fault(Fault(kind="access-denied", action="RegisterImage", nth=2, count=100))
    cloud.add_fault(Fault(kind="access-denied", service="s3", action="DeleteObject", nth=2, count=100))

    with pytest.raises(LeftoversError) as failed:
        publish_classic(order(image), tmp_path / "records", certificates)

    cloud.clear_faults()
    assert objects(cloud) != []
    assert [key for key in objects(cloud) if f"aws s3 rm s3://{BUCKET}/{key}" not in str(failed.value)] == []


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_run_is_gone_on_with(
    cloud: RunningCloud, tmp_path: Path, certificates: Certificates, seed: int
) -> None:
    image = make_image(tmp_path / "image")
    cloud.add_fault(Fault(kind="slow", service="s3", action="PutObject", delay_s=0.5))
    files = map(str, (certificates.user, certificates.user_key, certificates.ec2))
    command = [sys.executable, "-m", "tests.cloud.publishing", str(image.directory), *files]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    time.sleep(random.Random(seed).uniform(1.5, 4.0))
    first.kill()
    first.wait()

    again = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (again.returncode, again.stderr) == (0, "")
    assert image.disk.stat().st_size > PART_BYTES
    assert_whole(cloud, image.disk, tmp_path / "scratch", certificates)


def test_a_bucket_that_ignores_access_lists_is_refused(
    cloud: RunningCloud, tmp_path: Path, certificates: Certificates
) -> None:
    s3 = Clients(cloud).s3
    s3.delete_bucket(Bucket=BUCKET)
    s3.create_bucket(Bucket=BUCKET)

    with pytest.raises(RemoteError, match="the bucket ignores access lists"):
        publish_classic(order(make_image(tmp_path / "image")), tmp_path / "records", certificates)

    assert objects(cloud) == []
