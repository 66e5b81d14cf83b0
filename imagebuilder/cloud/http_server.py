"""Serves HTTP/1.1 on loopback: a thread a connection, bodies read when somebody wants them.

Written for this one purpose, because it must do what no server of a library lets one do: put 512 KiB blocks through at
hundreds of MB/s, break a connection at a chosen moment, never answer, and answer drop by drop.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from urllib.parse import parse_qsl

LOOPBACK = "127.0.0.1"
_HEAD_LIMIT = 64 * 1024
# Larger than an EBS block and any form or JSON document; what is larger is read in pieces, or refused.
BODY_LIMIT = 4 * 1024 * 1024
# As large as a block of EBS. The memory for one is used again and again by each connection: on a virtual machine fresh
# memory costs more than all else that is done with a block, but the file that it goes into.
_PIECE = 512 * 1024


class Drop(Exception):  # noqa: N818 - an order, not an error
    """The connection is to be reset, and nothing (more) to be said."""


class BadRequest(Exception):  # noqa: N818 - what it says
    """What came is no HTTP request that this server takes; the connection ends with 400."""


class Body:
    """What a request carries, read from the connection at most once."""

    def __init__(self, connection: "Connection", *, length: int, expects_continue: bool) -> None:
        self.length = length
        self._connection = connection
        self._left = length
        self._expects_continue = expects_continue
        self._whole: bytearray | None = None

    def read(self) -> bytearray:
        """All of it, good until the next request of the connection. Raises BadRequest if it is too large."""
        if self._whole is None:
            if self.length > BODY_LIMIT:
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
            piece = self._connection.receive(min(_PIECE, self._left))
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
    connection: "Connection"

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


class Connection:
    """One connection of a client."""

    def __init__(self, peer: socket.socket, stopping: threading.Event) -> None:
        self._peer = peer
        self._stopping = stopping
        self._buffer = bytearray()
        self._spare: bytearray | None = None
        self.keep_alive = True

    def receive(self, count: int) -> bytearray:
        """Exactly `count` bytes, good until the next are asked for. Raises ConnectionError if the client goes."""
        received = self._memory(count)
        have = min(count, len(self._buffer))
        received[:have] = self._buffer[:have]
        del self._buffer[:have]
        view = memoryview(received)
        while have < count:
            got = self._peer.recv_into(view[have:])
            if not got:
                raise ConnectionError("the client went while it was sending")
            have += got
        return received

    def _memory(self, count: int) -> bytearray:
        if count != _PIECE:
            return bytearray(count)
        if self._spare is None:
            self._spare = bytearray(count)
        return self._spare

    def receive_head(self) -> bytes | None:
        """The next request up to its empty line, or None if the client has gone. Raises BadRequest if it has no end."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _HEAD_LIMIT:
                raise BadRequest("headers without end")
            piece = self._peer.recv(_HEAD_LIMIT)
            if not piece:
                return None
            self._buffer += piece
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return head

    def send(self, content: bytes | bytearray) -> None:
        """Send all of it."""
        self._peer.sendall(content)

    def send_slowly(self, content: bytes | bytearray, bytes_per_s: float) -> None:
        """Send it in small pieces, no faster than that."""
        step = max(1, int(bytes_per_s / 10))
        for start in range(0, len(content), step):
            self._peer.sendall(content[start : start + step])
            if self._stopping.wait(step / bytes_per_s):
                raise Drop

    def pause(self, seconds: float) -> None:
        """Wait, unless the server stops meanwhile."""
        if self._stopping.wait(seconds):
            raise Drop

    def wait_until_gone(self) -> None:
        """Return when the client has given up, or the server stops."""
        self._peer.settimeout(0.1)
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                if not self._peer.recv(_PIECE):
                    return

    def end(self, how: str) -> None:
        """Close it: `how` is "close", or "reset", which the client sees as an error at once."""
        with suppress(OSError):
            if how == "reset":
                self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self._peer.shutdown(socket.SHUT_RDWR)
        self._peer.close()

    def interrupt(self) -> None:
        """Have whatever waits for the client wait no more."""
        with suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)


class HttpServer:
    """Gives each request to `handle`, and sends what it returns. A context: it serves inside, and has gone after."""

    def __init__(self, handle: Callable[[Request], Response], *, port: int = 0) -> None:
        self._handle = handle
        self._stopping = threading.Event()
        self._connections: dict[Connection, threading.Thread] = {}
        self._lock = threading.Lock()
        self._listener = _listen(port)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, name="accept", daemon=True)

    def __enter__(self) -> "HttpServer":
        self._accepting.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        with self._lock:
            open_ones = dict(self._connections)
        for connection in open_ones:
            connection.interrupt()
        for thread in open_ones.values():
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                if self._stopping.is_set():
                    return
                time.sleep(0.05)  # out of file descriptors, for the moment
                continue
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(peer, self._stopping)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            with self._lock:
                self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: Connection) -> None:
        how = "close"
        try:
            while connection.keep_alive and not self._stopping.is_set():
                head = connection.receive_head()
                if head is None:
                    break
                request = _read_request(head, connection)
                response = self._handle(request)
                request.body.skip()
                _send(response, request)
        except BadRequest as error:
            with suppress(OSError):
                connection.send(_head(400, [("Content-Length", str(len(str(error)))), ("Connection", "close")]))
                connection.send(str(error).encode())
        except Drop:
            how = "reset"
        except OSError:
            pass  # the client has gone; there is nobody to tell
        finally:
            connection.end(how)
            with self._lock:
                self._connections.pop(connection, None)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((LOOPBACK, port), backlog=256)
    except OSError:
        if not port:
            raise
        return socket.create_server((LOOPBACK, 0), backlog=256)  # somebody else has it by now


def _read_request(head: bytes, connection: Connection) -> Request:
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


def _send(response: Response, request: Request) -> None:
    connection = request.connection
    headers = list(response.headers)
    named = {name.lower() for name, _ in headers}
    whole = response.body if isinstance(response.body, bytes | bytearray) else None
    if whole is not None and "content-length" not in named and response.status not in {204, 304}:
        headers.append(("Content-Length", str(len(whole))))
    if not connection.keep_alive:
        headers.append(("Connection", "close"))
    chunked = whole is None and "content-length" not in named and request.method != "HEAD"
    if chunked:
        headers.append(("Transfer-Encoding", "chunked"))
    pieces: Iterable[bytes | bytearray] = (
        (response.body,) if isinstance(response.body, bytes | bytearray) else response.body
    )
    if request.method == "HEAD" or response.status in {204, 304}:
        pieces = ()
    if chunked:
        pieces = _in_chunks(pieces)
    _send_pieces(_head(response.status, headers), pieces, response, connection)


def _send_pieces(head: bytes, pieces: Iterable[bytes | bytearray], response: Response, connection: Connection) -> None:
    if response.bytes_per_s is not None:
        connection.send_slowly(head, response.bytes_per_s)
        for piece in pieces:
            connection.send_slowly(piece, response.bytes_per_s)
        return
    for piece in pieces:
        if head and len(piece) <= _HEAD_LIMIT:
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
