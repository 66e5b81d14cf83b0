"""Requests and answers of HTTP/1.1. Bodies are read when somebody wants them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from urllib.parse import parse_qsl

from imagebuilder.cloud.http_connection import PIECE_BYTES, BadRequest, Connection

# Larger than an EBS block and any form or JSON document; what is larger is read in pieces, or refused.
_BODY_LIMIT = 4 * 1024 * 1024
# An answer up to this size goes out together with its headers.
_SMALL_BYTES = 64 * 1024


class Body:
    """What a request carries, read from the connection at most once."""

    def __init__(self, connection: Connection, *, length: int, expects_continue: bool) -> None:
        self.length = length
        self._connection = connection
        self._left = length
        self._expects_continue = expects_continue
        self._whole: bytearray | None = None

    def read(self) -> bytearray:
        """All of it, good until the next request of the connection. Raises BadRequest if it is too large."""
        if self._whole is None:
            if self.length > _BODY_LIMIT:
                raise BadRequest(f"a body of {self.length} bytes")
            self._go_on()
            self._whole = self._connection.receive(self._left)
            self._left = 0
        return self._whole

    def pieces(self) -> Iterator[bytearray]:
        """All of it, in pieces, each of them good until the next is asked for."""
        if self._whole is not None:
            yield self._whole
            return
        self._go_on()
        while self._left:
            piece = self._connection.receive(min(PIECE_BYTES, self._left))
            self._left -= len(piece)
            yield piece

    def skip(self) -> None:
        """Read what has not been read, so that the next request can follow."""
        if self._expects_continue:  # it was never asked for, so the client may or may not send it
            self._connection.keep_alive = self._left == 0
            return
        for _ in self.pieces():
            pass

    def _go_on(self) -> None:
        if self._expects_continue:
            self._expects_continue = False
            self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, as it came."""

    method: str
    target: str
    """Path and query, as sent."""
    sent_headers: Sequence[tuple[str, str]]
    body: Body
    connection: Connection

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The headers by their lower-case names; several of one name are joined by commas."""
        headers: dict[str, str] = {}
        for name, value in self.sent_headers:
            known = headers.get(name.lower())
            headers[name.lower()] = value if known is None else f"{known},{value}"
        return headers

    @property
    def path(self) -> str:
        """The path, still encoded."""
        return self.target.partition("?")[0]

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The decoded query; of several values the last."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))


@dataclass(kw_only=True)
class Response:
    """One answer. A body that is no bytes comes in pieces, and with its `Content-Length`, if that is known."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | bytearray | Iterable[bytes] = b""
    bytes_per_s: float | None = None
    """How fast it is sent; None for as fast as possible."""


def read_request(head: bytes, connection: Connection) -> Request:
    """The request that begins with these lines. Raises BadRequest if it is none."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(f"no request: {first[:80]!r}")
    sent = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    headers = {name.lower(): value for name, value in sent}
    if "transfer-encoding" in headers:
        raise BadRequest("a body without Content-Length")
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise BadRequest(f"Content-Length: {length[:80]}")
    if headers.get("connection", "").lower() == "close" or words[2] == "HTTP/1.0":
        connection.keep_alive = False
    expects = headers.get("expect", "").lower() == "100-continue"
    body = Body(connection, length=int(length), expects_continue=expects)
    return Request(method=words[0], target=words[1], sent_headers=sent, body=body, connection=connection)


def _head(status: int, headers: Sequence[tuple[str, str]]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def send(response: Response, connection: Connection, *, method: str = "") -> None:
    """Answer a request with this method."""
    headers = list(response.headers)
    is_whole = isinstance(response.body, bytes | bytearray)
    pieces = (response.body,) if isinstance(response.body, bytes | bytearray) else response.body
    never_has_body = response.status in {204, 304}
    if not never_has_body and not any(name.lower() == "content-length" for name, _ in headers):
        if is_whole:
            headers.append(("Content-Length", str(sum(map(len, pieces)))))
        else:
            headers.append(("Transfer-Encoding", "chunked"))
            pieces = _in_chunks(pieces)
    if not connection.keep_alive:
        headers.append(("Connection", "close"))
    if never_has_body or method == "HEAD":
        pieces = ()
    _send_pieces(_head(response.status, headers), pieces, response, connection)


def _send_pieces(head: bytes, pieces: Iterable[bytes | bytearray], response: Response, connection: Connection) -> None:
    if response.bytes_per_s is not None:
        connection.send_slowly(head, response.bytes_per_s)
        for piece in pieces:
            connection.send_slowly(piece, response.bytes_per_s)
        return
    for piece in pieces:
        if head and len(piece) <= _SMALL_BYTES:
            connection.send(head + piece)  # one packet, where that is possible
        else:
            if head:
                connection.send(head)
            connection.send(piece)
        head = b""
    if head:
        connection.send(head)


def _in_chunks(pieces: Iterable[bytes | bytearray]) -> Iterator[bytes]:
    for piece in pieces:
        if piece:
            yield b"%x\r\n" % len(piece) + piece + b"\r\n"
    yield b"0\r\n\r\n"
