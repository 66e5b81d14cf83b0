"""boto3 as the client of a cloud: one try a call, so that a test sees each answer."""

from base64 import b64encode
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, TypedDict

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from imagebuilder.cloud import RunningCloud, Tuning

if TYPE_CHECKING:
    from mypy_boto3_ebs import EBSClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sts import STSClient

BLOCK = 524_288
# Nothing takes time, and nothing is too much.
AT_ONCE = Tuning(
    snapshot_visible_after_s=0,
    snapshot_completes_after_s=0,
    image_visible_after_s=0,
    image_available_after_s=0,
    starts_a_second=10_000,
    completes_a_second=10_000,
    lists_a_second=10_000,
    describes_at_once=10_000,
    changes_at_once=10_000,
)


# One for all: it keeps the models of the services, which take long to read.
_SESSION = boto3.Session()


class _Options(TypedDict):
    endpoint_url: str
    region_name: str
    aws_access_key_id: str
    aws_secret_access_key: str
    aws_session_token: str | None
    config: Config


@dataclass(frozen=True)
class Clients:
    """The clients of a cloud, in one region."""

    cloud: RunningCloud
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret: str | None = None
    session_token: str | None = None
    """Others than the right ones."""
    read_timeout_s: float = 60

    @property
    def _options(self) -> "_Options":
        # What cannot be must reach the cloud, to be refused there.
        retries = {"total_max_attempts": 1}
        config = Config(
            parameter_validation=False,
            retries=retries,  # type: ignore[arg-type]
            read_timeout=self.read_timeout_s,
            signature_version="v4",  # presigned URLs of S3 would else have version 2
        )
        credentials = self.cloud.credentials
        return {
            "endpoint_url": self.cloud.endpoint,
            "region_name": self.region,
            "aws_access_key_id": self.access_key_id or credentials.access_key_id,
            "aws_secret_access_key": self.secret or credentials.secret.reveal().decode(),
            "aws_session_token": self.session_token,
            "config": config,
        }

    @cached_property
    def ec2(self) -> "EC2Client":
        return _SESSION.client("ec2", **self._options)

    @cached_property
    def ebs(self) -> "EBSClient":
        return _SESSION.client("ebs", **self._options)

    @cached_property
    def kms(self) -> "KMSClient":
        return _SESSION.client("kms", **self._options)

    @cached_property
    def s3(self) -> "S3Client":
        return _SESSION.client("s3", **self._options)

    @cached_property
    def sts(self) -> "STSClient":
        return _SESSION.client("sts", **self._options)

    def start(self, size_gib: int = 1) -> str:
        """A new pending snapshot."""
        return self.ebs.start_snapshot(VolumeSize=size_gib)["SnapshotId"]

    def put(self, snapshot: str, index: int, content: bytes) -> None:
        """Put a block as it should be put."""
        self.ebs.put_snapshot_block(
            SnapshotId=snapshot,
            BlockIndex=index,
            BlockData=content,
            DataLength=len(content),
            Checksum=checksum(content),
            ChecksumAlgorithm="SHA256",
        )

    def snapshot(self, *blocks: bytes, size_gib: int = 1, parent: str | None = None) -> str:
        """A completed snapshot with these blocks from index 0 on."""
        options = {"ParentSnapshotId": parent} if parent else {}
        snapshot = self.ebs.start_snapshot(VolumeSize=size_gib, **options)["SnapshotId"]  # type: ignore[arg-type]
        for index, content in enumerate(blocks):
            self.put(snapshot, index, content)
        self.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=len(blocks))
        return snapshot

    def image(self, name: str, snapshot: str | None = None, **options: object) -> str:
        """A registered image."""
        return self.ec2.register_image(**registration(name, snapshot or self.snapshot(), **options))["ImageId"]

    def read(self, snapshot: str) -> dict[int, bytes]:
        """All blocks of a snapshot."""
        listed = self.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]
        return {
            block["BlockIndex"]: self.ebs.get_snapshot_block(
                SnapshotId=snapshot, BlockIndex=block["BlockIndex"], BlockToken=block["BlockToken"]
            )["BlockData"].read()
            for block in listed
        }


def checksum(content: bytes) -> str:
    return b64encode(sha256(content).digest()).decode()


def block(letter: bytes) -> bytes:
    """A block full of one letter."""
    return letter * BLOCK


def registration(name: str, snapshot: str, **options: object):  # type: ignore[no-untyped-def]
    """The parameters of RegisterImage for a worker's image, but for `options`; one that is None is left out."""
    parameters = {
        "Name": name,
        "Architecture": "x86_64",
        "VirtualizationType": "hvm",
        "RootDeviceName": "/dev/xvda",
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
        **options,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def refused(code: str, match: str = "") -> "pytest.RaisesExc[ClientError]":
    """A block in which a call is refused with this code."""
    return pytest.raises(ClientError, match=rf"\({code}\).*{match}")


def state_of(cloud: RunningCloud, snapshot: str, region: str = "us-east-1") -> dict[str, object]:
    """What the cloud says of a snapshot, beside AWS."""
    shown = cloud.state()
    return shown["regions"][region]["snapshots"][snapshot]  # type: ignore[index, no-any-return]
