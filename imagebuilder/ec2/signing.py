"""Signature Version 4 of AWS, without a copy of what is sent: a pure function of request, keys and time.

See "Signature Version 4 signing process" in AWS's IAM user guide; tested against botocore's.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from imagebuilder.secret import Secret

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
"""In place of the body's digest, where the service takes it: for the blocks of a snapshot."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNQUOTED = "-_.~"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Who calls; `session_token` belongs to keys that expire."""

    access_key: str
    secret_key: Secret
    session_token: Secret | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is signed of a request; whatever else it has must not matter."""

    method: str
    path: str
    """As it is sent."""
    query: str = ""
    """As `canonical_query` gives it."""
    headers: Mapping[str, str]
    """Names in lower case, `host` among them; values without blanks at their ends, and without two in a row."""


class Signer:
    """Signs requests to one service in one region with one set of credentials. May be used by several threads."""

    def __init__(self, credentials: Credentials, *, region: str, service: str) -> None:
        self.credentials = credentials
        self._region = region
        self._service = service
        self._derived = ("", b"")

    def headers(self, request: Request, *, payload: str, date: str) -> dict[str, str]:
        """The request's headers, and those that sign it.

        `payload` is the hex SHA-256 of the body, or UNSIGNED_PAYLOAD; `date` is the time in UTC as
        `20261125T093000Z`.
        """
        signed = {**request.headers, "x-amz-content-sha256": payload, "x-amz-date": date}
        if token := self.credentials.session_token:
            signed["x-amz-security-token"] = token.reveal().decode()
        names = sorted(signed)
        names_text = ";".join(names)
        lines = "".join([f"{name}:{signed[name]}\n" for name in names])
        path = quote(request.path, safe=f"/{_UNQUOTED}")
        canonical = f"{request.method}\n{path}\n{request.query}\n{lines}\n{names_text}\n{payload}"
        scope = f"{date[:8]}/{self._region}/{self._service}/aws4_request"
        to_sign = f"{_ALGORITHM}\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key(date[:8]), to_sign.encode(), "sha256").hex()
        credential = f"Credential={self.credentials.access_key}/{scope}"
        signed["authorization"] = f"{_ALGORITHM} {credential}, SignedHeaders={names_text}, Signature={signature}"
        return signed

    def _key(self, day: str) -> bytes:
        derived_day, key = self._derived
        if derived_day != day:
            key = b"AWS4" + self.credentials.secret_key.reveal()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._derived = (day, key)
        return key


def canonical_query(parameters: Mapping[str, str]) -> str:
    """A query string quoted and sorted as it is signed; it is sent so, too."""
    quoted = sorted((quote(name, safe=_UNQUOTED), quote(value, safe=_UNQUOTED)) for name, value in parameters.items())
    return "&".join(f"{name}={value}" for name, value in quoted)
