"""Access lists of S3: canned ones, and only in buckets that have been told to know them."""

from xml.etree import ElementTree as ET

from imagebuilder.cloud.calls import Call
from imagebuilder.cloud.http_messages import Response
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.s3_objects import ENFORCED, Bucket, Objects

_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_INSTANCE = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
_OWNER = "0000000000000000000000000000000000000000000000000000000000000001"
# The canonical user that S3's guide gives for EC2's reading of bundles.
_EC2 = "6aa5a366c34c1cbe25dc49211496e913e0351eb0e8c37aa3477e40942ec6b97c"
_ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
_AUTHENTICATED = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
# Whom each canned list lets read, beside the owner.
_READERS = {
    "private": None,
    "bucket-owner-full-control": None,
    "bucket-owner-read": None,
    "public-read": _ALL_USERS,
    "authenticated-read": _AUTHENTICATED,
    "aws-exec-read": _EC2,
}
# Those that let EC2 read an object.
READABLE_TO_EC2 = ("aws-exec-read", "public-read", "authenticated-read")
_OWNERSHIPS = (ENFORCED, "BucketOwnerPreferred", "ObjectWriter")


class AccessLists:
    """The access lists of the objects, and which buckets know them."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def wished(self, call: Call, bucket: Bucket) -> str | None:
        """The canned list that a call asks for. Raises Refusal if there is none such, or the bucket knows none."""
        headers = call.request.headers
        acl = headers.get("x-amz-acl")
        if any(name.startswith("x-amz-grant-") for name in headers):
            raise Refusal(code="NotImplemented", message="This cloud knows canned access lists only", status=501)
        if acl is None:
            return None
        if acl not in _READERS:
            raise Refusal(code="InvalidArgument", message=f"Unknown x-amz-acl: {acl}")
        # What changes nothing is allowed everywhere.
        if not bucket.knows_acls and acl != "bucket-owner-full-control":
            raise Refusal(code="AccessControlListNotSupported", message="The bucket does not allow ACLs")
        return acl

    def get(self, call: Call, bucket: Bucket) -> Response:
        """GetObjectAcl."""
        self._require_object(bucket, call.subject["Key"])
        return self.shown(bucket.acls.get(call.subject["Key"], "private"))

    def put(self, call: Call, bucket: Bucket) -> Response:
        """PutObjectAcl, with a canned list."""
        acl = self.wished(call, bucket)
        if acl is None:
            if not bucket.knows_acls:
                raise Refusal(code="AccessControlListNotSupported", message="The bucket does not allow ACLs")
            raise Refusal(code="NotImplemented", message="This cloud knows canned access lists only", status=501)
        self._require_object(bucket, call.subject["Key"])
        self._objects.set_acl(bucket.name, call.subject["Key"], acl)
        return Response()

    def _require_object(self, bucket: Bucket, key: str) -> None:
        if self._objects.file(bucket.name, key) is None:
            message = "The specified key does not exist."
            raise Refusal(code="NoSuchKey", message=message, status=404, fields={"Key": key})

    def shown(self, acl: str) -> Response:
        """A canned list as GetObjectAcl and GetBucketAcl give it."""
        grants = _grant("CanonicalUser", f"<ID>{_OWNER}</ID>", "FULL_CONTROL")
        reader = _READERS[acl]
        if reader is not None:
            kind, tag = ("CanonicalUser", "ID") if reader == _EC2 else ("Group", "URI")
            grants += _grant(kind, f"<{tag}>{reader}</{tag}>", "READ")
        owner = f"<Owner><ID>{_OWNER}</ID></Owner>"
        body = f"<AccessControlPolicy {_NAMESPACE}>{owner}<AccessControlList>{grants}</AccessControlList>"
        return Response(headers=[("Content-Type", "application/xml")], body=f"{body}</AccessControlPolicy>".encode())

    def owned(self, bucket: Bucket, ownership: str) -> Bucket:
        """The bucket with another rule of who owns its objects."""
        if ownership not in _OWNERSHIPS:
            raise Refusal(code="InvalidArgument", message=f"Invalid x-amz-object-ownership header: {ownership}")
        return bucket.model_copy(update={"ownership": ownership})

    def get_ownership(self, _call: Call, bucket: Bucket) -> Response:
        """GetBucketOwnershipControls."""
        if bucket.ownership is None:
            message, fields = "The bucket ownership controls were not found", {"BucketName": bucket.name}
            raise Refusal(code="OwnershipControlsNotFoundError", message=message, status=404, fields=fields)
        rule = f"<Rule><ObjectOwnership>{bucket.ownership}</ObjectOwnership></Rule>"
        body = f"<OwnershipControls {_NAMESPACE}>{rule}</OwnershipControls>"
        return Response(headers=[("Content-Type", "application/xml")], body=body.encode())

    def put_ownership(self, call: Call, bucket: Bucket) -> Response:
        """PutBucketOwnershipControls."""
        try:
            document = ET.fromstring(bytes(call.request.body.read()))  # noqa: S314 - of a client that has the key
        except ET.ParseError as error:
            raise Refusal(code="MalformedXML", message="The XML you provided was not well-formed") from error
        wished = document.findtext("{*}Rule/{*}ObjectOwnership")
        if wished not in _OWNERSHIPS:
            raise Refusal(code="MalformedXML", message="The XML you provided did not validate against our schema")
        self._objects.put(self.owned(bucket, wished))
        return Response()

    def delete_ownership(self, _call: Call, bucket: Bucket) -> Response:
        """DeleteBucketOwnershipControls."""
        self._objects.put(bucket.model_copy(update={"ownership": None}))
        return Response(status=204)


def _grant(kind: str, who: str, permission: str) -> str:
    grantee = f'<Grantee {_INSTANCE} xsi:type="{kind}">{who}</Grantee>'
    return f"<Grant>{grantee}<Permission>{permission}</Permission></Grant>"
