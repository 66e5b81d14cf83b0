"""The stand-in for EC2's metadata service tells nothing without a token, and to each guest what is its own."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from imagebuilder.rehearse.metadata_service import (
    METADATA,
    MetadataService,
    Request,
    Tree,
    lookup,
    make_server,
    read_requests,
)

TREE: Tree = {
    "meta-data": {
        "instance-id": "i-0123",
        "placement": {"availability-zone": "eu-west-1a"},
        "public-keys": {"0=gsg-keypair": "ssh-ed25519 AAAA", "0": {"openssh-key": "ssh-ed25519 AAAA"}},
    }
}
ASKS = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}


@contextmanager
def running(directory: Path) -> Iterator[HTTPConnection]:
    server = make_server(directory, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        yield connection
    finally:
        connection.close()
        server.shutdown()
        server.server_close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / METADATA).write_text(json.dumps({"127.0.0.1": TREE}))
    return tmp_path


def ask(connection: HTTPConnection, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_who_has_a_token_is_told_its_metadata(directory: Path) -> None:
    with running(directory) as connection:
        status, token = ask(connection, "PUT", "/latest/api/token", ASKS)
        answer = ask(connection, "GET", "/2021-03-23/meta-data/instance-id", {"X-aws-ec2-metadata-token": token})

    assert (status, answer) == (200, (200, "i-0123"))


def test_who_has_none_is_told_nothing(directory: Path) -> None:
    with running(directory) as connection:
        without = ask(connection, "GET", "/latest/meta-data/instance-id", {})
        wrong = ask(connection, "GET", "/latest/meta-data/instance-id", {"X-aws-ec2-metadata-token": "guessed"})

    assert (without, wrong) == ((401, ""), (401, ""))


def test_every_request_is_noted_and_no_token(directory: Path) -> None:
    with running(directory) as connection:
        _, token = ask(connection, "PUT", "/latest/api/token", ASKS)
        ask(connection, "GET", "/latest/meta-data/", {"X-aws-ec2-metadata-token": token})
        ask(connection, "GET", "/latest/user-data", {})

    assert read_requests(directory) == (
        Request(client="127.0.0.1", method="PUT", path="/latest/api/token", token=False, status=200),
        Request(client="127.0.0.1", method="GET", path="/latest/meta-data/", token=True, status=200),
        Request(client="127.0.0.1", method="GET", path="/latest/user-data", token=False, status=401),
    )
    assert token not in (directory / "metadata.log").read_text()


def test_nobody_has_asked_yet(tmp_path: Path) -> None:
    assert read_requests(tmp_path) == ()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/latest/api/token", {}, 400),
        ("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "21601"}, 400),
        ("/latest/api/token", {**ASKS, "X-Forwarded-For": "192.0.2.1"}, 403),
        ("/latest/meta-data", ASKS, 404),
    ],
)
def test_a_token_is_not_given_to_everybody(path: str, headers: dict[str, str], status: int) -> None:
    answer = MetadataService().put("192.0.2.7", path, headers, now_s=0)

    assert (answer.status, answer.text) == (status, "")


@pytest.mark.parametrize(("client", "now_s"), [("192.0.2.7", 61.0), ("192.0.2.8", 1.0)])
def test_a_token_is_for_one_client_and_some_time(client: str, now_s: float) -> None:
    service = MetadataService()
    token = service.put("192.0.2.7", "/latest/api/token", ASKS, now_s=0).text

    answer = service.get(client, "/latest/meta-data", {"X-aws-ec2-metadata-token": token}, known=TREE, now_s=now_s)

    assert answer.status == 401


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("meta-data", "instance-id\nplacement/\npublic-keys/"),
        ("meta-data/placement/availability-zone", "eu-west-1a"),
        ("meta-data/public-keys", "0=gsg-keypair"),
        ("meta-data/public-keys/0", "openssh-key"),
        ("meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA"),
        ("meta-data/instance-id/more", None),
        ("user-data", None),
    ],
)
def test_metadata_is_listed_as_in_ec2(path: str, text: str | None) -> None:
    assert lookup(TREE, path.split("/")) == text
