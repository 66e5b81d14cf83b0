"""What EC2 knows of EBS snapshots, and what can be done to them; their blocks are for the EBS direct APIs."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from imagebuilder.ec2.account import Account, failure_code
from imagebuilder.ec2.ami import Snapshot
from imagebuilder.ec2.rows import filter_rows, tag_mapping
from imagebuilder.errors import RemoteError

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import SnapshotTypeDef

_GIB = 1 << 30
_BELIEVED_S = 20.0
_GONE = {"InvalidSnapshot.NotFound", "InvalidSnapshotID.Malformed"}


def find_snapshots(account: Account, *, filters: Mapping[str, Sequence[str]]) -> tuple[Snapshot, ...]:
    """The account's own snapshots that all `filters` fit."""
    request = {"OwnerIds": ["self"], "Filters": filter_rows(filters)}
    pages = account.pages("DescribeSnapshots", "own snapshots", account.ec2.describe_snapshots, request)
    return tuple(_snapshot(row) for page in pages for row in page["Snapshots"])


def find_snapshot(account: Account, snapshot_id: str, *, made_at: float | None = None) -> Snapshot | None:
    """The snapshot with this id, or None; `made_at`: see RetryBudget.run."""
    ask = partial(account.ec2.describe_snapshots, SnapshotIds=[snapshot_id])
    try:
        rows = account.call("DescribeSnapshots", snapshot_id, ask, made_at=made_at)["Snapshots"]
    except RemoteError as error:
        if failure_code(error) in _GONE:
            return None
        raise
    return _snapshot(rows[0]) if rows else None


def delete_snapshot(account: Account, snapshot_id: str, *, made_at: float | None = None) -> None:
    """Delete a snapshot, pending or not; that it is gone already is no error. `made_at`: see RetryBudget.run.

    EC2 may believe for some seconds that an AMI which is gone still has it.
    """
    ask = partial(account.ec2.delete_snapshot, SnapshotId=snapshot_id)
    began = account.budget.now()

    def attempt() -> bool | None:
        try:
            account.call("DeleteSnapshot", snapshot_id, ask, made_at=made_at)
        except RemoteError as error:
            if failure_code(error) == "InvalidSnapshot.InUse" and account.budget.now() - began < _BELIEVED_S:
                return None
            if failure_code(error) not in _GONE:
                raise
        return True

    account.wait(attempt, what=snapshot_id, wanted="deleted", timeout_s=_BELIEVED_S + 1)


def is_encrypted_by_default(account: Account) -> bool:
    """Whether the account encrypts each new snapshot in this region, asked or not."""
    ask = account.ec2.get_ebs_encryption_by_default
    return account.call("GetEbsEncryptionByDefault", account.region, ask)["EbsEncryptionByDefault"]


def _snapshot(row: "SnapshotTypeDef") -> Snapshot:
    return Snapshot(
        id=row["SnapshotId"],
        state=row["State"],
        volume_bytes=row["VolumeSize"] * _GIB,
        is_encrypted=row.get("Encrypted", False),
        started_at=row["StartTime"],
        message=row.get("StateMessage", ""),
        tags=tag_mapping(row.get("Tags", [])),
    )
