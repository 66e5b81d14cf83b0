"""S3 as the place of a bundle: parts go there as they are made, the manifest last; going on with it, and undoing it.

The run's journal tells what is there. It has the bundle's key, too, encrypted for the owner as in the manifest: with
the same key the same image makes the same parts, and those that an interrupted run has sent need not be sent again.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from imagebuilder.ec2.bucket import Bucket
from imagebuilder.ec2.bundle_directory import Existing
from imagebuilder.ec2.ciphers import BundleKey, PrivateKey, new_bundle_key
from imagebuilder.ec2.journal import Journal
from imagebuilder.ec2.manifest import manifest_name, part_name
from imagebuilder.errors import ImgbuildError, LeftoversError, RemoteError, UsageError

_KEY, _BEGUN, _SENT, _REMOVED = "bundle-key", "bundle-object-begun", "bundle-part-sent", "bundle-object-removed"

# Parts of 10 MiB that are on their way at once, each a copy: enough to fill a gigabit from far away.
_SENDERS = 4

OnError = Literal["clean", "keep"]


def journaled_key(journal: Journal, owner: PrivateKey) -> BundleKey:
    """The key that the bundle of this journal was begun with, or a new one, noted.

    The journal must be of this very image: two images under one key and vector would tell where they are alike.
    """
    noted = journal.last(_KEY)
    if noted is not None:
        return owner.unwrap(key=str(noted.values["user_key"]), iv=str(noted.values["user_iv"]))
    key = new_bundle_key()
    journal.note(_KEY, user_key=owner.public.wrap(key.key), user_iv=owner.public.wrap(key.iv))
    return key


@dataclass(kw_only=True)
class BundleBucket:
    """Takes a bundle (see `PartSink`); made by `open_bundle_bucket`."""

    bucket: Bucket
    name: str
    digits: int
    journal: Journal
    there: Mapping[str, int]
    """The bundle's objects that were there at the beginning, and their sizes."""
    pool: ThreadPoolExecutor
    parts_sent: int = 0
    """How many parts this run has sent; the others were there."""

    def __post_init__(self) -> None:
        self._sent = {event.values["key"]: event.values["sha1"] for event in self.journal.events(_SENT)}
        self._under_way: deque[tuple[str, str, Future[None]]] = deque()

    def take(self, index: int, content: memoryview, sha1: str) -> None:
        """Begin to send part `index`, unless it is there; waits while enough others are under way."""
        key = self.bucket.place.key(part_name(self.name, index, self.digits))
        if self._sent.get(key) == sha1 and self.there.get(key) == len(content):
            return
        while len(self._under_way) >= _SENDERS:
            self._finish_first()
        self.journal.note(_BEGUN, key=key)
        self._under_way.append((key, sha1, self.pool.submit(self.bucket.put, key, bytes(content))))
        self.parts_sent += 1

    def finish(self, names: tuple[str, ...], manifest_file: str, manifest: bytes) -> None:
        """Wait for the parts, then send the manifest. Parts of an older bundle that it does not name are removed."""
        while self._under_way:
            self._finish_first()
        manifest_key = self.bucket.place.key(manifest_file)
        named = {self.bucket.place.key(name) for name in names}
        for key in sorted(set(self.there) - named - {manifest_key}):
            self.bucket.delete(key)
        self.journal.note(_BEGUN, key=manifest_key)
        self.bucket.put(manifest_key, manifest)

    def settle(self) -> None:
        """Begin no more, wait for what is on its way, and note what arrived: for a run that ends early."""
        self.bucket.stop()
        self.pool.shutdown(cancel_futures=True)
        for key, sha1, sending in self._under_way:
            if not sending.cancelled() and sending.exception() is None:
                self.journal.note(_SENT, key=key, sha1=sha1)

    def _finish_first(self) -> None:
        key, sha1, sending = self._under_way[0]
        sending.result()
        self.journal.note(_SENT, key=key, sha1=sha1)
        self._under_way.popleft()


