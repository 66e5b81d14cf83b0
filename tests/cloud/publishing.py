"""A small image to register in a cloud, and what must be true of the cloud afterwards.

As a program, `python -m tests.cloud.publishing DIRECTORY [CERTIFICATE KEY EC2S]`, it registers the image of a
directory: to be killed.
"""

import json
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imagebuilder.cloud import RunningCloud, Tuning, running_cloud
from imagebuilder.ec2.account import Account, open_account
from imagebuilder.ec2.bucket import BucketPlace
from imagebuilder.ec2.bundle import BundleRequest
from imagebuilder.ec2.ciphers import read_certificate, read_pair
from imagebuilder.ec2.download import read_snapshot
from imagebuilder.ec2.ebs import BLOCK_BYTES
from imagebuilder.ec2.publish import Order, Watch, publish_on_ebs
from imagebuilder.ec2.publish_bundle import BundleOrder, publish_as_bundle
from imagebuilder.ec2.records import Record, Records
from imagebuilder.ec2.retry import RetryBudget, RetryLimits
from imagebuilder.ec2.services import open_services
from imagebuilder.errors import ImgbuildError
from imagebuilder.image.store import Image, disk_name
from imagebuilder.recipe.cluster import ClusterRecipe
from imagebuilder.site import load_site

DISK_BYTES = 48 << 20
BLOCKS = 40
NAME = "squirrel-worker-0123"
# Everything is new for a while, as in AWS, but a short one.
TUNING = Tuning(
    snapshot_visible_after_s=0.1,
    snapshot_completes_after_s=0.2,
    image_visible_after_s=0.1,
    image_available_after_s=0.1,
    describes_at_once=10_000,
    changes_at_once=10_000,
)
LIMITS = RetryLimits(attempt_timeout_s=1, attempts=5, patience_s=6, new_s=3)


@contextmanager
def cloud_in_environment(state: Path, patch: pytest.MonkeyPatch, tuning: Tuning = TUNING) -> Iterator[RunningCloud]:
    """A cloud that runs, and that the environment describes until `patch` is undone.

    A test that changes the environment, too, must do it by the same `patch`: two would undo each other's changes.
    """
    with running_cloud(state, tuning=tuning) as running:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


def make_image(directory: Path, *, seed: int = 0, changed: int = 0) -> Image:
    """An image of BLOCKS blocks with a hole after each; of another `changed`, that many first blocks differ."""
    directory.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    with (directory / disk_name("raw")).open("wb") as stream:
        stream.truncate(DISK_BYTES)
        for index in range(BLOCKS):
            content = chance.randbytes(BLOCK_BYTES)
            stream.seek(2 * index * BLOCK_BYTES)
            stream.write(bytes(reversed(content)) if index < changed else content)
    return image_in(directory, key=f"{changed:064}")


def image_in(directory: Path, *, key: str) -> Image:
    return Image(
        role="worker",
        name="worker",
        key=key,
        format="raw",
        directory=directory,
        base_digest="b" * 64,
        built_at="2026-11-25T00:00:00+00:00",
        inputs={"cluster.yaml: name": "squirrel", "base": "b" * 64},
    )


def cluster() -> ClusterRecipe:
    """That of the example."""
    return load_site(Path(__file__).parents[2]).cluster.recipe


def order(image: Image, name: str = NAME, *, is_full: bool = False) -> Order:
    return Order(
        image=image, cluster=cluster(), name=name, boot_mode="legacy-bios", carries="private key", is_full=is_full
    )


@dataclass
class Told:
    """What a run has said."""

    sentences: list[str]

    @property
    def watch(self) -> Watch:
        return Watch(
            on_step=self.sentences.append,
            say=self.sentences.append,
            on_estimate=lambda _: None,
            on_progress=lambda _: None,
            on_bytes=lambda _done, _whole: None,
        )


def account(limits: RetryLimits = LIMITS) -> Account:
    """The account that the environment describes."""
    return open_account(None, RetryBudget(limits))


def publish(wanted: Order, records: Path, limits: RetryLimits = LIMITS) -> Record:
    record = publish_on_ebs(wanted, account(limits), Records(directory=records), Told([]).watch)
    assert record is not None
    return record


def images() -> list[dict[str, Any]]:
    """The AMIs that the cloud has, all their attributes."""
    return [dict(row) for row in account().ec2.describe_images(Owners=["self"])["Images"]]


def snapshots() -> set[str]:
    """The ids of all snapshots that the cloud has, in whatever state."""
    return {row["SnapshotId"] for row in account().ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}


def content(snapshot_id: str, path: Path) -> bytes:
    """The volume of a snapshot."""
    client = open_services(account()).client
    read_snapshot(client, snapshot_id, path, size_bytes=DISK_BYTES, on_progress=lambda _: None)
    return path.read_bytes()


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """What a classic bundle is made with; `ec2` is the cloud's own certificate."""

    user: Path
    user_key: Path
    ec2: Path


BUCKET = "sge-squirrel"


def publish_classic(wanted: Order, records: Path, certificates: Certificates, limits: RetryLimits = LIMITS) -> Record:
    request = BundleRequest(
        name=wanted.image.name,
        user="123456789012",
        owner=read_pair(certificate=certificates.user, key=certificates.user_key),
        ec2=read_certificate(certificates.ec2),
    )
    place = BucketPlace(bucket=BUCKET, prefix="w1", region="us-east-1", account=request.user)
    bundling = BundleOrder(request=request, place=place, identity="both")
    watch = Told([]).watch
    record = publish_as_bundle(wanted, bundling, account(limits), Records(directory=records), watch)
    assert record is not None
    return record


def main(directory: Path, *classic: Path) -> int:
    """Register the image in `directory`, print its record; the exit code is that of `imgbuild`.

    With three more files, of Certificates, as a classic bundle.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wanted, records = order(image_in(directory, key=f"{0:064}")), directory / "records"
    try:
        if classic:
            user, user_key, ec2 = classic
            certificates = Certificates(user=user, user_key=user_key, ec2=ec2)
            record = publish_classic(wanted, records, certificates, RetryLimits())
        else:
            record = publish(wanted, records, RetryLimits())
    except ImgbuildError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(json.dumps({"ami": record.ami, "blocks_sent": record.blocks_sent}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
