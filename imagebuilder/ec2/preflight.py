"""Whether a registration can succeed, asked before its first byte: permissions, the name, quotas; and what it costs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from imagebuilder.ec2.account import Account
from imagebuilder.ec2.call_failed import CallFailed, Trouble
from imagebuilder.ec2.ebs import BLOCK_BYTES
from imagebuilder.ec2.images import Registration, registration_request
from imagebuilder.ec2.rows import tag_rows
from imagebuilder.ec2.snapshots import find_snapshots
from imagebuilder.errors import RemoteError

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import RegisterImageRequestTypeDef

# https://aws.amazon.com/ebs/pricing, us-east-1; other regions are up to half as much again.
_USD_PER_PUT = 0.006 / 1000
_USD_PER_GIB_MONTH = 0.05
_GIB = 1 << 30

# Pending snapshots that an account may have (EBS quotas).
_MOST_PENDING = 100
# Of a snapshot and an AMI that never are: that a call is allowed shows in its failing for want of them.
NO_SNAPSHOT = "snap-0f0f0f0f0f0f0f0f0"
_NO_AMI = "ami-0f0f0f0f0f0f0f0f0"

# Until there is an upload to go by: a good line from a home or an office.
_ASSUMED_BYTES_PER_S = 10e6


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What an upload comes to: blocks to send, US dollars for sending them, and a month of keeping them; seconds."""

    blocks: int
    upload_usd: float
    month_usd: float
    expected_s: float

    @property
    def size_bytes(self) -> int:
        """All that is to be sent."""
        return self.blocks * BLOCK_BYTES


def estimate(blocks: int, bytes_per_s: float | None) -> Estimate:
    """What it comes to to send `blocks`, at the speed of an earlier upload if there was one."""
    size = blocks * BLOCK_BYTES
    return Estimate(
        blocks=blocks,
        upload_usd=blocks * _USD_PER_PUT,
        month_usd=size / _GIB * _USD_PER_GIB_MONTH,
        expected_s=size / (bytes_per_s or _ASSUMED_BYTES_PER_S),
    )


def require_permissions(
    account: Account, registration: Registration, others: Mapping[str, Callable[[], object]]
) -> None:
    """Ask whether these credentials may do all that a registration needs, its undoing included.

    EC2 is asked by DryRun. `others` are the smallest real calls of other services by name, each for something that
    does not exist. Raises RemoteError that names all that is denied, or says that the credentials are no good.
    """
    ec2 = account.ec2
    request: RegisterImageRequestTypeDef = {**registration_request(registration), "DryRun": True}
    tags = tag_rows(registration.tags)
    dry_runs: Mapping[str, Callable[[], object]] = {
        "ec2:RegisterImage": partial(ec2.register_image, **request),
        "ec2:CreateTags": partial(ec2.create_tags, Resources=[NO_SNAPSHOT], Tags=tags, DryRun=True),
        "ec2:DeregisterImage": partial(ec2.deregister_image, ImageId=_NO_AMI, DryRun=True),
        "ec2:DeleteSnapshot": partial(ec2.delete_snapshot, SnapshotId=NO_SNAPSHOT, DryRun=True),
    }
    denied: list[str] = []
    for name, ask in {**dry_runs, **others}.items():
        service, _, action = name.partition(":")
        try:
            account.call(action, "permission", ask, service=service)
        except RemoteError as error:
            match error.__cause__:
                case CallFailed(trouble=Trouble.DENIED):
                    denied.append(name)
                case CallFailed(trouble=Trouble.REFUSED | Trouble.NOT_FOUND):
                    pass  # allowed: it fails for another reason, as it is meant to
                case _:
                    raise
    if denied:
        fix = "allow them to these credentials in their IAM policy; docs/ami.md has one"
        raise RemoteError(f"not allowed: {', '.join(denied)}", where=account.region, fix=fix)


def require_quota(account: Account) -> None:
    """Raise RemoteError if the account has as many unfinished snapshots as it may have."""
    pending = find_snapshots(account, filters={"status": ["pending"]})
    if len(pending) >= _MOST_PENDING:
        fix = "wait, or remove some: `imgbuild ami prune --unfinished`"
        raise RemoteError(f"{len(pending)} snapshots are pending, and no more may be", where=account.region, fix=fix)


def price_words(costs: Estimate) -> str:
    """The estimate in words."""
    minutes, seconds = divmod(round(costs.expected_s), 60)
    took = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    size = f"{costs.blocks:,} blocks, {costs.size_bytes / 1e6:,.0f} MB"
    return f"{size}: about {took}, ${costs.upload_usd:.4f} to send and ${costs.month_usd:.2f} a month to keep"
