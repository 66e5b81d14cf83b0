"""The bucket that a bundle goes into: whether it can take one, and the few calls that put one there and away."""

import hashlib
import re
import shlex
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Literal, TypedDict, TypeVar

from imagebuilder.ec2.boto_failure import translated
from imagebuilder.ec2.call_failed import CallFailed
from imagebuilder.ec2.retry import Call, RetryBudget
from imagebuilder.errors import Leftover, LeftoversError, RemoteError, UsageError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

Answer = TypeVar("Answer")

# What lets EC2, which has an account of its own, read an object. A policy of the bucket cannot do this.
_ACL: Literal["aws-exec-read"] = "aws-exec-read"
# Eucalyptus and other stores that speak S3 have no ownership controls: their access lists are always in force.
_HAS_NO_CONTROLS = {"OwnershipControlsNotFoundError", "NotImplemented", "MethodNotAllowed"}
_PREFIX = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*)?")


class _Owned(TypedDict):
    """What every call names: with the owner, a bucket of somebody else's is never written to."""

    Bucket: str
    ExpectedBucketOwner: str


@dataclass(frozen=True, kw_only=True)
class BucketPlace:
    """Where in S3: the objects' names begin with `prefix`, a path without a slash at its ends, or empty.

    `region` is that of the AMI, and `account` its owner's number: the bucket must be theirs.
    """

    bucket: str
    prefix: str
    region: str
    account: str

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            fix = "use letters, digits and . _ -, with single slashes between"
            raise UsageError(f"{self.prefix!a} cannot be the prefix of a bundle", fix=fix)

    def key(self, file_name: str) -> str:
        """The name of an object."""
        return f"{self.prefix}/{file_name}" if self.prefix else file_name

    def location(self, file_name: str) -> str:
        """A file as RegisterImage names it in ImageLocation."""
        return f"{self.bucket}/{self.key(file_name)}"


class Bucket:
    """A bucket and the client to call; boto3's own attempts must be off. May be used by several threads.

    All methods raise RemoteError if the service refuses, or `budget` gives the call up.
    """

    def __init__(self, client: "S3Client", place: BucketPlace, budget: RetryBudget) -> None:
        self._client = client
        self.place = place
        self._budget = budget
        self._owned = _Owned(Bucket=place.bucket, ExpectedBucketOwner=place.account)
        self._url = f"s3://{place.bucket}"
        self._stopped = Event()

    def check(self) -> None:
        """Ask whether the bucket is there, of this account and region, and lets objects have access lists."""
        region = self._region()
        if region != self.place.region:
            fix = f"choose a bucket in {self.place.region}, or make the AMI in {region}"
            what = f"the bucket is in {region}, and EC2 reads a bundle only from its own region, {self.place.region}"
            raise RemoteError(what, where=self._url, fix=fix)
        if self._ownership() == "BucketOwnerEnforced":
            what = f"the bucket ignores access lists, and EC2 reads a bundle only by one ({_ACL})"
            controls = shlex.quote("Rules=[{ObjectOwnership=BucketOwnerPreferred}]")
            put = f"aws s3api put-bucket-ownership-controls --bucket {self.place.bucket}"
            raise RemoteError(what, where=self._url, fix=f"{put} --ownership-controls {controls}")

    def try_writing(self, file_name: str) -> None:
        """Write an empty object as the parts will be, and remove it: the only sure way to know what one may."""
        key = self.place.key(file_name)
        self.put(key, b"")
        try:
            self.delete(key)
        except RemoteError as error:
            raise LeftoversError(
                error.what, where=error.where, fix=error.fix, leftovers=[self.leftover(key)]
            ) from error

    def sizes(self, file_name_begins: str) -> dict[str, int]:
        """The objects whose names begin so, behind the prefix, and how many bytes each has."""
        begins = self.place.key(file_name_begins)
        sizes: dict[str, int] = {}
        last = ""
        while True:
            page = self._call("ListBucket", f"list {self._url}/{begins}*", partial(self._list, begins, last))
            sizes |= {found["Key"]: found["Size"] for found in page.get("Contents", [])}
            last = max(sizes, default="")
            if not page["IsTruncated"]:
                return sizes

    def put(self, key: str, content: bytes) -> None:
        """Write an object that EC2 may read; S3 checks its MD5 on arrival."""
        md5 = b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        self._call(
            "PutObject",
            f"write {self._url}/{key}",
            lambda: self._client.put_object(**self._owned, Key=key, Body=content, ACL=_ACL, ContentMD5=md5),
            sleep=self._pause,
        )

    def stop(self) -> None:
        """Have all that is being written fail rather than be tried again, for good."""
        self._stopped.set()

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine."""
        self._call(
            "DeleteObject", f"remove {self._url}/{key}", lambda: self._client.delete_object(**self._owned, Key=key)
        )

    def leftover(self, key: str) -> Leftover:
        """An object that nobody wants, and how to remove it by hand."""
        url = f"{self._url}/{key}"
        return Leftover(what=url, undo_command=f"aws s3 rm {shlex.quote(url)} --region {self.place.region}")

    def _region(self) -> str:
        account = self.place.account
        try:
            answer = self._call("ListBucket", f"look at {self._url}", lambda: self._client.head_bucket(**self._owned))
        except RemoteError as error:
            match error.__cause__:
                case CallFailed(status=404):
                    fix = f"aws s3api create-bucket --bucket {self.place.bucket} --region {self.place.region}"
                    raise RemoteError("there is no such bucket", where=self._url, fix=fix) from error
                case CallFailed(status=403):
                    what = f"the bucket is not of the account {account}, or these credentials may not list it"
                    fix = f"choose a bucket of {account}, or allow s3:ListBucket"
                    raise RemoteError(what, where=self._url, fix=fix) from error
            raise
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        if region := headers.get("x-amz-bucket-region"):
            return region
        location = self._call(
            "GetBucketLocation",
            f"ask where {self._url} is",
            lambda: self._client.get_bucket_location(**self._owned)["LocationConstraint"],
        )
        return {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(location, str(location))

    def _ownership(self) -> str:
        """Who owns what is written into the bucket; `BucketOwnerEnforced` where there are no access lists."""
        try:
            answer = self._call(
                "GetBucketOwnershipControls",
                f"ask whether {self._url} has access lists",
                lambda: self._client.get_bucket_ownership_controls(**self._owned),
            )
        except RemoteError as error:
            if isinstance(error.__cause__, CallFailed) and error.__cause__.code in _HAS_NO_CONTROLS:
                return "ObjectWriter"
            raise
        return answer["OwnershipControls"]["Rules"][0]["ObjectOwnership"]

    def _list(self, begins: str, behind: str) -> "ListObjectsV2OutputTypeDef":
        return self._client.list_objects_v2(**self._owned, Prefix=begins, StartAfter=behind)

    def _pause(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise RemoteError("was not tried again, since the run ends", where=self._url)

    def _call(
        self,
        action: str,
        what: str,
        call: Callable[[], Answer],
        *,
        sleep: Callable[[float], None] | None = None,
    ) -> Answer:
        def attempt() -> Answer:
            with translated():
                return call()

        return self._budget.run(Call(service="s3", action=action, what=what), attempt, sleep=sleep)
