"""One call of the cloud: which service and action it is for, and what the request log keeps of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from imagebuilder.cloud.http_messages import Request

_FORM = "application/x-www-form-urlencoded"
# The scope in the header Authorization, or in a presigned URL, where its slashes are encoded.
_SCOPE = re.compile(
    r"Credential=[^/%, ]+(?:/|%2F)\d{8}(?:/|%2F)([a-z0-9-]+)(?:/|%2F)([a-z0-9-]+)(?:/|%2F)aws4_request", re.I
)


@dataclass(kw_only=True)
class Call:
    """A request, and what it asks for."""

    request: Request
    request_id: str
    service: str
    region: str
    action: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Of a service that is asked by a form: what is in it."""
    subject: dict[str, str] = field(default_factory=dict)
    """What it is about, for the request log: ids, names, an index; nothing secret."""


def read_call(request: Request, request_id: str) -> Call | None:
    """What a request asks for; None if it does not say for which service it is meant."""
    scope = _SCOPE.search(request.headers.get("authorization", "") or request.target)
    if scope is None:
        return None
    region, service = scope.groups()
    call = Call(request=request, request_id=request_id, service=service, region=region, action="")
    match service:
        case "ebs":
            call.action, call.subject = _ebs_action(request)
        case "s3":
            call.action, call.subject = _s3_action(request)
        case _ if request.headers.get("content-type", "").startswith(_FORM) or "Action" in request.query:
            text = bytes(request.body.read()).decode(errors="replace")
            call.parameters = {**request.query, **dict(parse_qsl(text, keep_blank_values=True))}
            call.action = call.parameters.get("Action", "")
            call.subject = {name: value for name, value in call.parameters.items() if _SUBJECT.fullmatch(name)}
        case _:
            call.action = request.headers.get("x-amz-target", request.path).rpartition(".")[2]
    return call


_SUBJECT = re.compile(
    r"(?:ImageId|SnapshotId|SourceImageId|InstanceId|ResourceId|Owner)(?:\.\d+)?|Name|ClientToken|DryRun|ImageLocation"
)

_EBS_PATHS = (
    ("POST", re.compile(r"/snapshots"), "StartSnapshot"),
    ("PUT", re.compile(r"/snapshots/([^/]+)/blocks/([^/]+)"), "PutSnapshotBlock"),
    ("GET", re.compile(r"/snapshots/([^/]+)/blocks/([^/]+)"), "GetSnapshotBlock"),
    ("POST", re.compile(r"/snapshots/completion/([^/]+)"), "CompleteSnapshot"),
    ("GET", re.compile(r"/snapshots/([^/]+)/blocks"), "ListSnapshotBlocks"),
    ("GET", re.compile(r"/snapshots/([^/]+)/changedblocks"), "ListChangedBlocks"),
)


def _ebs_action(request: Request) -> tuple[str, dict[str, str]]:
    for method, path, action in _EBS_PATHS:
        found = path.fullmatch(request.path)
        if found and method == request.method:
            names = ("SnapshotId", "BlockIndex")
            return action, dict(zip(names, map(unquote, found.groups()), strict=False))
    return "", {}


# What a query says about a bucket or an object, for which no name of an action stands in the request.
_S3_SUBRESOURCES = {
    "acl": "Acl",
    "location": "BucketLocation",
    "ownershipControls": "BucketOwnershipControls",
    "uploads": "MultipartUploads",
    "versioning": "BucketVersioning",
    "tagging": "Tagging",
    "policy": "BucketPolicy",
    "publicAccessBlock": "PublicAccessBlock",
    "encryption": "BucketEncryption",
}
_S3_VERBS = {"GET": "Get", "PUT": "Put", "DELETE": "Delete", "HEAD": "Head", "POST": "Post"}


def _s3_action(request: Request) -> tuple[str, dict[str, str]]:
    bucket, _, key = unquote(request.path).lstrip("/").partition("/")
    subject = {name: value for name, value in (("Bucket", bucket), ("Key", key)) if value}
    verb = _S3_VERBS.get(request.method, request.method)
    if not bucket:
        return "ListBuckets", {}
    special = _s3_special(request, verb, has_key=bool(key))
    if special is not None:
        return special, subject
    if key:
        copy = request.method == "PUT" and "x-amz-copy-source" in request.headers
        return "CopyObject" if copy else f"{verb}Object", subject
    return {"GET": "ListObjects", "PUT": "CreateBucket"}.get(request.method, f"{verb}Bucket"), subject


def _s3_special(request: Request, verb: str, *, has_key: bool) -> str | None:
    query = request.query
    if "uploadId" in query:
        parts = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}
        return parts.get(request.method, "ListParts")
    if "uploads" in query:
        return "CreateMultipartUpload" if request.method == "POST" else "ListMultipartUploads"
    if request.method == "POST" and "delete" in query:
        return "DeleteObjects"
    if query.get("list-type") == "2":
        return "ListObjectsV2"
    for name, what in _S3_SUBRESOURCES.items():
        if name in query:
            thing = "Object" if has_key else "Bucket"
            return f"{verb}{thing}{what}" if what in {"Acl", "Tagging"} else f"{verb}{what}"
    return None
