"""A server on the loopback that answers each request with the next of some texts, whatever is asked."""

import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class ScriptedServer:
    """What it has to say, one after another; None closes the connection, a number is a silence in seconds."""

    script: Sequence[Sequence[bytes | float] | None]
    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    reads_bodies: bool = True
    is_proxy: bool = False


@contextmanager
def serving(
    *script: Sequence[bytes | float] | None,
    tls: ssl.SSLContext | None = None,
    reads_bodies: bool = True,
    is_proxy: bool = False,
) -> Iterator[ScriptedServer]:
    """A server that is there for as long as the block runs; as a proxy it opens a tunnel to itself first."""
    server = ScriptedServer(script=script, reads_bodies=reads_bodies, is_proxy=is_proxy)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]
        thread = threading.Thread(target=_serve, args=(server, listener, tls, over), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _serve(server: ScriptedServer, listener: socket.socket, tls: ssl.SSLContext | None, over: threading.Event) -> None:
    answers = iter(server.script)
    while not over.is_set():
        try:
            plain, _ = listener.accept()
            server.connections += 1
            if server.is_proxy:
                server.requests.append(_request(plain, reads_body=False))
                plain.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            connected = tls.wrap_socket(plain, server_side=True) if tls else plain
        except OSError:
            continue
        with connected:
            _answer(server, connected, answers, over)


def _answer(
    server: ScriptedServer,
    connected: socket.socket,
    answers: Iterator[Sequence[bytes | float] | None],
    over: threading.Event,
) -> None:
    connected.settimeout(5)
    while request := _request(connected, reads_body=server.reads_bodies):
        server.requests.append(request)
        answer = next(answers, None)
        if answer is None:
            return
        for part in answer:
            if not isinstance(part, bytes):
                over.wait(part)
            elif not over.is_set():
                with suppress(OSError):  # the client may have gone
                    connected.sendall(part)
        if not server.reads_bodies:
            return


def _request(connected: socket.socket, *, reads_body: bool) -> bytes:
    received = b""
    try:
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += (some := connected.recv(65536))
            if not some:
                return b""
        lengths = [line for line in received[:end].lower().split(b"\r\n") if line.startswith(b"content-length:")]
        whole = end + 4 + (int(lengths[0].partition(b":")[2]) if lengths and reads_body else 0)
        while len(received) < whole:
            received += (some := connected.recv(1 << 20))
            if not some:
                return b""
    except OSError:
        return b""
    return received
