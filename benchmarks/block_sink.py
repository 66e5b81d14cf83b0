"""A server that takes the blocks of snapshots and forgets them: what is measured beside it is the sender.

`python -m benchmarks.block_sink` prints its port. It checks nothing and delays nothing.
"""

import socket
import threading

_BUFFER_BYTES = 1 << 20


def main() -> None:
    """Listen on a free port of the loopback until killed."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(listener.getsockname()[1], flush=True)
    while True:
        connected, _ = listener.accept()
        threading.Thread(target=_serve, args=(connected,), daemon=True).start()


def _serve(connected: socket.socket) -> None:
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    filled = 0
    with connected:
        while count := connected.recv_into(buffer[filled:]):
            filled += count
            head_end = bytes(buffer[: min(filled, 8192)]).find(b"\r\n\r\n")
            if head_end < 0:
                continue
            head = bytes(buffer[:head_end])
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
            }
            if b"expect" in headers:
                connected.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            left = int(headers.get(b"content-length", b"0")) - (filled - head_end - 4)
            while left > 0:
                left -= connected.recv_into(buffer[: min(left, _BUFFER_BYTES)])
            filled = 0
            connected.sendall(_answer(head, headers))


def _answer(head: bytes, headers: dict[bytes, bytes]) -> bytes:
    checksum = b"x-amz-Checksum: " + headers.get(b"x-amz-checksum", b"") + b"\r\nx-amz-Checksum-Algorithm: SHA256\r\n"
    if head.startswith(b"PUT"):
        return b"HTTP/1.1 201 Created\r\n" + checksum + b"content-length: 0\r\n\r\n"
    status = b"202 Accepted" if b"/completion/" in head else b"201 Created"
    body = b'{"SnapshotId":"snap-0123456789abcdef0","BlockSize":524288,"Status":"pending"}'
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


if __name__ == "__main__":
    main()
