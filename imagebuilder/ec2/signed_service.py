"""A service of AWS that is asked over HTTP with signed requests, by kept connections."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from imagebuilder import __version__
from imagebuilder.ec2.call_failed import BAD_ANSWER, CallFailed
from imagebuilder.ec2.connection import Answer, Connection, Endpoint, trusting
from imagebuilder.ec2.signing import UNSIGNED_PAYLOAD, Credentials, Request, Signer

_OK, _ELSEWHERE = 200, 300
_NO_BODY = hashlib.sha256(b"").hexdigest()


class SignedService:
    """Asks one service of one region; may be used by several threads."""

    def __init__(
        self, endpoint: Endpoint, signer_for: Callable[[], Signer], *, timeout_s: float, ca_bundle: Path | None = None
    ) -> None:
        """`timeout_s` is what one attempt has; `signer_for` is asked before each, as credentials expire."""
        self._endpoint = endpoint
        self._signer_for = signer_for
        self._timeout_s = timeout_s
        self._tls = trusting(ca_bundle) if endpoint.scheme == "https" else None
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self.host = endpoint.netloc
        """The value of the header `host`, which each request must have."""

    def ask(self, request: Request, body: bytes | memoryview = b"", *, into: memoryview | None = None) -> Answer:
        """The answer to one attempt; a memoryview is sent without being signed, as blocks of snapshots may be.

        For `into` see `Connection.exchange`. Raises CallFailed if the answer's status tells of a failure.
        """
        payload = UNSIGNED_PAYLOAD
        if not isinstance(body, memoryview):
            payload = hashlib.sha256(body).hexdigest() if body else _NO_BODY
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        signed = self._signer_for().headers(request, payload=payload, date=date)
        target = f"{request.path}?{request.query}" if request.query else request.path
        lines = "".join([f"{name}: {value}\r\n" for name, value in signed.items()])
        unsigned = f"content-length: {len(body)}\r\nuser-agent: imgbuild/{__version__}\r\n"
        head = f"{request.method} {target} HTTP/1.1\r\n{lines}{unsigned}\r\n".encode()
        connection = self._take_connection()
        try:
            answer = connection.exchange(head, body, into=into)
        finally:
            self._idle.append(connection)
        if not _OK <= answer.status < _ELSEWHERE:
            raise _refusal(answer)
        return answer

    def abort(self) -> None:
        """Let all that wait for an answer fail at once; later requests connect anew."""
        self.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.abort()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def _take_connection(self) -> Connection:
        try:
            return self._idle.pop()  # the one used last, so that the others may go idle
        except IndexError:
            pass
        connection = Connection(self._endpoint, timeout_s=self._timeout_s, tls=self._tls)
        with self._lock:
            self._connections.add(connection)
        return connection


def signers(credentials: Callable[[], Credentials], *, region: str, service: str) -> Callable[[], Signer]:
    """Gives the signer of the credentials that hold now, the same as long as they are the same."""
    made: list[Signer] = []

    def current() -> Signer:
        now = credentials()
        if not made or made[-1].credentials != now:
            made[:] = [Signer(now, region=region, service=service)]
        return made[-1]

    return current


def fields(answer: Answer) -> Mapping[str, object]:
    """The JSON object that an answer is. Raises CallFailed if it is none."""
    try:
        said = json.loads(answer.body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise CallFailed(code=BAD_ANSWER, message="the answer has no JSON object")
    return said


def _refusal(answer: Answer) -> CallFailed:
    """The error in an answer, which names it in a header or in `__type`: `AccessDeniedException:http://…`."""
    try:
        said = fields(answer)
    except CallFailed:
        said = {}
    named = answer.headers.get("x-amzn-errortype") or str(said.get("__type") or said.get("code") or answer.status)
    code = named.partition(":")[0].rpartition("#")[2]
    reason = said.get("Reason")
    message = str(said.get("Message") or said.get("message") or "")
    text = f"{message} [{reason}]" if reason else message
    request_id = answer.headers.get("x-amzn-requestid")
    return CallFailed(code=code, message=text, status=answer.status, request_id=request_id)
