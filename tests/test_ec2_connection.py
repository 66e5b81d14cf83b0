import datetime as dt
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from imagebuilder.ec2.call_failed import BAD_ANSWER, CERTIFICATE_REFUSED, CONNECTION_LOST, TIMEOUT, CallFailed
from imagebuilder.ec2.connection import Connection, Endpoint, trusting
from imagebuilder.errors import UsageError
from tests.scripted_server import ScriptedServer, serving

HEAD = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
PUT = b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n"
BODY = memoryview(bytes(range(250)) * 12_000)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Name:  value \r\n\r\nhi"


@contextmanager
def connection(
    server: ScriptedServer, *, timeout_s: float = 5, ca_bundle: Path | None = None, scheme: str = "http"
) -> Iterator[Connection]:
    endpoint = Endpoint(scheme=scheme, host="127.0.0.1", port=server.port)
    own = Connection(endpoint, timeout_s=timeout_s, tls=trusting(ca_bundle) if scheme == "https" else None)
    with closing(own):
        yield own


def certified(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS with a certificate of its own for 127.0.0.1, and the file with that certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(IPv4Address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = directory / "server.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, file


def failure_of(own: Connection, into: memoryview | None = None) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        own.exchange(HEAD, into=into)
    return caught.value


def test_two_exchanges_share_a_connection() -> None:
    with serving([OK], [OK]) as server, connection(server) as own:
        first, second = own.exchange(HEAD), own.exchange(HEAD)

    assert (first.status, first.body, first.headers["x-name"]) == (200, b"hi", "value")
    assert second == first
    assert server.connections == 1


def test_a_large_body_arrives_behind_its_head() -> None:
    with serving([OK]) as server, connection(server) as own:
        own.exchange(PUT, BODY)

    assert server.requests == [PUT + bytes(BODY)]


def test_tls_carries_a_large_body(tmp_path: Path) -> None:
    context, ca_bundle = certified(tmp_path)

    with serving([OK], tls=context) as server, connection(server, scheme="https", ca_bundle=ca_bundle) as own:
        answer = own.exchange(PUT, BODY)

    assert answer.body == b"hi"
    assert server.requests == [PUT + bytes(BODY)]


def test_a_certificate_of_nobody_known_is_refused(tmp_path: Path) -> None:
    context, _ = certified(tmp_path)

    with serving([OK], tls=context) as server, connection(server, scheme="https") as own:
        failure = failure_of(own)

    assert failure.code == CERTIFICATE_REFUSED


@pytest.mark.parametrize(
    ("parts", "body"),
    [
        (
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=1\r\nhi\r\n3\r\n ho\r\n0\r\nt: 1\r\n\r\n"],
            b"hi ho",
        ),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", OK], b"hi"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
        ([OK[:9], 0.01, OK[9:50], 0.01, OK[50:]], b"hi"),
    ],
    ids=["chunked", "100 Continue", "no content", "in pieces"],
)
def test_each_way_to_answer_is_read(parts: list[bytes | float], body: bytes) -> None:
    with serving(parts, [OK]) as server, connection(server) as own:
        answer, following = own.exchange(HEAD), own.exchange(HEAD)

    assert answer.body == body
    assert following.body == b"hi"
    assert server.connections == 1


def test_a_block_is_read_into_its_place() -> None:
    block = bytearray(200_000)
    parts: list[bytes | float] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n",
        b"x" * 100_000,
        0.01,
        b"y" * 100_000,
    ]

    with serving(parts) as server, connection(server) as own:
        answer = own.exchange(HEAD, into=memoryview(block))

    assert answer.body == b""
    assert block == b"x" * 100_000 + b"y" * 100_000


def test_the_body_of_an_error_is_not_read_into_the_place_of_a_block() -> None:
    block = bytearray(2)

    with serving([OK.replace(b"200 OK", b"400 Bad")]) as server, connection(server) as own:
        answer = own.exchange(HEAD, into=memoryview(block))

    assert answer.body == b"hi"
    assert bytes(block) == bytes(2)


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi"], CONNECTION_LOST),
        ([b"HTTP/1.1 200 OK\r\ncontent-le"], CONNECTION_LOST),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhi"], CONNECTION_LOST),
        ([], CONNECTION_LOST),
        ([b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], BAD_ANSWER),
        ([b"HTTP/1.1 200 OK\r\n\r\n"], BAD_ANSWER),
        ([b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"], BAD_ANSWER),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz\r\n"], BAD_ANSWER),
        ([b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000], BAD_ANSWER),
    ],
    ids=["body", "head", "chunk", "nothing", "another protocol", "length", "colon", "size", "endless head"],
)
def test_half_an_answer_is_none(parts: list[bytes | float], code: str) -> None:
    with serving(parts, reads_bodies=False) as server, connection(server) as own:
        failure = failure_of(own)

    assert failure.code == code


