"""The cloud: all services behind one port, each request checked, logged, and perhaps made to fail."""

import hashlib
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imagebuilder.cloud.calls import Call, read_call
from imagebuilder.cloud.control import PREFIX, Control
from imagebuilder.cloud.credentials import Credentials, keep_credentials
from imagebuilder.cloud.ebs import Ebs
from imagebuilder.cloud.ec2 import Ec2
from imagebuilder.cloud.faults import Fault, Faults, refusal_of
from imagebuilder.cloud.holdings import Holdings
from imagebuilder.cloud.http_connection import Drop
from imagebuilder.cloud.http_messages import Request, Response
from imagebuilder.cloud.http_server import LOOPBACK, HttpServer
from imagebuilder.cloud.moto_services import Moto
from imagebuilder.cloud.rclone import Rclone
from imagebuilder.cloud.refusals import Refusal, refuse
from imagebuilder.cloud.request_log import RequestLog
from imagebuilder.cloud.s3 import S3
from imagebuilder.cloud.signature import UNSIGNED, Signed, WrongSignature, check_signature, read_authorization
from imagebuilder.cloud.sts import get_caller_identity
from imagebuilder.cloud.throttle import Throttle
from imagebuilder.cloud.tuning import Tuning
from imagebuilder.errors import HostError

_WRONG_CODES: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "ec2": {
        "missing": ("MissingAuthenticationToken", 403),
        "malformed": ("IncompleteSignature", 400),
        "unknown key": ("AuthFailure", 401),
        "expired": ("RequestExpired", 400),
        "mismatch": ("AuthFailure", 401),
    },
    "sts": {
        "missing": ("MissingAuthenticationToken", 403),
        "malformed": ("IncompleteSignature", 400),
        "unknown key": ("InvalidClientTokenId", 403),
        "expired": ("SignatureDoesNotMatch", 403),
        "mismatch": ("SignatureDoesNotMatch", 403),
    },
    "s3": {
        "missing": ("AccessDenied", 403),
        "malformed": ("AuthorizationHeaderMalformed", 400),
        "unknown key": ("InvalidAccessKeyId", 403),
        "expired": ("RequestTimeTooSkewed", 403),
        "mismatch": ("SignatureDoesNotMatch", 403),
    },
    "other": {
        "missing": ("MissingAuthenticationTokenException", 403),
        "malformed": ("IncompleteSignatureException", 400),
        "unknown key": ("UnrecognizedClientException", 403),
        "expired": ("InvalidSignatureException", 403),
        "mismatch": ("InvalidSignatureException", 403),
    },
}


class Cloud:
    """A running cloud; made by `open_cloud`."""

    def __init__(self, state: Path, *, tuning: Tuning, credentials: Credentials, rclone: Rclone) -> None:
        self._credentials = credentials
        self._faults = Faults()
        self.log = RequestLog(state / "requests.jsonl")
        moto, throttle = Moto(), Throttle()
        holdings = Holdings.open(state, tuning)
        self._ebs = Ebs(holdings.regions, throttle, tuning=tuning, secret=credentials.secret, key_exists=moto.has_key)
        self._ec2 = Ec2(holdings, moto=moto, throttle=throttle, tuning=tuning)
        self._s3 = S3(holdings.objects, rclone)
        self._moto = moto
        self._control = Control(holdings, faults=self._faults, log=self.log, credentials=credentials)

    def handle(self, request: Request) -> Response:
        """Answer a request."""
        request_id = str(uuid.uuid4())
        if request.path.startswith(PREFIX):
            try:
                return self._control.handle(request)
            except Refusal as refusal:
                return refuse("control", refusal, request_id)
        call = read_call(request, request_id)
        if call is None:
            return refuse("s3", _refusal_of(WrongSignature("missing", "Access Denied"), "s3"), request_id)
        return self._befallen(call)

    def _befallen(self, call: Call) -> Response:
        """Answer a call, unless a fault befalls it; log it."""
        begun = time.monotonic()
        fault = self._faults.strike(call.service, call.action, list(call.subject.values()))
        status, code = 0, "lost"
        try:
            response, code = self._answered(call, fault)
            status = response.status
            if fault is not None:
                _befall(response, fault, call)
        finally:
            entry = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "id": call.request_id,
                "service": call.service,
                "region": call.region,
                "action": call.action,
                **call.subject,
                "status": status,
                "code": code,
                "fault": fault.kind if fault else None,
                "ms": round((time.monotonic() - begun) * 1000, 1),
            }
            self.log.write({name: value for name, value in entry.items() if value not in {None, ""}})
        return response

    def _answered(self, call: Call, fault: Fault | None) -> tuple[Response, str]:
        """The answer to a call, and the code of the error that it tells."""
        try:
            if fault is not None:
                _forestall(call, fault)
            self._check_signature(call)
            return self._dispatch(call), ""
        except Refusal as refusal:
            return refuse(call.service, refusal, call.request_id), refusal.code
        except HostError as error:
            lacking = Refusal(code="InternalError", message=str(error), status=500)
            return refuse(call.service, lacking, call.request_id), lacking.code

    def _dispatch(self, call: Call) -> Response:
        match call.service:
            case "ebs":
                return self._ebs.handle(call)
            case "ec2":
                return self._ec2.handle(call)
            case "s3":
                return self._s3.handle(call)
            case "sts" if call.action == "GetCallerIdentity":
                return get_caller_identity(call)
            case _:
                return self._moto.forward(call)

    def _check_signature(self, call: Call) -> None:
        request = call.request
        if call.service == "s3" and "authorization" not in request.headers:
            if call.action not in {"GetObject", "PutObject", "HeadObject", "DeleteObject"}:
                raise Refusal(code="AccessDenied", message="Presigned only for objects", status=403)
            return  # a presigned URL: rclone checks that
        signed = Signed(
            method=request.method,
            target=request.target,
            headers=request.headers,
            payload_hashes=_payload_hashes(call),
        )
        try:
            authorization = read_authorization(request.headers.get("authorization"))
            check_signature(
                signed,
                authorization,
                access_key_id=self._credentials.access_key_id,
                secret=self._credentials.secret,
                now=datetime.now(UTC),
            )
        except WrongSignature as error:
            raise _refusal_of(error, call.service) from error


