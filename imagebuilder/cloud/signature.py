"""Checks AWS's Signature Version 4 of a request, against the one key that there is."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal
from urllib.parse import quote, unquote

from imagebuilder.secret import Secret

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
_SKEW = timedelta(minutes=15)
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} +Credential=([^/, ]+)/(\d{{8}})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request"
    r" *, *SignedHeaders=([a-z0-9;-]+) *, *Signature=([0-9a-f]{64})"
)

Wrong = Literal["missing", "malformed", "unknown key", "expired", "mismatch"]


class WrongSignature(Exception):  # noqa: N818 - what it is
    """A request that is not signed as it must be; `wrong` says in which way."""

    def __init__(self, wrong: Wrong, message: str) -> None:
        super().__init__(message)
        self.wrong = wrong


@dataclass(frozen=True, kw_only=True)
class Authorization:
    """What the header Authorization says."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: Sequence[str]
    signature: str


def read_authorization(header: str | None) -> Authorization:
    """Take the header Authorization apart. Raises WrongSignature if it is missing or malformed."""
    if not header:
        raise WrongSignature("missing", "Missing Authentication Token")
    found = _AUTHORIZATION.fullmatch(header.strip())
    if found is None:
        raise WrongSignature("malformed", "Authorization header is malformed")
    key, date, region, service, signed, signature = found.groups()
    return Authorization(
        access_key_id=key,
        date=date,
        region=region,
        service=service,
        signed_headers=tuple(signed.split(";")),
        signature=signature,
    )


@dataclass(frozen=True, kw_only=True)
class Signed:
    """The parts of a request that are signed."""

    method: str
    target: str
    headers: Mapping[str, str]
    """By lower-case names."""
    payload_hashes: Iterable[str]
    """What may stand for the body: its SHA-256 in hex, or UNSIGNED-PAYLOAD where that is allowed."""


def check_signature(
    signed: Signed, authorization: Authorization, *, access_key_id: str, secret: Secret, now: datetime
) -> None:
    """Raise WrongSignature unless the request was signed with this key, not more than a quarter of an hour ago."""
    if authorization.access_key_id != access_key_id:
        raise WrongSignature("unknown key", "The security token included in the request is invalid.")
    if "x-amz-security-token" in signed.headers:
        raise WrongSignature("unknown key", "The security token included in the request is invalid.")
    when = _signing_time(signed.headers)
    if not when.startswith(authorization.date):
        raise WrongSignature(
            "mismatch", "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date"
        )
    at = datetime.fromisoformat(when)
    if abs(now - at) > _SKEW:
        raise WrongSignature("expired", f"Signature expired: {when} is more than 15 min from {now:%Y%m%dT%H%M%SZ}")
    must = {name for name in signed.headers if name == "host" or name.startswith("x-amz-")} | {"host"}
    unsigned = sorted(must - set(authorization.signed_headers))
    if unsigned:
        raise WrongSignature("mismatch", f"There were headers present in the request which were not signed: {unsigned}")
    key = _signing_key(secret, authorization.date, authorization.region, authorization.service)
    scope = f"{authorization.date}/{authorization.region}/{authorization.service}/aws4_request"
    for payload_hash in signed.payload_hashes:
        canonical = _canonical_request(signed, authorization, payload_hash)
        text = f"{ALGORITHM}\n{when}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        if hmac.compare_digest(hmac.new(key, text.encode(), "sha256").hexdigest(), authorization.signature):
            return
    raise WrongSignature(
        "mismatch",
        "The request signature we calculated does not match the signature you provided. "
        "Check your AWS Secret Access Key and signing method.",
    )


def _signing_time(headers: Mapping[str, str]) -> str:
    when = headers.get("x-amz-date", "")
    if not re.fullmatch(r"\d{8}T\d{6}Z", when):
        raise WrongSignature("malformed", "Authorization header requires existence of a 'X-Amz-Date' header.")
    return when


def _canonical_request(signed: Signed, authorization: Authorization, payload_hash: str) -> str:
    path, _, query = signed.target.partition("?")
    # All services but S3 encode the path, which is encoded already, once more.
    canonical_path = path if authorization.service == "s3" else quote(path, safe="/~")
    pairs = sorted(_encoded(pair.partition("=")) for pair in query.split("&") if pair)
    headers = [f"{name}:{' '.join(signed.headers.get(name, '').split())}\n" for name in authorization.signed_headers]
    parts = [signed.method, canonical_path, "&".join(f"{name}={value}" for name, value in pairs)]
    return "\n".join([*parts, "".join(headers), ";".join(authorization.signed_headers), payload_hash])


def _encoded(pair: tuple[str, str, str]) -> tuple[str, str]:
    return quote(unquote(pair[0]), safe="-_.~"), quote(unquote(pair[2]), safe="-_.~")


@lru_cache(maxsize=64)
def _signing_key(secret: Secret, date: str, region: str, service: str) -> bytes:
    key = b"AWS4" + secret.reveal()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return key
