"""A bucket on this machine that speaks the S3 that a bundle needs, checks what it is sent, and fails when told to."""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OWNER = "123456789012"
BUCKET = "images"
PAGE = 2  # keys in a page of a listing, so that there are pages


@dataclass(kw_only=True)
class Store:
    """What the bucket holds, what it was asked, and what it is to answer instead."""

    region: str = "us-east-1"
    ownership: str | None = "BucketOwnerPreferred"
    objects: dict[str, bytes] = field(default_factory=dict)
    acls: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Each call, as `PutObject worker.part.0`."""
    refuse: Callable[[str], tuple[int, str] | None] = lambda _call: None
    """The status and code of the error that a call is to have."""
    lock: Lock = field(default_factory=Lock)
    endpoint: str = ""

    def client(self) -> "S3Client":
        return _session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="not-to-be-seen",
            config=Config(
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
            ),
        )

    def count(self, action: str) -> int:
        """How often a call was made that begins so."""
        return sum(call.startswith(action) for call in self.asked)


@cache
def _session() -> boto3.Session:
    return boto3.Session()  # reads its description of S3 once


@contextmanager
def s3_bucket() -> Iterator[Store]:
    """A store that answers, with the bucket `BUCKET` of the account `OWNER` in it."""
    store = Store()
    handler = type("Handler", (_Handler,), {"store": store})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        store.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield store
        finally:
            server.shutdown()
            thread.join()


class _Refused(Exception):  # noqa: N818 - an answer
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self._serve("HeadBucket", lambda _key: b"")

    def do_GET(self) -> None:
        if "ownershipControls" in urlsplit(self.path).query:
            self._serve("GetBucketOwnershipControls", lambda _key: self._ownership())
        else:
            self._serve("ListObjectsV2", lambda _key: self._list())

    def do_PUT(self) -> None:
        self._serve("PutObject", self._put)

    def do_DELETE(self) -> None:
        self._serve("DeleteObject", self._delete)

    def _serve(self, action: str, work: Callable[[str], bytes]) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        _, bucket, *rest = unquote(urlsplit(self.path).path).split("/", 2)
        key = rest[0] if rest else ""
        try:
            with self.store.lock:
                self._check(f"{action} {key}".strip(), bucket)
                answer = work(key)
        except _Refused as refused:
            body = b"" if action == "HeadBucket" else f"<Error><Code>{refused.code}</Code></Error>".encode()
            self._answer(refused.status, body)
        else:
            self._answer(200, answer)

    def _check(self, call: str, bucket: str) -> None:
        self.store.asked.append(call)
        if refusal := self.store.refuse(call):
            raise _Refused(*refusal)
        if bucket != BUCKET:
            raise _Refused(404, "NoSuchBucket")
        if self.headers["x-amz-expected-bucket-owner"] != OWNER:
            raise _Refused(403, "AccessDenied")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("x-amz-bucket-region", self.store.region)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _put(self, key: str) -> bytes:
        if self.store.ownership == "BucketOwnerEnforced":
            raise _Refused(400, "AccessControlListNotSupported")
        if b64encode(hashlib.md5(self.body, usedforsecurity=False).digest()).decode() != self.headers["Content-MD5"]:
            raise _Refused(400, "BadDigest")
        self.store.objects[key] = self.body
        self.store.acls[key] = self.headers["x-amz-acl"]
        return b""

    def _delete(self, key: str) -> bytes:
        self.store.objects.pop(key, None)
        self.store.acls.pop(key, None)
        return b""

    def _list(self) -> bytes:
        query = parse_qs(urlsplit(self.path).query)
        prefix, behind = query["prefix"][0], query.get("start-after", [""])[0]
        keys = sorted(key for key in self.store.objects if key.startswith(prefix) and key > behind)
        rows = [
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.store.objects[key])}</Size></Contents>"
            for key in keys[:PAGE]
        ]
        more = str(len(keys) > PAGE).lower()
        return f"<ListBucketResult><IsTruncated>{more}</IsTruncated>{''.join(rows)}</ListBucketResult>".encode()

    def _ownership(self) -> bytes:
        if self.store.ownership is None:
            raise _Refused(404, "OwnershipControlsNotFoundError")
        rule = f"<Rule><ObjectOwnership>{self.store.ownership}</ObjectOwnership></Rule>"
        return f"<OwnershipControls>{rule}</OwnershipControls>".encode()
