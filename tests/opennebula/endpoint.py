"""oned's endpoint on loopback: XML-RPC over HTTP, with faults to order."""

import os
import signal
import ssl
import threading
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from tests.opennebula.oned import Oned, SignatureError
from tests.opennebula.state import INTERNAL

# drop: the connection ends before the call is done. lose: it is done, and the answer is lost. internal: an error of
# oned's own. hang: nothing comes. gateway: another program answers for oned. babble: an answer that is none.
# mirror: what was asked comes back. drip: a byte now and then. gossip: an error with the session in it.
# interrupt: whoever has started this process presses Ctrl-C, and then it is done. late: the connection ends, and then
# it is done.
How = Literal[
    "drop", "lose", "internal", "hang", "gateway", "babble", "redirect", "mirror", "drip", "gossip", "interrupt", "late"
]


@dataclass
class Endpoint:
    """Where oned answers; `faults` has what to do in place of the call with that number, from 0, once."""

    oned: Oned
    url: str = ""
    faults: dict[int, How] = field(default_factory=dict)
    methods: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(oned: Oned, *, tls: ssl.SSLContext | None = None) -> Iterator[Endpoint]:
    """An endpoint that is there for as long as the block runs."""
    endpoint = Endpoint(oned=oned)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            endpoint.paths.append(self.path)
            how = endpoint.faults.pop(len(endpoint.methods), None)
            arguments, method = xmlrpc.client.loads(body, use_builtin_types=True)
            endpoint.methods.append(str(method))
            answer = _ordered(endpoint, how, str(method), arguments)
            if answer is None:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(2)
                if how == "late":
                    endpoint.over.wait(0.05)
                    _answer(endpoint, str(method), arguments)
                return
            status, text = answer
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(text)))
            if status == 307:
                self.send_header("Location", "http://127.0.0.1:9/RPC2")
            self.end_headers()
            with suppress(OSError):
                for number in range(len(text) if how == "drip" else 0):
                    self.wfile.write(text[number : number + 1])
                    endpoint.over.wait(0.05)
                self.wfile.write(text if how != "drip" else b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False  # what was begun is done when the block ends
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        endpoint.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}/RPC2"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.over.set()
            server.shutdown()
            thread.join(5)


def _ordered(
    endpoint: Endpoint, how: How | None, method: str, arguments: tuple[object, ...]
) -> tuple[int, bytes] | None:
    if how == "lose":
        _answer(endpoint, method, arguments)
    if how == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        endpoint.over.wait(0.05)
        _answer(endpoint, method, arguments)
    if how == "hang":
        endpoint.over.wait(20)
    answers: dict[How, tuple[int, bytes]] = {
        "gateway": (502, b"<html>Bad Gateway</html>"),
        "redirect": (307, b""),
        "babble": (200, b"<?xml version='1.0'?><methodResponse><params><param><value>"),
        "mirror": (200, xmlrpc.client.dumps((f"{arguments[0]} <",), methodresponse=True).encode()),
        "gossip": (200, _dumped((False, f"[{method}] the session {arguments[0]} is odd", INTERNAL))),
        "drip": (200, b" " * 10_000),
        "internal": (200, _dumped((False, f"[{method}] Cannot update the DB.", INTERNAL))),
    }
    return answers.get(how) if how else (200, _answer(endpoint, method, arguments))


def _answer(endpoint: Endpoint, method: str, arguments: tuple[object, ...]) -> bytes:
    try:
        return _dumped(endpoint.oned.answer(method, arguments))
    except SignatureError as error:
        return xmlrpc.client.dumps(xmlrpc.client.Fault(-501, str(error)), methodresponse=True).encode()


def _dumped(answer: tuple[bool, object, int]) -> bytes:
    return xmlrpc.client.dumps((list(answer),), methodresponse=True).encode()
