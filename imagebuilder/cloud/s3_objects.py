"""What S3 has beside the objects themselves: the regions, owners and access lists of buckets and objects."""

import hashlib
import threading
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from imagebuilder.cloud.refusals import Refusal
from imagebuilder.whole_files import write_whole

ENFORCED = "BucketOwnerEnforced"


class Bucket(BaseModel):
    """What is known of a bucket."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    region: str
    created_at: datetime
    ownership: str | None = ENFORCED
    """Who owns what is put into it; a new bucket knows no access lists. None after DeleteBucketOwnershipControls."""
    acls: dict[str, str] = {}
    """The canned access list of each object that has one other than `private`."""
    upload_acls: dict[str, str] = {}
    """Those of the multipart uploads that are under way, by their ids."""

    @property
    def knows_acls(self) -> bool:
        """Whether its objects can have access lists."""
        return self.ownership not in {None, ENFORCED}


class Objects:
    """The buckets, kept in `directory`, and the objects, which rclone keeps as files in `files`."""

    def __init__(self, directory: Path, files: Path) -> None:
        self._directory = directory
        self._files = files
        self.lock = threading.RLock()
        """Held by who looks at a bucket to then change it."""
        directory.mkdir(parents=True, exist_ok=True)
        files.mkdir(parents=True, exist_ok=True)
        buckets = (Bucket.model_validate_json(path.read_bytes()) for path in directory.glob("*.json"))
        self._buckets = {bucket.name: bucket for bucket in buckets}

    def bucket(self, name: str) -> Bucket:
        """The bucket with this name. Raises Refusal if there is none."""
        bucket = self._buckets.get(name)
        if bucket is None:
            message, fields = "The specified bucket does not exist", {"BucketName": name}
            raise Refusal(code="NoSuchBucket", message=message, status=404, fields=fields)
        return bucket

    def has(self, name: str) -> bool:
        """Whether there is such a bucket."""
        return name in self._buckets

    def put(self, bucket: Bucket) -> None:
        """Take in a new bucket, or replace what is known of one."""
        with self.lock:
            write_whole(
                self._directory / f"{bucket.name}.json", bucket.model_dump_json(indent=1).encode(), survives="kill"
            )
            self._buckets[bucket.name] = bucket

    def delete(self, name: str) -> None:
        """Forget a bucket."""
        with self.lock:
            self._buckets.pop(name, None)
            (self._directory / f"{name}.json").unlink(missing_ok=True)

    def set_acl(self, bucket_name: str, key: str, acl: str | None) -> None:
        """Remember the access list of an object; None or `private` for the one that needs no remembering."""
        with self.lock:
            bucket = self.bucket(bucket_name)
            acls = {name: value for name, value in bucket.acls.items() if name != key}
            if acl not in {None, "private"}:
                acls[key] = str(acl)
            if acls != bucket.acls:
                self.put(bucket.model_copy(update={"acls": acls}))

    def set_upload_acl(self, bucket_name: str, upload_id: str, acl: str | None) -> str | None:
        """Remember the access list of a multipart upload, or with None forget it; gives the one there was."""
        with self.lock:
            bucket = self.bucket(bucket_name)
            before = bucket.upload_acls.get(upload_id)
            acls = {name: value for name, value in bucket.upload_acls.items() if name != upload_id}
            if acl is not None:
                acls[upload_id] = acl
            if acls != bucket.upload_acls:
                self.put(bucket.model_copy(update={"upload_acls": acls}))
            return before

    def file(self, bucket_name: str, key: str) -> Path | None:
        """The file that holds an object, or None if there is no such object."""
        root = self._files / bucket_name
        path = root / key
        inside = path.resolve().is_relative_to(root.resolve())
        return path if inside and path.is_file() else None

    def all(self) -> dict[str, dict[str, int]]:
        """The objects of each bucket, with their sizes in bytes."""
        return {
            name: {
                str(path.relative_to(self._files / name)): path.stat().st_size
                for path in sorted((self._files / name).rglob("*"))
                if path.is_file() and not path.name.startswith(".rclone_temp")
            }
            for name in sorted(self._buckets)
        }


def sha1_of(path: Path) -> str:
    """The SHA-1 of a file, in hex: what manifests of bundles have."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
