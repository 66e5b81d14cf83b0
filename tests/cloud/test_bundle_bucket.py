"""Bundles that go to S3: what is asked first, what lands there, what is gone on with, and what is left."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagebuilder.ec2.bucket import Bucket, BucketPlace
from imagebuilder.ec2.bundle import Bundle, count_digits, write_bundle
from imagebuilder.ec2.bundle_bucket import OnError, journaled_key, open_bundle_bucket, remove_begun
from imagebuilder.ec2.bundle_directory import Existing
from imagebuilder.ec2.journal import Journal
from imagebuilder.ec2.retry import RetryBudget, RetryLimits, Surroundings
from imagebuilder.ec2.unbundle import open_manifest, unbundle
from imagebuilder.errors import Leftover, LeftoversError, RemoteError, UsageError
from imagebuilder.image.disk_reader import DiskReader
from tests.bundles import MIB, disk_of, noise, request, user
from tests.s3_endpoint import BUCKET, OWNER, Store, s3_bucket

SUBJECT = {"image": "4f729ee5", "bucket": BUCKET}
MANIFEST = "amis/worker.manifest.xml"
PARTS = ["amis/worker.part.0", "amis/worker.part.1", "amis/worker.part.2"]


@pytest.fixture
def store() -> Iterator[Store]:
    with s3_bucket() as store:
        yield store


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("image") / "disk.raw"


@pytest.fixture(scope="module")
def disk(image: Path) -> Iterator[DiskReader]:
    """An image that makes three parts."""
    with disk_of(image, 30 * MIB, [(MIB, noise(22 * MIB))]) as disk:
        yield disk


def bucket_of(store: Store, **place: str) -> Bucket:
    at = {"bucket": BUCKET, "prefix": "amis", "region": "us-east-1", "account": OWNER, **place}
    budget = RetryBudget(RetryLimits(attempts=3), Surroundings(now=time.monotonic, sleep=lambda _s: None))
    return Bucket(store.client(), BucketPlace(**at), budget)


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One run that sends the image on `disk`."""

    store: Store
    disk: DiskReader
    directory: Path
    existing: Existing = "refuse"
    on_error: OnError = "clean"

    def journal(self) -> Journal:
        return Journal.open(self.directory / "journal", SUBJECT, on_other=lambda _old: None)

    def run(self) -> tuple[Bundle, int]:
        """The bundle, and how many parts were sent."""
        bucket = bucket_of(self.store)
        with self.journal() as journal:
            asked = request(key=journaled_key(journal, user().private))
            digits = count_digits(self.disk, asked)
            with open_bundle_bucket(
                bucket, "worker", digits, journal, existing=self.existing, on_error=self.on_error
            ) as sink:
                return write_bundle(self.disk, asked, sink), sink.parts_sent


@pytest.fixture
def upload(store: Store, disk: DiskReader, tmp_path: Path) -> Upload:
    return Upload(store=store, disk=disk, directory=tmp_path)


def denied(call_begins: str, status: int = 403, code: str = "AccessDenied") -> Callable[[str], tuple[int, str] | None]:
    return lambda call: (status, code) if call.startswith(call_begins) else None


def test_what_lands_in_the_bucket_is_a_whole_bundle(upload: Upload, store: Store, image: Path, tmp_path: Path) -> None:
    upload.run()

    (tmp_path / "fetched").mkdir()
    written = [(tmp_path / "fetched" / Path(key).name).write_bytes(body) for key, body in store.objects.items()]
    unbundle(open_manifest(tmp_path / "fetched/worker.manifest.xml", user().private), tmp_path / "image.raw")

    assert len(written) == 4
    assert (tmp_path / "image.raw").read_bytes() == image.read_bytes()
    assert set(store.acls.values()) == {"aws-exec-read"}


def test_the_manifest_comes_last_and_the_parts_before_it_in_order(upload: Upload, store: Store) -> None:
    upload.run()

    puts = [call.removeprefix("PutObject ") for call in store.asked if call.startswith("PutObject")]

    assert sorted(puts) == [MANIFEST, *PARTS]
    assert puts[-1] == MANIFEST