def test_a_block_of_another_size_is_none() -> None:
    with serving([OK]) as server, connection(server) as own:
        failure = failure_of(own, into=memoryview(bytearray(3)))

    assert failure.reason == "BadAnswer: the answer has 2 bytes in place of 3"


@pytest.mark.parametrize(
    "parts",
    [[30.0], [OK[:30], 30.0], [b"H", 0.15, b"T", 0.15, b"T", 0.15, b"P", 30.0]],
    ids=["silence", "half a head", "byte by byte"],
)
def test_an_attempt_ends_at_its_time_however_little_comes_in(parts: list[bytes | float]) -> None:
    began = time.monotonic()

    with serving(parts) as server, connection(server, timeout_s=0.3) as own:
        failure = failure_of(own)

    assert failure.code == TIMEOUT
    assert time.monotonic() - began < 3


def test_nobody_there_is_a_lost_connection() -> None:
    with serving() as server:
        pass

    with connection(server) as own:
        failure = failure_of(own)

    assert failure.code == CONNECTION_LOST


def test_a_refusal_before_the_body_was_read_is_an_answer() -> None:
    with serving([OK.replace(b"200 OK", b"403 No"), 0.1], reads_bodies=False) as server, connection(server) as own:
        answer = own.exchange(PUT, BODY)

    assert answer.status == 403


def test_a_connection_is_made_anew_after_the_service_has_closed_it() -> None:
    last = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    with serving([last], [OK]) as server, connection(server) as own:
        own.exchange(HEAD)
        again = own.exchange(HEAD)

    assert again.body == b"hi"
    assert server.connections == 2


def test_an_aborted_exchange_fails_at_once() -> None:
    began = time.monotonic()

    with serving([30.0]) as server, connection(server, timeout_s=30) as own:
        threading.Timer(0.1, own.abort).start()
        failure = failure_of(own)

    assert failure.code == CONNECTION_LOST
    assert time.monotonic() - began < 10


def test_a_proxy_is_asked_for_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([b"HTTP/1.1 403 Forbidden\r\n\r\n"]) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        endpoint = Endpoint.parse("https://ebs.eu-west-1.amazonaws.com")
        failure = failure_of(Connection(endpoint, timeout_s=5, tls=trusting(None)))

    assert proxy.requests[0].startswith(b"CONNECT ebs.eu-west-1.amazonaws.com:443 HTTP/1.")
    assert failure.reason == "ConnectionLost: the proxy answered 403"


def test_tls_goes_through_the_tunnel_of_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, ca_bundle = certified(tmp_path)
    monkeypatch.setenv("no_proxy", "")

    with serving([OK], tls=context, is_proxy=True) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with connection(proxy, scheme="https", ca_bundle=ca_bundle) as own:
            answer = own.exchange(HEAD)

    assert answer.body == b"hi"
    assert proxy.requests[0].startswith(f"CONNECT 127.0.0.1:{proxy.port} HTTP/1.1\r\n".encode())
    assert proxy.requests[1] == HEAD


def test_a_host_that_needs_no_proxy_is_asked_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, ca_bundle = certified(tmp_path)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    with serving([OK], tls=context) as server, connection(server, scheme="https", ca_bundle=ca_bundle) as own:
        answer = own.exchange(HEAD)

    assert answer.body == b"hi"


def test_a_bundle_of_certificates_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle.pem").write_text("nothing")

    with pytest.raises(UsageError, match="is no bundle of certificates"):
        trusting(tmp_path / "bundle.pem")


@pytest.mark.parametrize(
    ("url", "netloc"),
    [
        ("https://ebs.eu-west-1.amazonaws.com", "ebs.eu-west-1.amazonaws.com"),
        ("http://127.0.0.1:4566/", "127.0.0.1:4566"),
        ("http://[::1]:80", "[::1]"),
    ],
)
def test_the_host_of_an_endpoint_has_its_port_if_that_is_not_the_usual_one(url: str, netloc: str) -> None:
    assert Endpoint.parse(url).netloc == netloc


@pytest.mark.parametrize(
    "url",
    ["ebs.eu-west-1.amazonaws.com", "ftp://x", "ftp://x:21", "https://x/path", "", "http://x:port", "http://[::1"],
)
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no endpoint"):
        Endpoint.parse(url)
