"""pyone: calls of oned over XML-RPC, bounded in time, each failure in our words. The only importer of pyone.

Imported when it is needed: pyone is an extra, and takes a fifth of a second.
"""

import functools
import http.client
import queue
import threading
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from xml.parsers.expat import ExpatError

import pyone
import requests
from lxml.etree import XMLSyntaxError
from pyone.server_xrpc import OneServerXRPC, RequestsTransport

from imagebuilder.errors import RemoteError
from imagebuilder.opennebula.calls import AnswerLostError, NotThereError, WrongStateError
from imagebuilder.opennebula.login import Login

_CONNECT_TIMEOUT_S = 10.0
_END_OF_INTERRUPTED_S = 5.0  # somebody who has pressed Ctrl-C does not wait long
_PIECE = 1 << 16
_LARGEST_ANSWER = 256 << 20  # a pool of some ten thousand objects is a tenth of it
_SEE_LOG = "see /var/log/one/oned.log on the front-end"
_REACH = "start oned, or set ONE_XMLRPC to where it listens"
_SHORTEST_MASKED = 4  # a shorter password is in too many words: to mask them all would show it


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
    pyone.OneNoExistsException: _Refusal(
        error=NotThereError, fix="see what is there now; the same command, run again, looks anew"
    ),
    pyone.OneActionException: _Refusal(error=WrongStateError, fix="wait until the object is ready, and run it again"),
    pyone.OneApiException: _Refusal(error=RemoteError, fix="use OpenNebula 6 or 7"),
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
            raise RemoteError("there is no connection", where=where, fix=_REACH) from error
        except requests.Timeout as error:
            raise AnswerLostError("there was no answer in time", where=where, fix=_SEE_LOG) from error
        except xmlrpc.client.ProtocolError as error:
            what = f"HTTP status {error.errcode}: this is not oned, or something before it"
            fix = "set ONE_XMLRPC to oned's URL, which ends in /RPC2 as a rule"
            raise AnswerLostError(what, where=where, fix=fix) from error
        except (requests.RequestException, http.client.HTTPException) as error:
            raise AnswerLostError("the connection was lost", where=where, fix=_SEE_LOG) from error
        except OSError as error:  # such as a REQUESTS_CA_BUNDLE that is not there
            raise RemoteError(f"there is no connection: {error}", where=where, fix=_REACH) from error
        except (xmlrpc.client.Error, ExpatError, XMLSyntaxError, ValueError, LookupError, TypeError) as error:
            what = f"the answer cannot be read: {self._masked(str(error))}"
            raise AnswerLostError(what, where=where, fix="set ONE_XMLRPC to the URL of an oned") from error

    def _masked(self, text: str) -> str:
        """`text` without the password, whatever a server made of it."""
        password = self._session.partition(":")[2]
        masked = text.replace(self._session, "<secret>")
        return masked.replace(password, "<secret>") if len(password) >= _SHORTEST_MASKED else masked


class _NotConnectedError(OSError):
    """No connection came about, so no call was made."""


class _BoundedTransport(RequestsTransport):  # type: ignore[misc]  # pyone has no types
    """One request over HTTP with a limit for all of it; never sent on to where a redirection points."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s

    def request(self, host: str, handler: str, request_body: bytes, verbose: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002
        """Send a request and parse its answer, as xmlrpc.client.Transport.request does.

        In a thread of its own: limits of requests are for each read of a socket, so an answer that drips in never
        ends. A thread that is given up ends with its socket, or with this process. An interrupted call is waited for
        a little: who undoes what it did must not look before it has done it.
        """
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(self._ask(self._build_url(host, handler), request_body))
            except BaseException as error:  # noqa: BLE001 - raised again by who waits
                answers.put(error)

        try:
            threading.Thread(target=ask, daemon=True, name="opennebula").start()
            answer = answers.get(timeout=self._timeout_s)
        except queue.Empty:
            raise requests.ReadTimeout from None
        except KeyboardInterrupt:
            with suppress(queue.Empty):
                answers.get(timeout=min(_END_OF_INTERRUPTED_S, self._timeout_s))
            raise
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _ask(self, url: str, body: bytes) -> Any:
        timeouts = (min(_CONNECT_TIMEOUT_S, self._timeout_s), self._timeout_s)
        try:
            answer = requests.post(
                url, data=body, headers=self.headers, timeout=timeouts, allow_redirects=False, stream=True
            )
        except requests.ConnectionError as error:
            if "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error):
                raise _NotConnectedError from error
            raise
        parser, target = self.getparser()
        with answer:
            if answer.status_code != http.client.OK:
                raise xmlrpc.client.ProtocolError(url, answer.status_code, "", {})
            received = 0
            for piece in answer.iter_content(_PIECE):
                received += len(piece)
                if received > _LARGEST_ANSWER:
                    raise xmlrpc.client.ResponseError
                parser.feed(piece)
        parser.close()
        return _checked(target.close())


def _checked(answers: tuple[Any, ...]) -> tuple[Any, ...]:
    """What oned answers: whether it went well, the value or what was wrong, a code. pyone takes anything for it."""
    match answers:
        case ([bool(), _, int(), *_],):
            return answers
        case _:
            raise xmlrpc.client.ResponseError("not an answer of oned")
