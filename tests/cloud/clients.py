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


class Ebs(TypedDict, total=False):
    """The volume of a device."""

    SnapshotId: str
    VolumeSize: int


@dataclass(frozen=True)
class Clients:
    """The clients of a cloud, in one region."""

    cloud: RunningCloud
    region: str = "us-east-1"
    secret: str | None = None
    """Another one than the right one."""

    @cached_property
    def _session(self) -> boto3.Session:
        credentials = self.cloud.credentials
        return boto3.Session(
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=self.secret or credentials.secret.reveal().decode(),
            region_name=self.region,
        )

    @property
    def _config(self) -> Config:
        return Config(parameter_validation=False, retries={"total_max_attempts": 1}, read_timeout=5, connect_timeout=5)

    @cached_property
    def ec2(self) -> "EC2Client":
        return self._session.client("ec2", endpoint_url=self.cloud.endpoint, config=self._config)

    @cached_property
    def ebs(self) -> "EBSClient":
        return self._session.client("ebs", endpoint_url=self.cloud.endpoint, config=self._config)

    @cached_property
    def s3(self) -> "S3Client":
        return self._session.client("s3", endpoint_url=self.cloud.endpoint, config=self._config)

    @cached_property
    def sts(self) -> "STSClient":
        return self._session.client("sts", endpoint_url=self.cloud.endpoint, config=self._config)

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
