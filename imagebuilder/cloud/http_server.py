"""Serves HTTP/1.1 on loopback: a thread a connection.

Written for this one purpose, because it must do what no server of a library lets one do: put 512 KiB blocks through at
hundreds of MB/s, break a connection at a chosen moment, never answer, and answer drop by drop.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from imagebuilder.cloud.http_connection import BadRequest, Connection, Drop
from imagebuilder.cloud.http_messages import Request, Response, read_request, send
from imagebuilder.errors import HostError

LOOPBACK = "127.0.0.1"


class HttpServer:
    """Gives each request to `handle`, and sends what it returns. A context: it serves inside, and has gone after.

    Without a port it takes the `liked` one if that is free, or any. Raises HostError if a given port is not free.
    """

    def __init__(self, handle: Callable[[Request], Response], *, port: int | None = None, liked: int = 0) -> None:
        self._handle = handle
        self._stopping = threading.Event()
        self._connections: dict[Connection, threading.Thread] = {}
        self._lock = threading.Lock()
        self._listener = _listen(port, liked)
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
                request = read_request(head, connection)
                response = self._handle(request)
                request.body.skip()
                send(response, connection, method=request.method)
        except BadRequest as error:
            with suppress(OSError):
                connection.keep_alive = False
                send(Response(status=400, body=str(error).encode()), connection)
        except Drop:
            how = "reset"
        except OSError:
            pass  # the client has gone; there is nobody to tell
        finally:
            connection.end(how)
            with self._lock:
                self._connections.pop(connection, None)


def _listen(port: int | None, liked: int) -> socket.socket:
    if port is None:
        with suppress(OSError):
            return socket.create_server((LOOPBACK, liked), backlog=256)
    try:
        return socket.create_server((LOOPBACK, port or 0), backlog=256)
    except OSError as error:
        fix = "choose another port, or none"
        raise HostError(f"cannot listen: {error.strerror}", where=f"{LOOPBACK}:{port}", fix=fix) from error
