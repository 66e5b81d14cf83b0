"""The two services that an upload needs, of one account: the EBS direct APIs, and EC2 for the snapshots themselves."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.ec2.account import Account
from imagebuilder.ec2.block_digests import SnapshotState
from imagebuilder.ec2.ebs import EbsClient
from imagebuilder.ec2.preflight import NO_SNAPSHOT
from imagebuilder.ec2.snapshots import delete_snapshot, find_snapshot
from imagebuilder.ec2.upload import Services

_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class _Snapshots:
    account: Account

    def state(self, snapshot_id: str) -> SnapshotState | None:
        snapshot = find_snapshot(self.account, snapshot_id)
        if snapshot is None:
            return None
        return SnapshotState(
            status=snapshot.state,
            volume_gib=snapshot.volume_bytes // _GIB,
            tags=snapshot.tags,
            message=snapshot.message,
            is_encrypted=snapshot.is_encrypted,
        )

    def delete(self, snapshot_id: str, *, made_at: float | None) -> None:
        delete_snapshot(self.account, snapshot_id, made_at=made_at)


def open_services(account: Account) -> Services:
    """Both services, with the account's credentials and out of its retry budget. Makes no call."""
    bundle = os.environ.get("AWS_CA_BUNDLE")
    client = EbsClient(
        account.ebs_endpoint,
        region=account.region,
        credentials=account.credentials,
        budget=account.budget,
        ca_bundle=Path(bundle) if bundle else None,
    )
    return Services(client=client, snapshots=_Snapshots(account=account))


def probes(services: Services) -> Mapping[str, Callable[[], object]]:
    """The smallest real calls of the EBS direct APIs, for a snapshot that does not exist; see `require_permissions`.

    Whether StartSnapshot and PutSnapshotBlock are allowed shows only when they are called: they have no smaller call.
    """
    client = services.client
    return {
        "ebs:ListSnapshotBlocks": lambda: next(iter(client.list_blocks(NO_SNAPSHOT)), None),
        "ebs:CompleteSnapshot": lambda: client.complete_snapshot(NO_SNAPSHOT, digests={}),
    }
