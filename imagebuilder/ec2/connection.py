"""A connection to a service over HTTP/1.1 that is kept, and costs little for each answer.

http.client joins head and body in memory and reads each answer through email.parser, which for the blocks of a
snapshot takes more than all the rest of a put but its digest.
"""

import select
import socket
import ssl
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from imagebuilder.ec2.call_failed import BAD_ANSWER, CERTIFICATE_REFUSED, CONNECTION_LOST, TIMEOUT, CallFailed
from imagebuilder.errors import UsageError

_RECEIVE_BYTES = 65536
# More than any answer has but a block's bytes, which are read into place; a page of ListSnapshotBlocks has about 3 MB.
_LONGEST_HEAD_BYTES = 65536
_LONGEST_BODY_BYTES = 64 << 20
# Services close a connection that is idle for some seconds; one that was just used is not asked for.
_IDLE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a service listens."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> "Endpoint":
        """The endpoint with the URL `url`. Raises UsageError if it is none of http or https, or has a path."""
        try:
            parts = urlsplit(url)
            usual = {"http": 80, "https": 443}[parts.scheme]
            port = parts.port or usual
        except (ValueError, KeyError):
            port = 0
        if not port or not parts.hostname or parts.path.strip("/"):
            raise UsageError("is no endpoint", where=url, fix="give a URL such as https://ebs.eu-west-1.amazonaws.com")
        return cls(scheme=parts.scheme, host=parts.hostname, port=port)

    @property
    def netloc(self) -> str:
        """The value of the header `host`."""
        usual = {"http": 80, "https": 443}[self.scheme]
        return self.bracketed if self.port == usual else f"{self.bracketed}:{self.port}"

    @property
    def bracketed(self) -> str:
        """The host, in brackets if it is an address of IPv6."""
        return f"[{self.host}]" if ":" in self.host else self.host


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def trusting(ca_bundle: Path | None) -> ssl.SSLContext:
    """TLS that trusts the certificates in `ca_bundle`, or those of this machine; they are read in 20 ms, so once.

    Raises UsageError if `ca_bundle` cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:
        fix = "set AWS_CA_BUNDLE to a file of certificates, or to nothing"
        raise UsageError(f"is no bundle of certificates: {error.strerror}", where=ca_bundle, fix=fix) from error


class Connection:
    """One connection; used by one thread at a time, but `abort` by any."""

    def __init__(self, endpoint: Endpoint, *, timeout_s: float, tls: ssl.SSLContext | None) -> None:
        """`tls` for an endpoint with https."""
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._tls = tls
        self._socket: socket.socket | None = None
        self._used_at = 0.0
        self._rest = b""

    def exchange(self, head: bytes, body: bytes | memoryview = b"", *, into: memoryview | None = None) -> Answer:
        """The answer to one request, within the time that an attempt has; connects if need be.

        The body of an answer with status 200 goes to `into` if it is given, and must fill it.
        Raises CallFailed if there is no whole answer in time; the connection is closed then.
        """
        deadline = time.monotonic() + self._timeout_s
        try:
            connected = self._connected(deadline)
            try:
                _send(connected, head, body, deadline)
            except (BrokenPipeError, ConnectionResetError):
                # A service that refuses a request need not read it to its end: then its answer says why.
                answer = self._answer(connected, deadline, into)
                self.close()
                return answer
            answer = self._answer(connected, deadline, into)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise _failed(error) from error
            raise
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        self._used_at = time.monotonic()
        return answer

    def close(self) -> None:
        """Close it; the next exchange connects again."""
        connected, self._socket = self._socket, None
        self._rest = b""
        if connected is not None:
            connected.close()

    def __del__(self) -> None:
        self.close()  # an idle one has no other end: whoever made a call need not know that it was kept

    def abort(self) -> None:
        """Let the exchange that another thread waits for fail at once."""
        if (connected := self._socket) is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def _connected(self, deadline: float) -> socket.socket:
        connected = self._socket
        if connected is not None and time.monotonic() - self._used_at > _IDLE_S and _has_something(connected):
            self.close()  # nothing can have come but the end
            connected = None
        if connected is None:
            connected = self._socket = self._connect(deadline)
        return connected

    def _connect(self, deadline: float) -> socket.socket:
        endpoint = self._endpoint
        proxy = _proxy_for(endpoint) if endpoint.scheme == "https" else None
        near = proxy or endpoint
        plain = socket.create_connection((near.host, near.port), timeout=_left(deadline))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if proxy:
                self._open_tunnel(plain, deadline)
            if self._tls and endpoint.scheme == "https":
                plain.settimeout(_left(deadline))
                return self._tls.wrap_socket(plain, server_hostname=endpoint.host)
        except BaseException:
            plain.close()
            raise
        return plain

    def _open_tunnel(self, plain: socket.socket, deadline: float) -> None:
        target = f"{self._endpoint.bracketed}:{self._endpoint.port}"
        _send(plain, f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n".encode(), b"", deadline)
        status, _, _ = self._head(plain, deadline)
        if status != 200:
            raise ConnectionError(f"the proxy answered {status}")

    def _answer(self, connected: socket.socket, deadline: float, into: memoryview | None) -> Answer:
        status = 100
        while status < 200:  # 100 Continue and its like announce an answer
            status, version, headers = self._head(connected, deadline)
        body = self._body(connected, deadline, status, headers, into)
        if version == "HTTP/1.0" or self._rest:
            headers["connection"] = "close"
        return Answer(status=status, headers=headers, body=body)

    def _head(self, connected: socket.socket, deadline: float) -> tuple[int, str, dict[str, str]]:
        received = self._rest
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > _LONGEST_HEAD_BYTES:
                raise _bad("a head without an end")
            received += _receive(connected, deadline)
        self._rest = received[end + 4 :]
        first, *lines = received[:end].decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise _bad("no HTTP")
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise _bad("a header without a colon")
            headers[name.lower()] = value.strip()
        return int(rest[:3]), version, headers

    def _body(
        self,
        connected: socket.socket,
        deadline: float,
        status: int,
        headers: Mapping[str, str],
        into: memoryview | None,
    ) -> bytes:
        if status in {204, 304}:
            return b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = self._chunks(connected, deadline)
            if into is None or status != 200:
                return body
            if len(body) != len(into):
                raise _bad(f"{len(body)} bytes in place of {len(into)}")
            into[:] = body
            return b""
        length_text = headers.get("content-length", "")
        if not length_text.isdigit():
            raise _bad("no length")
        length = int(length_text)
        if into is None or status != 200:
            return self._take(connected, deadline, length)
        if length != len(into):
            raise _bad(f"{length} bytes in place of {len(into)}")
        self._take_into(connected, deadline, into)
        return b""

    def _take(self, connected: socket.socket, deadline: float, length: int) -> bytes:
        if length > _LONGEST_BODY_BYTES:
            raise _bad(f"{length} bytes")
        parts, had = [self._rest], len(self._rest)
        while had < length:
            parts.append(_receive(connected, deadline))
            had += len(parts[-1])
        received = b"".join(parts)
        self._rest = received[length:]
        return received[:length]

    def _take_into(self, connected: socket.socket, deadline: float, into: memoryview) -> None:
        first = self._rest[: len(into)]
        self._rest = self._rest[len(into) :]
        into[: len(first)] = first
        filled = len(first)
        while filled < len(into):
            connected.settimeout(_left(deadline))
            count = connected.recv_into(into[filled:])
            if count == 0:
                raise ConnectionResetError("the answer ended too early")
            filled += count

    def _chunks(self, connected: socket.socket, deadline: float) -> bytes:
        chunks: list[bytes] = []
        while True:
            size_text = self._line(connected, deadline).partition(b";")[0].strip()
            try:
                size = int(size_text, 16)
            except ValueError:
                raise _bad("a chunk without a size") from None
            if size == 0:
                while self._line(connected, deadline):
                    pass  # trailers
                return b"".join(chunks)
            chunks.append(self._take(connected, deadline, size))
            if self._line(connected, deadline):
                raise _bad("a chunk longer than its size")

    def _line(self, connected: socket.socket, deadline: float) -> bytes:
        while (end := self._rest.find(b"\r\n")) < 0:
            if len(self._rest) > _LONGEST_HEAD_BYTES:
                raise _bad("a line without an end")
            self._rest += _receive(connected, deadline)
        line, self._rest = self._rest[:end], self._rest[end + 2 :]
        return line


def _proxy_for(endpoint: Endpoint) -> Endpoint | None:
    """The proxy that the environment names for https, unless `no_proxy` names the endpoint."""
    url = urllib.request.getproxies().get("https")
    if not url or urllib.request.proxy_bypass(endpoint.host):
        return None
    return Endpoint.parse(url if "://" in url else f"http://{url}")


def _send(connected: socket.socket, head: bytes, body: bytes | memoryview, deadline: float) -> None:
    connected.settimeout(_left(deadline))
    if isinstance(connected, ssl.SSLSocket):
        connected.sendall(head)
        connected.sendall(body)
        return
    sent = connected.sendmsg([head, body])
    if sent < len(head):
        connected.sendall(head[sent:])
        sent = len(head)
    if sent < len(head) + len(body):
        connected.settimeout(_left(deadline))
        connected.sendall(memoryview(body)[sent - len(head) :])


def _receive(connected: socket.socket, deadline: float) -> bytes:
    connected.settimeout(_left(deadline))
    received = connected.recv(_RECEIVE_BYTES)
    if not received:
        raise ConnectionResetError("the answer ended too early")
    return received


def _left(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _has_something(connected: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(0))


def _bad(what: str) -> CallFailed:
    return CallFailed(code=BAD_ANSWER, message=f"the answer has {what}")


def _failed(error: OSError) -> CallFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CallFailed(code=CERTIFICATE_REFUSED, message=error.verify_message)
    if isinstance(error, TimeoutError):
        return CallFailed(code=TIMEOUT)
    return CallFailed(code=CONNECTION_LOST, message=error.strerror or str(error))
