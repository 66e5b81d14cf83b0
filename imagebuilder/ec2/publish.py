"""Registers an image as an AMI on EBS: one snapshot and one AMI, or nothing; on from where a killed run was."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from imagebuilder.ec2.account import Account
from imagebuilder.ec2.ami import KEY, Ami, BootMode, ami_tags
from imagebuilder.ec2.block_digests import CHECKSUM_TAG
from imagebuilder.ec2.block_sender import Coverage, Progress
from imagebuilder.ec2.call_failed import CallFailed, Trouble
from imagebuilder.ec2.ebs import BLOCK_BYTES
from imagebuilder.ec2.images import (
    Encryption,
    Registration,
    deprecate,
    find_amis,
    find_made,
    register,
    tag,
    wait_for_ami,
)
from imagebuilder.ec2.journal import Journal, Value
from imagebuilder.ec2.preflight import NO_SNAPSHOT, Estimate, estimate, require_permissions, require_quota
from imagebuilder.ec2.records import Record, Records
from imagebuilder.ec2.services import open_services, probes
from imagebuilder.ec2.snapshot_journal import begun_snapshot, delete_begun
from imagebuilder.ec2.snapshots import is_encrypted_by_default
from imagebuilder.ec2.undo import undoing, undone_by, undone_on_failure
from imagebuilder.ec2.upload import Reports, Services, SnapshotRequest, upload_snapshot, verified_parent
from imagebuilder.errors import HostError, RemoteError
from imagebuilder.image.disk_reader import DiskReader, open_disk
from imagebuilder.image.store import Image
from imagebuilder.recipe.cluster import ClusterRecipe

_GIB = 1 << 30
AVAILABLE_S = 1800.0  # an AMI on a completed snapshot is available in seconds


@dataclass(frozen=True, kw_only=True)
class Order:
    """The AMI that is wanted. `carries` names the secrets in the image.

    `is_full` sends all blocks in any case; `is_dry_run` asks all that is asked before the first byte, and stops. From
    `deprecate_at` on EC2 shows the AMI to nobody but its owner, who can go on using it.
    """

    image: Image
    cluster: ClusterRecipe
    name: str
    boot_mode: BootMode
    carries: str
    coverage: Coverage = "allocated"
    encryption: Encryption | None = None
    is_full: bool = False
    is_dry_run: bool = False
    deprecate_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How a run tells what it does: its steps, what there is to know, and how far the upload is."""

    on_step: Callable[[str], None]
    say: Callable[[str], None]
    on_estimate: Callable[[Estimate], None]
    on_progress: Callable[[Progress], None]
    on_bytes: Callable[[int, int], None]
    """The same of a bundle: how many bytes of the image are done, and how many there are."""


