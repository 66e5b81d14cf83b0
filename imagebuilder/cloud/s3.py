"""S3: rclone keeps the objects, and what rclone lacks is here: regions, access lists, who owns what, and strictness."""

import re
from collections.abc import Callable, Mapping
from xml.etree import ElementTree as ET

from imagebuilder.cloud.calls import Call
from imagebuilder.cloud.http_messages import Response
from imagebuilder.cloud.rclone import Rclone
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.regions import ACCOUNT, REGIONS
from imagebuilder.cloud.s3_access import AccessLists
from imagebuilder.cloud.s3_objects import Bucket, Objects
from imagebuilder.cloud.snapshots import utc_now

_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_BUCKET_NAME = re.compile(r"(?!.*\.\.)(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# What rclone carries out; the rest is done here, or refused.
_BY_RCLONE = {
    *("ListBuckets", "ListObjects", "ListObjectsV2", "GetObject", "HeadObject", "PutObject", "CopyObject"),
    *("DeleteObject", "DeleteObjects", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"),
    *("AbortMultipartUpload", "ListParts", "ListMultipartUploads", "DeleteBucket"),
}


class S3:
    """Carries out the calls of the service `s3`."""

    def __init__(self, objects: Objects, rclone: Rclone) -> None:
        self._objects = objects
        self._rclone = rclone
        access = AccessLists(objects)
        self._access = access
        self._own: Mapping[str, Callable[[Call, Bucket], Response]] = {
            "HeadBucket": lambda _call, bucket: Response(headers=[("x-amz-bucket-region", bucket.region)]),
            "GetBucketLocation": _location,
            "GetBucketAcl": lambda _call, _bucket: access.shown("private"),
            "GetObjectAcl": access.get,
            "PutObjectAcl": access.put,
            "GetBucketOwnershipControls": access.get_ownership,
            "PutBucketOwnershipControls": access.put_ownership,
            "DeleteBucketOwnershipControls": access.delete_ownership,
            "GetBucketVersioning": lambda _call, _bucket: xml(f"<VersioningConfiguration {_NAMESPACE}/>"),
        }

    def handle(self, call: Call) -> Response:
        """Carry out a call, whose signature has been checked. Raises Refusal."""
        if call.action == "ListBuckets":
            return self._rclone.forward(call.request)
        self._require_owner(call)
        if call.action == "CreateBucket":
            return self._create_bucket(call)
        bucket = self._objects.bucket(call.subject["Bucket"])
        if bucket.region != call.region:
            raise _elsewhere(bucket)
        if call.action in self._own:
            return self._own[call.action](call, bucket)
        if call.action not in _BY_RCLONE:
            message = "A header you provided implies functionality that is not implemented"
            raise Refusal(code="NotImplemented", message=f"{message} ({call.action})", status=501)
        return self._forward(call, bucket)

    def _require_owner(self, call: Call) -> None:
        expected = call.request.headers.get("x-amz-expected-bucket-owner", ACCOUNT)
        if expected != ACCOUNT:
            raise Refusal(code="AccessDenied", message="Access Denied", status=403)

    def _forward(self, call: Call, bucket: Bucket) -> Response:
        key = call.subject.get("Key", "")
        acl = self._access.wished(call, bucket)
        if call.request.headers.get("if-none-match") == "*" and self._objects.file(bucket.name, key):
            message = "At least one of the pre-conditions you specified did not hold"
            raise Refusal(code="PreconditionFailed", message=message, status=412, fields={"Condition": "If-None-Match"})
        response = self._rclone.forward(call.request)
        if response.status < 300:
            self._after(call, bucket, key, acl, response)
        return response

    def _after(self, call: Call, bucket: Bucket, key: str, acl: str | None, response: Response) -> None:
        """Remember what a call that rclone has carried out means for what rclone does not know."""
        match call.action:
            case "PutObject" | "CopyObject":
                self._objects.set_acl(bucket.name, key, acl)
            case "DeleteObject":
                self._objects.set_acl(bucket.name, key, None)
            case "CreateMultipartUpload" if acl is not None:
                body = response.body if isinstance(response.body, bytes | bytearray) else b"".join(response.body)
                response.body = body
                if found := re.search(rb"<UploadId>([^<]+)</UploadId>", body):
                    self._objects.set_upload_acl(bucket.name, found[1].decode(), acl)
            case "CompleteMultipartUpload" | "AbortMultipartUpload":
                begun_with = self._objects.set_upload_acl(bucket.name, call.request.query["uploadId"], None)
                if call.action == "CompleteMultipartUpload":
                    self._objects.set_acl(bucket.name, key, begun_with)
            case "DeleteBucket":
                self._objects.delete(bucket.name)

    def _create_bucket(self, call: Call) -> Response:
        name = call.subject["Bucket"]
        if not _BUCKET_NAME.fullmatch(name):
            raise Refusal(code="InvalidBucketName", message="The specified bucket is not valid.")
        region = _wished_region(call)
        ownership = call.request.headers.get("x-amz-object-ownership")
        with self._objects.lock:
            if self._objects.has(name):
                message = "Your previous request to create the named bucket succeeded and you already own it."
                raise Refusal(code="BucketAlreadyOwnedByYou", message=message, status=409)
            bucket = Bucket(name=name, region=region, created_at=utc_now())
            if ownership is not None:
                bucket = self._access.owned(bucket, ownership)
            if call.request.headers.get("x-amz-acl", "private") != "private":
                raise Refusal(code="InvalidBucketAclWithObjectOwnership", message="Bucket cannot have ACLs set")
            response = self._rclone.forward(call.request)
            if response.status < 300:
                self._objects.put(bucket)
        return response


def xml(text: str) -> Response:
    """An answer in XML."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return Response(headers=[("Content-Type", "application/xml")], body=body)


def _location(_call: Call, bucket: Bucket) -> Response:
    region = "" if bucket.region == "us-east-1" else bucket.region
    return xml(f"<LocationConstraint {_NAMESPACE}>{region}</LocationConstraint>")


def _elsewhere(bucket: Bucket) -> Refusal:
    return Refusal(
        code="PermanentRedirect",
        message="The bucket you are attempting to access must be addressed using the specified endpoint. "
        "Please send all future requests to this endpoint.",
        status=301,
        fields={"Endpoint": f"s3.{bucket.region}.amazonaws.com", "Bucket": bucket.name},
        headers=[("x-amz-bucket-region", bucket.region)],
    )


def _wished_region(call: Call) -> str:
    """The region of a new bucket: us-east-1 makes it anywhere, every other one at home, and wants that said."""
    body = bytes(call.request.body.read())
    wished = None
    if body:
        try:
            wished = ET.fromstring(body).findtext("{*}LocationConstraint")  # noqa: S314 - of a client that has the key
        except ET.ParseError as error:
            raise Refusal(code="MalformedXML", message="The XML you provided was not well-formed") from error
    if call.region == "us-east-1":
        region = wished or "us-east-1"
        if region not in REGIONS or wished == "us-east-1":
            raise Refusal(code="InvalidLocationConstraint", message="The specified location-constraint is not valid")
        return region
    if wished != call.region:
        which = f"{wished} location constraint" if wished else "unspecified location constraint"
        message = f"The {which} is incompatible for the region specific endpoint this request was sent to."
        raise Refusal(code="IllegalLocationConstraintException", message=message)
    return wished
