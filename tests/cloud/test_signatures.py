"""Who may call: signatures are checked, and refused in each service's own words."""

import http.client
from urllib.parse import urlsplit

import pytest

from imagebuilder.cloud import RunningCloud
from tests.cloud.clients import Clients, refused


@pytest.fixture(scope="module")
def impostor(cloud: RunningCloud) -> Clients:
    return Clients(cloud, secret="x" * 40)


def ask(cloud: RunningCloud, path: str, headers: dict[str, str]) -> tuple[int, str]:
    address = urlsplit(cloud.endpoint)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=5)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    said = answer.status, answer.read().decode()
    connection.close()
    return said


def test_one_learns_who_one_is(aws: Clients) -> None:
    assert aws.sts.get_caller_identity()["Account"] == "123456789012"


def test_ec2_refuses_a_wrong_secret(impostor: Clients) -> None:
    with refused("AuthFailure"):
        impostor.ec2.describe_images()


def test_ebs_refuses_a_wrong_secret(impostor: Clients) -> None:
    with refused("InvalidSignatureException"):
        impostor.start()


def test_s3_refuses_a_wrong_secret(impostor: Clients) -> None:
    with refused("SignatureDoesNotMatch"):
        impostor.s3.list_buckets()


def test_sts_refuses_a_wrong_secret(impostor: Clients) -> None:
    with refused("SignatureDoesNotMatch"):
        impostor.sts.get_caller_identity()


def test_a_key_that_there_is_not_is_refused(cloud: RunningCloud) -> None:
    with refused("UnrecognizedClientException"):
        Clients(cloud, access_key_id="AKIAAAAAAAAAAAAAAAAA").start()


def test_a_session_token_that_the_cloud_did_not_give_is_refused(cloud: RunningCloud) -> None:
    with refused("AuthFailure"):
        Clients(cloud, session_token="made-up").ec2.describe_images()


def test_a_region_that_there_is_not_is_refused(cloud: RunningCloud) -> None:
    with refused("AuthFailure", "mars-north-1"):
        Clients(cloud, region="mars-north-1").ec2.describe_images()


def test_a_request_without_a_signature_is_refused(cloud: RunningCloud) -> None:
    status, said = ask(cloud, "/some-bucket/some-key", {})

    assert (status, "<Code>AccessDenied</Code>" in said) == (403, True)


def test_a_malformed_signature_is_refused(cloud: RunningCloud) -> None:
    header = "AWS4-HMAC-SHA256 Credential=AKIA/20261125/us-east-1/ebs/aws4_request"

    status, said = ask(cloud, "/snapshots/snap-0/blocks", {"Authorization": header})

    assert (status, "IncompleteSignatureException" in said) == (400, True)


def test_the_control_needs_the_secret(cloud: RunningCloud) -> None:
    status, _ = ask(cloud, "/_imgbuild/state", {"x-imgbuild-secret": "guessed"})

    assert status == 403
