"""Registers an image as a classic bundle: parts and manifest in S3, one AMI on them, or nothing."""

import time
from dataclasses import dataclass, replace
from functools import partial

from imagebuilder.ec2.account import Account
from imagebuilder.ec2.ami import Ami
from imagebuilder.ec2.bucket import Bucket, BucketPlace
from imagebuilder.ec2.bundle import PART_BYTES, BundleRequest, check_request, count_digits, write_bundle
from imagebuilder.ec2.bundle_bucket import journaled_key, objects_of_bundle, open_bundle_bucket, remove_begun
from imagebuilder.ec2.bundle_directory import Existing
from imagebuilder.ec2.images import wait_for_ami
from imagebuilder.ec2.journal import Journal, Value
from imagebuilder.ec2.manifest import manifest_name
from imagebuilder.ec2.preflight import require_permissions
from imagebuilder.ec2.publish import (
    AVAILABLE_S,
    Order,
    Sent,
    Watch,
    find_registered,
    keep_record,
    make_ami,
    record_of,
    registration_of,
)
from imagebuilder.ec2.records import Record, Records
from imagebuilder.ec2.undo import undone_by
from imagebuilder.image.disk_reader import open_disk


@dataclass(frozen=True, kw_only=True)
class BundleOrder:
    """How the order's image is bundled, and where it goes.

    `identity` is a digest of the certificates of its owner and of EC2.
    """

    request: BundleRequest
    place: BucketPlace
    identity: str
    may_replace: bool = False


def publish_as_bundle(
    order: Order, bundling: BundleOrder, account: Account, records: Records, watch: Watch
) -> Record | None:
    """The AMI of the order's image, which is there already or is made; None of a dry run that would make it.

    Nobody else may use the records meanwhile. Raises RemoteError if that fails, with all undone, or LeftoversError with
    what could not be undone.
    """
    began = time.monotonic()
    watch.on_step(f"look for {order.name} in {account.region}")
    journal_file = records.journal(f"{order.name}.bundle")
    bucket = Bucket(account.s3, bundling.place, account.budget)
    with open_disk(order.image.disk, order.image.format) as disk:
        check_request(bundling.request, disk.size_bytes)
        there = find_registered(order, account, records)
        if there is not None and order.is_dry_run:
            return record_of(order, there, Sent(), began)
        if there is not None:
            journal_file.unlink(missing_ok=True)
            return keep_record(order, wait_for_ami(account, there.id, timeout_s=AVAILABLE_S), Sent(), records, began)
        watch.on_step("ask what is allowed")
        bucket.check()
        registration = registration_of(
            order, image_location=bundling.place.location(manifest_name(bundling.request.name))
        )
        require_permissions(account, registration, {})
        if order.is_dry_run:
            return None
        bucket.try_writing(f"{bundling.request.name}.probe")
        with Journal.open(
            records.journal(f"{order.name}.bundle"),
            _subject(order, bundling),
            on_other=partial(_remove_other, account=account),
        ) as journal:
            request = replace(bundling.request, key=journaled_key(journal, bundling.request.owner))
            watch.on_step("count the parts")
            digits = count_digits(disk, request, on_progress=watch.on_bytes)
            watch.on_step("bundle and upload the image")
            existing: Existing = "replace" if bundling.may_replace else "refuse"
            with open_bundle_bucket(bucket, request.name, digits, journal, existing=existing) as sink:
                bundle = write_bundle(disk, request, sink, on_progress=watch.on_bytes)
            size = min(sink.parts_sent * PART_BYTES, bundle.manifest.bundled_bytes)
            watch.on_step("register the AMI")
            sent = Sent(blocks=sink.parts_sent, size_bytes=size)
            with undone_by(partial(remove_begun, bucket, journal), journal):
                record = make_ami(
                    order, registration, account, lambda ami: keep_record(order, ami, sent, records, began)
                )
            journal.remove()
            return record


def remove_bundle(ami: Ami, account: Account) -> None:
    """Remove the manifest and the parts that an AMI was registered from, which is gone. Raises RemoteError."""
    bucket_name, _, key = ami.location.partition("/")
    prefix, _, manifest = key.rpartition("/")
    place = BucketPlace(bucket=bucket_name, prefix=prefix, region=ami.region, account=ami.owner_id)
    bucket = Bucket(account.s3, place, account.budget)
    for found in objects_of_bundle(bucket, manifest.removesuffix(manifest_name(""))):
        bucket.delete(found)


def _subject(order: Order, bundling: BundleOrder) -> dict[str, Value]:
    """What the journal is of; the bundle's key in it must be used for one content only."""
    return {
        "name": order.name,
        "key": order.image.key,
        "written_ns": order.image.disk.stat().st_mtime_ns,
        "bundle": bundling.request.name,
        "effort": bundling.request.effort,
        "identity": bundling.identity,
        "bucket": bundling.place.bucket,
        "prefix": bundling.place.prefix,
        "region": bundling.place.region,
        "account": bundling.place.account,
    }


def _remove_other(journal: Journal, account: Account) -> None:
    """Remove what a killed run of another bundle, or to another place, has left."""
    said = {name: str(value) for name, value in journal.subject.items()}
    place = BucketPlace(bucket=said["bucket"], prefix=said["prefix"], region=said["region"], account=said["account"])
    remove_begun(Bucket(account.in_region(place.region).s3, place, account.budget), journal)