@contextmanager
def open_bundle_bucket(  # noqa: PLR0913 - what is sent, where to, and what to do with what is or was there
    bucket: Bucket,
    name: str,
    digits: int,
    journal: Journal,
    *,
    existing: Existing = "refuse",
    on_error: OnError = "clean",
) -> Iterator[BundleBucket]:
    """A sink for the bundle `name`, whose parts are numbered in `digits` digits (see `count_digits`).

    Raises UsageError if objects of such a bundle are there that the journal knows nothing of. If the block ends early,
    all that the journal tells of is removed again; what could not be, or with "keep" was not to be, is listed by a
    LeftoversError.
    """
    there = objects_of_bundle(bucket, name)
    begun = _begun(journal)
    foreign = sorted(set(there) - begun)
    if foreign and existing == "refuse":
        fix = "choose another prefix or name, or have it replaced; an AMI that is registered from it would break"
        raise UsageError(f"a bundle of this name is there: {foreign[0]}", where=f"s3://{bucket.place.bucket}", fix=fix)
    manifest = bucket.place.key(manifest_name(name))
    if manifest in there:  # it would name parts that are about to change
        bucket.delete(manifest)
    with ThreadPoolExecutor(_SENDERS, "send") as pool:
        sink = BundleBucket(bucket=bucket, name=name, digits=digits, journal=journal, there=there, pool=pool)
        try:
            yield sink
        except BaseException as error:
            _clean_up(sink, error, on_error)
            raise


def objects_of_bundle(bucket: Bucket, name: str) -> dict[str, int]:
    """The manifest and the parts of the bundle `name` that are there, whole or not, and their sizes."""
    pattern = re.compile(rf"{re.escape(manifest_name(name))}|{re.escape(name)}\.part\.[0-9]+")
    found = bucket.sizes(f"{name}.")
    return {key: size for key, size in found.items() if pattern.fullmatch(key.rpartition("/")[2])}


def remove_begun(bucket: Bucket, journal: Journal) -> None:
    """Remove every object that the journal tells of, the manifest first; LeftoversError lists those that stay.

    Also for a caller whose next step failed, such as RegisterImage.
    """
    failed: list[str] = []
    reason: RemoteError | None = None
    for key in sorted(_begun(journal), key=lambda key: (not key.endswith(".xml"), key)):
        try:
            bucket.delete(key)
        except RemoteError as error:
            failed.append(key)
            reason = error
        else:
            journal.note(_REMOVED, key=key)
    if reason is not None:
        leftovers = map(bucket.leftover, failed)
        raise LeftoversError(reason.what, where=reason.where, fix=reason.fix, leftovers=leftovers) from reason


def _begun(journal: Journal) -> set[str]:
    """The objects that are there, as far as the journal knows, or may be."""
    begun: set[str] = set()
    for event in journal.events(_BEGUN, _REMOVED):
        key = str(event.values["key"])
        begun = begun | {key} if event.kind == _BEGUN else begun - {key}
    return begun


def _clean_up(sink: BundleBucket, error: BaseException, on_error: OnError) -> None:
    """Raises LeftoversError if anything stays, which says first why the run has ended."""
    fix = error.fix if isinstance(error, ImgbuildError) else None
    try:
        sink.settle()
        if on_error == "clean":
            remove_begun(sink.bucket, sink.journal)
        else:
            fix = "run the same command again: it goes on with what is there"
    except (KeyboardInterrupt, LeftoversError):  # interrupted once more: then it stays, but is told
        pass
    if left := sorted(_begun(sink.journal)):
        what = error.what if isinstance(error, ImgbuildError) else str(error) or "interrupted"
        where = error.where if isinstance(error, ImgbuildError) else None
        raise LeftoversError(what, where=where, fix=fix, leftovers=map(sink.bucket.leftover, left)) from error
