"""The server beneath all services, where a client of AWS does not reach it: the bytes on a connection."""

import socket
from collections.abc import Iterator

import pytest

from imagebuilder.cloud.http_messages import Request, Response
from imagebuilder.cloud.http_server import LOOPBACK, HttpServer


def echo(request: Request) -> Response:
    """Answers with the body, or for the path /pieces with two pieces and no length."""
    if request.path == "/pieces":
        return Response(body=iter([b"one", b"two"]))
    if request.path == "/unread":
        return Response(status=403, body=b"no")
    return Response(body=bytes(request.body.read()))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with HttpServer(echo) as server:
        yield server.port


def talk(port: int, *said: bytes) -> bytes:
    """All that the server says to this, until it or the client closes the connection."""
    with socket.create_connection((LOOPBACK, port), timeout=5) as connection:
        for piece in said:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_requests_follow_each_other_on_one_connection(port: int) -> None:
    said = talk(port, post("/", b"first") + post("/", b"second"))

    assert [said.count(word) for word in (b"HTTP/1.1 200 OK", b"first", b"second")] == [2, 1, 1]


def test_a_body_that_nobody_read_is_no_request(port: int) -> None:
    said = talk(port, post("/unread", b"GET / HTTP/1.1\r\n\r\n") + post("/", b"second"))

    assert [said.count(word) for word in (b"HTTP/1.1 403", b"HTTP/1.1 200", b"second")] == [1, 1, 1]


def test_a_request_may_come_letter_by_letter(port: int) -> None:
    said = talk(port, *(bytes([letter]) for letter in post("/", b"slowly")))

    assert said.endswith(b"\r\n\r\nslowly")


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(port: int) -> None:
    said = talk(port, post("/", b"wanted", "Expect: 100-continue"))

    assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    assert said.endswith(b"wanted")


def test_a_client_that_asks_in_vain_is_not_told_to_go_on(port: int) -> None:
    said = talk(port, post("/unread", b"unwanted", "Expect: 100-continue"))

    assert said.startswith(b"HTTP/1.1 403 Forbidden")
    assert b"Connection: close" in said


def test_an_answer_of_unknown_length_comes_in_chunks(port: int) -> None:
    said = talk(port, b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n")

    assert said.endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


def test_an_answer_to_head_has_no_body(port: int) -> None:
    said = talk(port, b"HEAD /unread HTTP/1.1\r\nHost: x\r\n\r\n")

    assert said.endswith(b"Content-Length: 2\r\n\r\n")


def test_a_client_that_wants_to_close_may(port: int) -> None:
    said = talk(port, post("/", b"last", "Connection: close") + post("/", b"never"))

    assert said.endswith(b"Connection: close\r\n\r\nlast")


@pytest.mark.parametrize(
    "said",
    [
        b"hello\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000,
    ],
)
def test_what_is_no_request_ends_the_connection(port: int, said: bytes) -> None:
    answer = talk(port, said)

    assert answer.startswith(b"HTTP/1.1 400 Bad Request")
    assert b"Connection: close" in answer


def test_a_server_ends_while_a_client_waits() -> None:
    with HttpServer(echo) as server:
        waiting = socket.create_connection((LOOPBACK, server.port), timeout=5)
        waiting.sendall(post("/", b"answered"))
        answered = waiting.recv(65536)

    with waiting:
        assert answered.endswith(b"answered")
        assert waiting.recv(10) == b""
