"""Disks to upload, and accounts in a local cloud to upload them to."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path

import boto3

from imagebuilder.cloud import RunningCloud
from imagebuilder.ec2.account import Account as Ec2Account
from imagebuilder.ec2.block_digests import BlockDigests
from imagebuilder.ec2.block_sender import Progress
from imagebuilder.ec2.ebs import BLOCK_BYTES
from imagebuilder.ec2.journal import Journal
from imagebuilder.ec2.retry import RetryBudget, RetryLimits
from imagebuilder.ec2.services import open_services
from imagebuilder.ec2.upload import Reports, Services, SnapshotRequest, UploadedSnapshot, upload_snapshot
from imagebuilder.image.disk_reader import DiskReader, Extent
from imagebuilder.secret import Secret

ZEROS = bytes(BLOCK_BYTES)
DISK_BYTES = 64 * BLOCK_BYTES
REGION = "us-east-1"


def block(seed: int) -> bytes:
    """A block like no other."""
    return seed.to_bytes(8, "big") * (BLOCK_BYTES // 8)


def write_disk(path: Path, blocks: Mapping[int, bytes]) -> None:
    """A raw disk of DISK_BYTES with these blocks; what comes between is a hole."""
    with path.open("wb") as stream:
        stream.truncate(DISK_BYTES)
        for index, content in blocks.items():
            stream.seek(index * BLOCK_BYTES)
            stream.write(content)


@contextmanager
def reading(path: Path, indexes: Mapping[int, object]) -> Iterator[DiskReader]:
    """The disk, of which these blocks are allocated."""
    starts = [index * BLOCK_BYTES for index in sorted(indexes)]
    extents = [Extent(start=start, length=BLOCK_BYTES, file=0, offset=start) for start in starts]
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield DiskReader(size_bytes=DISK_BYTES, extents=extents, descriptors=[descriptor])
    finally:
        os.close(descriptor)


def account(cloud: RunningCloud, limits: RetryLimits | None = None) -> Services:
    """The services of the cloud, with patience for seconds only."""
    session = _session(cloud.credentials.access_key_id, cloud.credentials.secret)
    budget = RetryBudget(limits or RetryLimits(attempt_timeout_s=1, patience_s=20, new_s=3))
    return open_services(_OnCloud(session, REGION, budget, endpoint=cloud.endpoint))


@cache  # it keeps the models that it has read, which takes half a second
def _session(access_key: str, secret: Secret) -> boto3.Session:
    return boto3.Session(
        aws_access_key_id=access_key, aws_secret_access_key=secret.reveal().decode(), region_name=REGION
    )


class _OnCloud(Ec2Account):
    """The account at an endpoint that stands in no environment: the tests of one process have several."""

    def __init__(self, session: boto3.Session, region: str, budget: RetryBudget, *, endpoint: str) -> None:
        super().__init__(session, region, budget)
        self.ec2 = session.client("ec2", endpoint_url=endpoint, config=self._config)
        self.ebs_endpoint = endpoint


class Told:
    """What an upload has reported."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.progress: list[Progress] = []

    @property
    def reports(self) -> Reports:
        return Reports(say=self.said.append, on_progress=self.progress.append)


def upload(
    services: Services, path: Path, blocks: Mapping[int, bytes], request: SnapshotRequest | None = None
) -> UploadedSnapshot:
    """Write a disk with these blocks to `path` and upload it, with a journal beside it."""
    write_disk(path, blocks)
    return upload_again(services, path, blocks, request)


def upload_again(
    services: Services,
    path: Path,
    blocks: Mapping[int, bytes],
    request: SnapshotRequest | None = None,
    told: Told | None = None,
) -> UploadedSnapshot:
    """Upload the disk at `path` as it is."""
    with reading(path, blocks) as disk, journal_beside(path) as journal:
        return upload_snapshot(
            disk,
            request or SnapshotRequest(volume_gib=1),
            services,
            journal=journal,
            reports=(told or Told()).reports,
        )


def journal_beside(path: Path) -> Journal:
    def refuse(_other: Journal) -> None:
        raise AssertionError("the journal is of the same disk")

    return Journal.open(path.with_suffix(".journal"), {"disk": str(path)}, on_other=refuse)


def digests_of(blocks: Mapping[int, bytes]) -> dict[int, bytes]:
    return {index: sha256(content).digest() for index, content in blocks.items()}


def puts(cloud: RunningCloud, *, since: int) -> list[int]:
    """The indexes of the blocks that the cloud has taken, ascending; one that was taken twice is there twice."""
    calls = cloud.requests(since=since)
    return sorted(
        int(str(call["BlockIndex"])) for call in calls if call["action"] == "PutSnapshotBlock" and call["status"] == 201
    )


def record(snapshot: UploadedSnapshot) -> BlockDigests:
    """What is kept of a snapshot."""
    return BlockDigests.from_bytes(snapshot.digests.to_bytes())
