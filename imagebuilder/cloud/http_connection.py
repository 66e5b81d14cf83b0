"""One connection of a client: what comes and goes on it, and how it ends."""

import socket
import struct
import threading
from contextlib import suppress

_HEAD_LIMIT = 64 * 1024
# As large as a block of EBS. The memory for one is used again and again by each connection: on a virtual machine fresh
# memory costs more than all else that is done with a block, but the file that it goes into.
PIECE_BYTES = 512 * 1024


class Drop(Exception):  # noqa: N818 - an order, not an error
    """The connection is to be reset, and nothing (more) to be said."""


class BadRequest(Exception):  # noqa: N818 - what it says
    """What came is no HTTP request that this server takes; the connection ends with 400."""


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
        if count != PIECE_BYTES:
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
                if not self._peer.recv(PIECE_BYTES):
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