def publish_on_ebs(order: Order, account: Account, records: Records, watch: Watch) -> Record | None:
    """The AMI of the order's image, which is there already or is made; None of a dry run that would make it.

    Nobody else may use the records meanwhile.

    Raises RemoteError if that fails, with all undone, or LeftoversError with what could not be undone.
    """
    began = time.monotonic()
    watch.on_step(f"look for {order.name} in {account.region}")
    there = find_registered(order, account, records)
    if there is not None and order.is_dry_run:
        return record_of(order, there, Sent(), began)
    if there is not None:
        _forget_other(order, there, account, records)
        records.journal(order.name).unlink(missing_ok=True)
        ami = wait_for_ami(account, there.id, timeout_s=AVAILABLE_S)
        return keep_record(order, ami, Sent(), records, began)
    services = open_services(account)
    with open_disk(order.image.disk, order.image.format) as disk:
        volume_gib = -(-disk.size_bytes // _GIB)
        watch.on_step("ask what is allowed")
        require_permissions(
            account, registration_of(order, snapshot_id=NO_SNAPSHOT, volume_gib=volume_gib), probes(services)
        )
        require_quota(account)
        request = _with_parent(_request(order, volume_gib, account, watch), order, services, records, watch)
        watch.on_estimate(_estimate(disk, request, records))
        if order.is_dry_run:
            return None
        with (
            _open_journal(order, request, account, records) as journal,
            undone_by(partial(_delete_begun, journal, undoing(account)), journal),
        ):
            watch.on_step("upload the image")
            reports = Reports(say=watch.say, on_progress=watch.on_progress)
            uploaded = upload_snapshot(disk, request, services, journal=journal, reports=reports)
            records.write_digests(uploaded.digests)
            watch.on_step("register the AMI")
            tag(account, [uploaded.id], {CHECKSUM_TAG: uploaded.checksum})
            registration = registration_of(order, snapshot_id=uploaded.id, volume_gib=volume_gib)
            sent = Sent(blocks=uploaded.blocks_sent, size_bytes=uploaded.bytes_sent)
            record = make_ami(order, registration, account, lambda ami: keep_record(order, ami, sent, records, began))
            journal.remove()
            return record


def find_registered(order: Order, account: Account, records: Records) -> Ami | None:
    """The AMI that has the order's name, if it is of the same image. Raises RemoteError if it is not."""
    known = {record.ami for record in records.all() if record.key == order.image.key}
    journal = records.journal(order.name)
    journaled = journal.read_text(encoding="utf-8") if journal.is_file() else ""
    for ami in find_amis(account, filters={"name": [order.name]}):
        is_same = ami.tags.get(KEY) == order.image.key or ami.id in known
        if is_same or any(snapshot_id in journaled for snapshot_id in ami.snapshot_ids):
            return ami
        if ami.name == order.name:
            fix = "choose another name with --name, or remove that AMI"
            raise RemoteError(f"another AMI, {ami.id}, has the name '{order.name}'", where=account.region, fix=fix)
    return None


def make_ami(order: Order, registration: Registration, account: Account, keep: Callable[[Ami], Record]) -> Record:
    """Register the AMI, wait until it is available, and `keep` it; if any of that fails, it is removed again."""
    with undone_on_failure(account) as undo:
        undo.may_make(partial(find_made, registration=registration))
        ami_id = register(account, registration)
        undo.made(ami_id)
        if order.deprecate_at is not None:
            deprecate(account, ami_id, order.deprecate_at)
        record = keep(wait_for_ami(account, ami_id, timeout_s=AVAILABLE_S))
        undo.keep()
    return record


def _request(order: Order, volume_gib: int, account: Account, watch: Watch) -> SnapshotRequest:
    """The snapshot as the account makes it: one may encrypt each, asked or not."""
    encryption = order.encryption
    if encryption is None and _encrypts_by_default(account, watch):
        watch.say(f"this account encrypts each snapshot in {account.region}: the whole volume is sent")
        encryption = Encryption()
    return SnapshotRequest(
        volume_gib=volume_gib,
        description=f"imgbuild {order.name}",
        tags=ami_tags(order.image, order.cluster, order.carries),
        coverage=order.coverage if encryption is None else "everything",
        encrypted=encryption is not None,
        kms_key=encryption.kms_key if encryption else None,
    )


def _encrypts_by_default(account: Account, watch: Watch) -> bool:
    try:
        return is_encrypted_by_default(account)
    except RemoteError as error:
        match error.__cause__:
            case CallFailed(trouble=Trouble.DENIED | Trouble.REFUSED | Trouble.NOT_FOUND):
                watch.say(f"{error.what}: taken for an account that encrypts only what it is told to")
                return False
        raise


def _with_parent(
    request: SnapshotRequest, order: Order, services: Services, records: Records, watch: Watch
) -> SnapshotRequest:
    """On top of the newest snapshot of an image on the same base, if its blocks are known and still what they were."""
    if request.encrypted or order.is_full:
        return request
    for record in records.all():
        digests = records.digests(record) if record.base_digest == order.image.base_digest else None
        if digests is not None and digests.volume_gib == request.volume_gib:
            return replace(request, parent=verified_parent(digests, services, say=watch.say))
    return request


def _estimate(disk: DiskReader, request: SnapshotRequest, records: Records) -> Estimate:
    """What is to be sent. With a parent: what the image's own overlay has, which is about what differs."""
    earlier = [record.bytes_per_s for record in records.all() if record.bytes_per_s]
    if request.coverage == "everything":
        blocks = request.volume_gib * _GIB // BLOCK_BYTES
    elif request.parent is not None:
        own = [extent for extent in disk.extents if extent.file == 0]
        blocks = len({start // BLOCK_BYTES for extent in own for start in range(extent.start, extent.end, BLOCK_BYTES)})
    else:
        blocks = sum(1 for _ in disk.allocated_blocks(BLOCK_BYTES))
    return estimate(blocks, earlier[0] if earlier else None)


def registration_of(
    order: Order, *, snapshot_id: str | None = None, volume_gib: int = 0, image_location: str | None = None
) -> Registration:
    """What the order's AMI is registered with, from a snapshot or from a bundle."""
    return Registration(
        name=order.name,
        description=f"{order.image.role} of the cluster {order.cluster.name}, made by imgbuild",
        architecture="x86_64",
        boot_mode=order.boot_mode,
        tags=ami_tags(order.image, order.cluster, order.carries),
        snapshot_id=snapshot_id,
        volume_gib=volume_gib,
        image_location=image_location,
    )


@contextmanager
def _open_journal(order: Order, request: SnapshotRequest, account: Account, records: Records) -> Iterator[Journal]:
    """The journal of just this upload; what one of another upload of the name tells of is undone first."""
    subject: dict[str, Value] = {
        "name": order.name,
        "key": order.image.key,
        "region": account.region,
        "endpoint": account.ebs_endpoint,
        "volume_gib": request.volume_gib,
        "coverage": request.coverage,
        "parent": request.parent.snapshot_id if request.parent else None,
        "encrypted": request.encrypted,
        "kms_key": request.kms_key,
    }
    path = records.journal(order.name)
    with Journal.open(path, subject, on_other=lambda other: _delete_begun(other, account)) as journal:
        yield journal


def _forget_other(order: Order, ami: Ami, account: Account, records: Records) -> None:
    """Delete the snapshot that a killed run of the order has begun, if the AMI was then made of another."""
    journal = Journal.read(records.journal(order.name))
    if journal is None:
        return
    with journal:
        begun = begun_snapshot(journal)
        if begun is not None and begun.snapshot_id not in ami.snapshot_ids:
            _delete_begun(journal, account)


def _delete_begun(journal: Journal, account: Account) -> None:
    services = open_services(account)
    with suppress(HostError):  # the disk is full, and the journal cannot say any more that the snapshot is gone
        delete_begun(journal, client=services.client, snapshots=services.snapshots)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a run has sent; an AMI that was there already has cost nothing."""

    blocks: int = 0
    size_bytes: int = 0


def keep_record(order: Order, ami: Ami, sent: Sent, records: Records, began: float) -> Record:
    """Note what came of it; `began` is by time.monotonic."""
    record = record_of(order, ami, sent, began)
    if sent.size_bytes or not any(known.ami == record.ami for known in records.all()):
        records.write(record)
    return record


def record_of(order: Order, ami: Ami, sent: Sent, began: float) -> Record:
    """What came of it; `began` is by time.monotonic."""
    return Record(
        ami=ami.id,
        snapshot=ami.snapshot_ids[0] if ami.snapshot_ids else None,
        name=ami.name,
        region=ami.region,
        key=order.image.key,
        base_digest=order.image.base_digest,
        blocks_sent=sent.blocks,
        bytes_sent=sent.size_bytes,
        seconds=round(time.monotonic() - began, 2),
        registered_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