def test_a_bucket_that_can_take_a_bundle_passes(store: Store) -> None:
    bucket = bucket_of(store)

    bucket.check()
    bucket.try_writing("worker.probe")

    assert store.asked == [
        "HeadBucket",
        "GetBucketOwnershipControls",
        "PutObject amis/worker.probe",
        "DeleteObject amis/worker.probe",
    ]


def test_a_bucket_from_before_ownership_controls_passes(store: Store) -> None:
    store.ownership = None

    bucket_of(store).check()

    assert store.count("GetBucketOwnershipControls") == 1


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ({"bucket": "missing"}, "there is no such bucket\n  fix: aws s3api create-bucket --bucket missing"),
        ({"account": "999999999999"}, "the bucket is not of the account 999999999999"),
        ({"region": "eu-west-1"}, "the bucket is in us-east-1, and EC2 reads a bundle only from its own region"),
    ],
)
def test_a_bucket_that_will_not_do_is_found_out_first(store: Store, place: dict[str, str], what: str) -> None:
    with pytest.raises(RemoteError, match=what):
        bucket_of(store, **place).check()


def test_a_bucket_without_access_lists_is_found_out_first(store: Store) -> None:
    store.ownership = "BucketOwnerEnforced"

    with pytest.raises(RemoteError, match="the bucket ignores access lists") as refused:
        bucket_of(store).check()

    assert refused.value.fix == (
        "aws s3api put-bucket-ownership-controls --bucket images "
        "--ownership-controls 'Rules=[{ObjectOwnership=BucketOwnerPreferred}]'"
    )


def test_a_key_that_may_not_write_is_found_out_by_trying(store: Store) -> None:
    store.refuse = denied("PutObject")

    with pytest.raises(RemoteError, match=r"write s3://images/amis/worker\.probe: AccessDenied"):
        bucket_of(store).try_writing("worker.probe")


def test_a_key_that_may_not_delete_leaves_the_probe_and_says_so(store: Store) -> None:
    store.refuse = denied("DeleteObject")

    with pytest.raises(LeftoversError) as refused:
        bucket_of(store).try_writing("worker.probe")

    assert refused.value.leftovers == (
        Leftover(
            what="s3://images/amis/worker.probe",
            undo_command="aws s3 rm s3://images/amis/worker.probe --region us-east-1",
        ),
    )


@pytest.mark.parametrize("prefix", ["/amis", "amis/", "a//b", "../amis", "a b", "a/./b"])
def test_a_prefix_that_would_need_care_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError, match="cannot be the prefix"):
        BucketPlace(bucket=BUCKET, prefix=prefix, region="us-east-1", account=OWNER)


def test_register_image_is_told_bucket_and_key() -> None:
    places = [
        BucketPlace(bucket=BUCKET, prefix=prefix, region="us-east-1", account=OWNER).location("w.manifest.xml")
        for prefix in ("", "a/b")
    ]

    assert places == ["images/w.manifest.xml", "images/a/b/w.manifest.xml"]


def test_a_bundle_that_is_there_is_not_overwritten(upload: Upload, store: Store) -> None:
    store.objects = {MANIFEST: b"old", "amis/worker.part.7": b"old", "amis/worker.parts-list": b"mine"}

    with pytest.raises(UsageError, match=r"a bundle of this name is there: amis/worker\.manifest\.xml"):
        upload.run()

    assert (store.objects[MANIFEST], store.count("PutObject"), store.count("DeleteObject")) == (b"old", 0, 0)


def test_a_bundle_is_replaced_on_request_manifest_first(store: Store, disk: DiskReader, tmp_path: Path) -> None:
    store.objects = {MANIFEST: b"old", "amis/worker.part.7": b"old", "amis/worker.parts-list": b"mine"}

    Upload(store=store, disk=disk, directory=tmp_path, existing="replace").run()

    assert sorted(store.objects) == [MANIFEST, *PARTS, "amis/worker.parts-list"]
    changes = [call for call in store.asked if call.startswith(("Put", "Delete"))]
    assert changes[0] == f"DeleteObject {MANIFEST}"