def _payload_hashes(call: Call) -> Iterator[str]:
    """What may stand for the body in the signature, the likeliest first."""
    named = call.request.headers.get("x-amz-content-sha256")
    if call.service == "s3":
        yield named or UNSIGNED  # rclone compares it with the body
        return
    if call.action == "PutSnapshotBlock" and named in {None, UNSIGNED}:
        yield UNSIGNED  # so AWS has it over TLS; its own SDK signs the body where there is no TLS
    yield hashlib.sha256(call.request.body.read()).hexdigest()


def _refusal_of(error: WrongSignature, service: str) -> Refusal:
    code, status = _WRONG_CODES.get(service, _WRONG_CODES["other"])[error.wrong]
    message = str(error)
    if code == "AuthFailure":
        message = "AWS was not able to validate the provided access credentials"
    return Refusal(code=code, message=message, status=status)


def _forestall(call: Call, fault: Fault) -> None:
    """What a fault does before a call is carried out. Raises Refusal or Drop."""
    refusal = refusal_of(fault.kind, call.service)
    if refusal is not None:
        raise refusal
    if fault.when == "before":
        _hold_up(call, fault)


def _befall(response: Response, fault: Fault, call: Call) -> None:
    """What a fault does to the answer of a call that has been carried out. Raises Drop."""
    if fault.when == "after":
        _hold_up(call, fault)
    if fault.kind == "trickle":
        response.bytes_per_s = fault.bytes_per_s
    if fault.kind == "corrupt" and response.status < 300:
        body = bytearray(response.body if isinstance(response.body, bytes | bytearray) else b"".join(response.body))
        if body:
            body[len(body) // 2] ^= 0xFF
        response.body = body


def _hold_up(call: Call, fault: Fault) -> None:
    connection = call.request.connection
    if fault.kind == "slow":
        connection.pause(fault.delay_s)
    elif fault.kind == "hang":
        connection.wait_until_gone()
        raise Drop
    elif fault.kind == "drop":
        raise Drop


@dataclass(frozen=True, kw_only=True)
class Served:
    """A cloud that is being served: where, and with which key."""

    endpoint: str
    credentials: Credentials


@contextmanager
def open_cloud(state: Path, *, tuning: Tuning, port: int | None, liked_port: int) -> Iterator[Served]:
    """Serve the cloud whose state is in `state`, in threads of this process, while the block runs.

    Without a port it takes the one that is liked, if that is free. Nobody else may serve the same state; see
    `running.py`.
    """
    with ExitStack() as undo:
        credentials = keep_credentials(state)
        log = state / "cloud.log"
        rclone = Rclone(state, access_key_id=credentials.access_key_id, secret=credentials.secret, log=log)
        undo.callback(rclone.end)
        cloud = Cloud(state, tuning=tuning, credentials=credentials, rclone=rclone)
        undo.callback(cloud.log.close)
        server = undo.enter_context(HttpServer(cloud.handle, port=port, liked=liked_port))
        yield Served(endpoint=f"http://{LOOPBACK}:{server.port}", credentials=credentials)
