"""pyone: calls of oned over XML-RPC, bounded in time, each failure in our words. The only importer of pyone.

Imported when it is needed: pyone is an extra, and takes a fifth of a second.
"""

import functools
import http.client
import time
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.parsers.expat import ExpatError

import pyone
import requests
from lxml.etree import XMLSyntaxError
from pyone.server_xrpc import OneServerXRPC, RequestsTransport

from imagebuilder.errors import RemoteError
from imagebuilder.opennebula.calls import AnswerLostError, NotThereError
from imagebuilder.opennebula.login import Login

_CONNECT_TIMEOUT_S = 10.0
_PIECE = 1 << 16
_LARGEST_ANSWER = 256 << 20  # a pool of some ten thousand objects is a tenth of it
_SEE_LOG = "see /var/log/one/oned.log on the front-end"


@dataclass(frozen=True, kw_only=True)
class _Refusal:
    """What is said of one of oned's error codes: whether it names a missing object, and how to mend it."""

    error: type[RemoteError]
    fix: str


_REFUSALS: dict[type[Exception], _Refusal] = {
    pyone.OneAuthenticationException: _Refusal(
        error=RemoteError, fix="write the user and password of OpenNebula into the file ONE_AUTH, or ~/.one/one_auth"
    ),
    pyone.OneAuthorizationException: _Refusal(
        error=RemoteError, fix="use a user that may do this; the rights that are needed: docs/opennebula-apply.md"
    ),
    pyone.OneNoExistsException: _Refusal(error=NotThereError, fix="run the same command again: it looks anew"),
    pyone.OneActionException: _Refusal(error=RemoteError, fix="wait until the object is ready, and run it again"),
    pyone.OneApiException: _Refusal(error=RemoteError, fix="use OpenNebula 5.8 to 7"),
    pyone.OneInternalException: _Refusal(error=RemoteError, fix=_SEE_LOG),
}
_OTHER_REFUSAL = _Refusal(error=RemoteError, fix=_SEE_LOG)


class Rpc:
    """oned as a user sees it; `call` is one call of its API."""

    def __init__(self, login: Login, *, timeout_s: float) -> None:
        self.endpoint = login.endpoint
        self._session = login.session.reveal().decode()
        self._server = OneServerXRPC(login.endpoint, self._session)
        # pyone's own transport has no limit of time: it sets the default of all sockets, which requests ignores.
        transport = _BoundedTransport(timeout_s)
        transport.set_https(login.endpoint.startswith("https:"))
        self._server._ServerProxy__transport = transport  # noqa: SLF001 - pyone has no way to give it one

    def call(self, method: str, *arguments: str | int) -> Any:
        """What oned answers to `one.METHOD`: a number, a text, or what pyone makes of XML.

        Raises AnswerLostError if the call may have been done, NotThereError if oned has no such object, and
        RemoteError.
        """
        with self._translated(f"one.{method}"):
            return functools.reduce(getattr, method.split("."), self._server)(*arguments)

    @contextmanager
    def _translated(self, method: str) -> Iterator[None]:
        where = f"{self.endpoint}: {method}"
        try:
            yield
        except pyone.OneException as error:
            refusal = _REFUSALS.get(type(error), _OTHER_REFUSAL)
            words = self._masked(str(error)).removeprefix(f"[{method}] ")
            raise refusal.error(words, where=where, fix=refusal.fix) from error
        except requests.exceptions.SSLError as error:
            fix = "have REQUESTS_CA_BUNDLE name the certificate of who signed it"
            raise RemoteError(f"TLS: {self._masked(str(error))}", where=where, fix=fix) from error
        except (requests.ConnectTimeout, requests.exceptions.ProxyError, _NotConnectedError) as error:
            fix = "start oned, or set ONE_XMLRPC to where it listens"
            raise RemoteError("there is no connection", where=where, fix=fix) from error
        except requests.Timeout as error:
            raise AnswerLostError("there was no answer in time", where=where, fix=_SEE_LOG) from error
        except xmlrpc.client.ProtocolError as error:
            what = f"HTTP status {error.errcode}: this is not oned, or something before it"
            fix = "set ONE_XMLRPC to oned's URL, which ends in /RPC2 as a rule"
            raise AnswerLostError(what, where=where, fix=fix) from error
        except (requests.RequestException, http.client.HTTPException, OSError) as error:
            raise AnswerLostError("the connection was lost", where=where, fix=_SEE_LOG) from error
        except (xmlrpc.client.Error, ExpatError, XMLSyntaxError, ValueError, LookupError, TypeError) as error:
            what = f"the answer cannot be read: {self._masked(str(error))}"
            raise AnswerLostError(what, where=where, fix="set ONE_XMLRPC to the URL of an oned") from error

    def _masked(self, text: str) -> str:
        """`text` without the password, whatever a server made of it."""
        return text.replace(self._session, "<secret>").replace(self._session.partition(":")[2], "<secret>")


class _NotConnectedError(OSError):
    """No connection came about, so no call was made."""


class _BoundedTransport(RequestsTransport):  # type: ignore[misc]  # pyone has no types
    """One request over HTTP with a limit for all of it; never sent on to where a redirection points."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s

    def request(self, host: str, handler: str, request_body: bytes, verbose: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002
        """Send a request and parse its answer, as xmlrpc.client.Transport.request does."""
        url = self._build_url(host, handler)
        until = time.monotonic() + self._timeout_s
        timeouts = (min(_CONNECT_TIMEOUT_S, self._timeout_s), self._timeout_s)
        try:
            answer = requests.post(
                url, data=request_body, headers=self.headers, timeout=timeouts, allow_redirects=False, stream=True
            )
        except requests.ConnectionError as error:
            if "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error):
                raise _NotConnectedError from error
            raise
        with answer:
            if answer.status_code != http.client.OK:
                raise xmlrpc.client.ProtocolError(url, answer.status_code, "", {})
            parser, target = self.getparser()
            received = 0
            for piece in answer.iter_content(_PIECE):
                received += len(piece)
                if time.monotonic() > until:
                    raise requests.ReadTimeout
                if received > _LARGEST_ANSWER:
                    raise xmlrpc.client.ResponseError
                parser.feed(piece)
        parser.close()
        return target.close()