def test_a_call_that_fails_for_a_moment_is_tried_again(upload: Upload, store: Store) -> None:
    failures = iter([(503, "SlowDown"), (500, "InternalError")])
    store.refuse = lambda call: next(failures, None) if call == f"PutObject {PARTS[1]}" else None

    upload.run()

    assert store.count(f"PutObject {PARTS[1]}") == 3
    assert sorted(store.objects) == [MANIFEST, *PARTS]


@pytest.mark.parametrize("failing", [PARTS[0], PARTS[2], MANIFEST])
def test_an_upload_that_fails_leaves_nothing_there(upload: Upload, store: Store, failing: str) -> None:
    store.refuse = denied(f"PutObject {failing}")

    with pytest.raises(RemoteError, match=f"write s3://images/{failing}: AccessDenied") as failed:
        upload.run()

    assert (type(failed.value), failed.value.exit_code) == (RemoteError, 6)
    assert store.objects == {}


def test_what_cannot_be_removed_is_listed_with_the_command_that_does(upload: Upload, store: Store) -> None:
    store.refuse = lambda call: (403, "AccessDenied") if call.startswith(("PutObject amis/worker.m", "Del")) else None

    with pytest.raises(LeftoversError, match="write s3://images/amis/worker") as failed:
        upload.run()

    assert failed.value.exit_code == 7
    assert [left.what for left in failed.value.leftovers] == [f"s3://images/{key}" for key in (MANIFEST, *PARTS)]
    assert failed.value.leftovers[1].undo_command == f"aws s3 rm s3://images/{PARTS[0]} --region us-east-1"


class Interrupted(DiskReader):
    """A disk whose reader is interrupted when it comes to the third part."""

    def __init__(self, disk: DiskReader) -> None:
        super().__init__(size_bytes=disk.size_bytes, extents=disk.extents, descriptors=disk._descriptors)

    def read_into(self, start: int, buffer: memoryview) -> None:
        if start >= 22 * MIB:
            raise KeyboardInterrupt
        super().read_into(start, buffer)


def test_an_interrupted_upload_leaves_nothing_there(store: Store, disk: DiskReader, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Upload(store=store, disk=Interrupted(disk), directory=tmp_path).run()

    assert (store.count("PutObject amis/worker.part"), store.objects) == (2, {})


def test_an_interrupted_upload_is_gone_on_with(store: Store, disk: DiskReader, tmp_path: Path) -> None:
    with pytest.raises(LeftoversError, match="interrupted\n  fix: run the same command again") as kept:
        Upload(store=store, disk=Interrupted(disk), directory=tmp_path, on_error="keep").run()
    there = dict(store.objects)

    _, parts_sent = Upload(store=store, disk=disk, directory=tmp_path).run()

    assert [left.what for left in kept.value.leftovers] == [f"s3://images/{key}" for key in PARTS[:2]]
    assert sorted(store.objects) == [MANIFEST, *PARTS]
    assert there.items() < store.objects.items()
    assert parts_sent == 1


def test_parts_that_were_sent_are_not_sent_again(upload: Upload, store: Store) -> None:
    upload.run()
    del store.objects[PARTS[1]]  # gone meanwhile: only this one is sent

    _, parts_sent = upload.run()

    assert parts_sent == 1
    assert sorted(store.objects) == [MANIFEST, *PARTS]


def test_a_bundle_whose_registration_failed_is_removed_by_its_journal(upload: Upload, store: Store) -> None:
    upload.run()

    with upload.journal() as journal:
        remove_begun(bucket_of(store), journal)

    assert store.objects == {}


def test_the_journal_has_no_secret_and_is_for_its_owner_only(upload: Upload, tmp_path: Path) -> None:
    upload.run()

    with upload.journal() as journal:
        key = journaled_key(journal, user().private)
    text = (tmp_path / "journal").read_bytes()

    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600
    assert [secret.reveal() in text for secret in (key.key, key.iv)] == [False, False]
    assert [bytes.fromhex(secret.reveal().decode()) in text for secret in (key.key, key.iv)] == [False, False]
