import hashlib
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.ec2.signing import UNSIGNED_PAYLOAD, Credentials, Request, Signer, canonical_query
from imagebuilder.secret import Secret

ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
EMPTY = hashlib.sha256(b"").hexdigest()
DATE = "20261125T093000Z"


class SigV4AtOurTime(SigV4Auth):
    """botocore's signer with the time given."""

    def authorization(self, request: Any) -> str:
        request.context["timestamp"] = DATE
        self._modify_request_before_signing(request)  # type: ignore[attr-defined]
        signature = self.signature(self.string_to_sign(request, self.canonical_request(request)), request)
        self._inject_signature_to_request(request, signature)  # type: ignore[attr-defined]
        return str(request.headers["Authorization"])


def signer(token: str | None = None, *, region: str = "eu-south-2", service: str = "ebs") -> Signer:
    session_token = Secret(token) if token else None
    credentials = Credentials(access_key=ACCESS_KEY, secret_key=Secret(SECRET_KEY), session_token=session_token)
    return Signer(credentials, region=region, service=service)


def by_botocore(request: Request, payload: str, token: str | None = None) -> str:
    url = f"https://{request.headers['host']}{request.path}?{request.query}"
    signed = AWSRequest(method=request.method, url=url, headers=dict(request.headers))
    signed.headers["X-Amz-Content-SHA256"] = payload
    credentials = BotocoreCredentials(ACCESS_KEY, SECRET_KEY, token)
    return SigV4AtOurTime(credentials, "ebs", "eu-south-2").authorization(signed)


@pytest.mark.parametrize(
    ("day", "key"),
    [
        ("20120215", "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"),
        ("20150830", "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"),
    ],
)
def test_the_derived_keys_that_aws_has_published(day: str, key: str) -> None:
    own = signer(region="us-east-1", service="iam")

    derived = own._key(day)

    assert derived.hex() == key


@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzEXAMPLE/+=="])
def test_a_block_is_signed_as_botocore_does(token: str | None) -> None:
    headers = {"host": "ebs.eu-south-2.amazonaws.com", "x-amz-checksum": "q1w2+/=", "x-amz-data-length": "524288"}
    request = Request(method="PUT", path="/snapshots/snap-0123456789abcdef0/blocks/17", headers=headers)

    signed = signer(token).headers(request, payload=UNSIGNED_PAYLOAD, date=DATE)

    assert signed["authorization"] == by_botocore(request, UNSIGNED_PAYLOAD, token)


def test_a_path_with_quoted_characters_is_signed_as_botocore_does() -> None:
    request = Request(method="GET", path="/a%20b/c~d%2Fe", headers={"host": "127.0.0.1:4566"})

    signed = signer().headers(request, payload=EMPTY, date=DATE)

    assert signed["authorization"] == by_botocore(request, EMPTY)


@given(parameters=st.dictionaries(st.text(min_size=1), st.text()))
def test_any_query_is_signed_as_botocore_does(parameters: dict[str, str]) -> None:
    request = Request(method="GET", path="/x", query=canonical_query(parameters), headers={"host": "h"})

    signed = signer().headers(request, payload=EMPTY, date=DATE)

    assert signed["authorization"] == by_botocore(request, EMPTY)


def test_another_day_has_another_key() -> None:
    own = signer()
    own._key("20261125")

    later = own._key("20261126")

    assert later == signer()._key("20261126")
    assert later != own._key("20261125")


def test_the_keys_are_in_no_repr() -> None:
    own = signer("FwoGZXIvYXdzEXAMPLE")

    assert SECRET_KEY not in repr(own.credentials)
    assert "FwoG" not in repr(own.credentials)
