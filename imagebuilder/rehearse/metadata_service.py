"""A stand-in for EC2's instance metadata service, version 2: a program of its own, run where the guests' network is.

    python3 -m imagebuilder.rehearse.metadata_service DIRECTORY ADDRESS PORT

It answers each guest by its address, from DIRECTORY/metadata.json, which is read anew for each request, and writes a
line of JSON for each request to DIRECTORY/metadata.log. As in EC2 with version 1 switched off, nothing is told without
a token, which is asked for with PUT ("Use the Instance Metadata Service", EC2 user guide).
"""

import json
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

METADATA, REQUESTS = "metadata.json", "metadata.log"

_TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
_TOKEN, _LIFETIME = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"
_MOST_SECONDS = 21_600
# Those that cloud-init asks for, and the one that every client knows.
_VERSIONS = {"latest", "2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23"}

Tree = Mapping[str, "str | Tree"]
"""Metadata by the parts of its path; a text is what the path gives, a tree is listed."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request that was answered: by whom, for what, whether with a token that was good, and with which status."""

    client: str
    method: str
    path: str
    token: bool
    status: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A status of HTTP, with a text."""

    status: int
    text: str = ""


@dataclass(kw_only=True)
class MetadataService:
    """What is answered to whom; `tokens` has the end of each token's life, by the address it was given to."""

    tokens: dict[tuple[str, str], float] = field(default_factory=dict)

    def put(self, client: str, path: str, headers: Mapping[str, str], *, now_s: float) -> Answer:
        """A token for `client`."""
        if path != _TOKEN_PATH:
            return Answer(status=404)
        if headers.get("X-Forwarded-For"):
            return Answer(status=403)  # a proxy that was talked into it
        lifetime = headers.get(_LIFETIME, "")
        if not lifetime.isdecimal() or not 1 <= int(lifetime) <= _MOST_SECONDS:
            return Answer(status=400)
        token = secrets.token_urlsafe(42)
        self.tokens[client, token] = now_s + int(lifetime)
        return Answer(status=200, text=token)

    def has_token(self, client: str, headers: Mapping[str, str], *, now_s: float) -> bool:
        """Whether the request comes with a token that was given to this client and is still good."""
        return self.tokens.get((client, headers.get(_TOKEN, "")), 0.0) > now_s

    def get(self, client: str, path: str, headers: Mapping[str, str], *, known: Tree, now_s: float) -> Answer:
        """What `known`, the metadata of `client`, has at `path`."""
        if not self.has_token(client, headers, now_s=now_s):
            return Answer(status=401)
        version, *parts = [part for part in path.split("/") if part]
        if version not in _VERSIONS:
            return Answer(status=404)
        text = lookup(known, parts)
        return Answer(status=404) if text is None else Answer(status=200, text=text)


def lookup(tree: Tree, parts: list[str]) -> str | None:
    """The text at the end of a path, or the list of what is there; None if there is nothing."""
    found: str | Tree = tree
    for part in parts:
        if isinstance(found, str) or part not in found:
            return None
        found = found[part]
    if isinstance(found, str):
        return found
    # A key pair is listed by its number and name, `0=NAME`, and then has a directory under its number alone.
    numbered = {name.partition("=")[0] for name in found if "=" in name}
    return "\n".join(
        name if isinstance(value, str) else f"{name}/" for name, value in found.items() if name not in numbered
    )


def _handler(directory: Path, service: MetadataService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            self._answer(service.put(self._client, self.path, self._headers, now_s=time.monotonic()))

        def do_GET(self) -> None:
            known = json.loads((directory / METADATA).read_text(encoding="utf-8")).get(self._client, {})
            self._answer(service.get(self._client, self.path, self._headers, known=known, now_s=time.monotonic()))

        @property
        def _client(self) -> str:
            return str(self.client_address[0])

        @property
        def _headers(self) -> dict[str, str]:
            # Names of headers have no case; these are spelled as above.
            spelled = {name.lower(): name for name in (_TOKEN, _LIFETIME, "X-Forwarded-For")}
            return {spelled.get(name.lower(), name): value for name, value in self.headers.items()}

        def _answer(self, answer: Answer) -> None:
            has_token = service.has_token(self._client, self._headers, now_s=time.monotonic())
            method = str(self.command)
            request = Request(client=self._client, method=method, path=self.path, token=has_token, status=answer.status)
            with (directory / REQUESTS).open("a", encoding="utf-8") as log:
                log.write(json.dumps(asdict(request)) + "\n")
            body = answer.text.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            if method == "PUT" and answer.status == 200:
                self.send_header(_LIFETIME, self._headers[_LIFETIME])
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: what was asked is in the log of requests, without the tokens."""

    return Handler


def make_server(directory: Path, address: str, port: int) -> ThreadingHTTPServer:
    """The service, listening; port 0 is any that is free."""
    return ThreadingHTTPServer((address, port), _handler(directory, MetadataService()))


def read_requests(directory: Path) -> tuple[Request, ...]:
    """Every request that was answered so far, in order."""
    file = directory / REQUESTS
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return tuple(Request(**json.loads(line)) for line in lines)


if __name__ == "__main__":
    make_server(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])).serve_forever()
