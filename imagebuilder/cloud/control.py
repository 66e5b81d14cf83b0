"""What tests and `imgbuild cloud` ask of a running cloud, beside AWS: faults, the calls so far, what there is."""

import hmac
import json
from collections.abc import Callable

from pydantic import TypeAdapter, ValidationError

from imagebuilder.cloud.credentials import Credentials
from imagebuilder.cloud.faults import Fault, Faults
from imagebuilder.cloud.holdings import Holdings
from imagebuilder.cloud.http_messages import Request, Response
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.request_log import RequestLog
from imagebuilder.cloud.snapshots import utc_now

PREFIX = "/_imgbuild/"
SECRET_HEADER = "x-imgbuild-secret"  # noqa: S105 - a header's name
_FAULTS: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault])


class Control:
    """Answers below PREFIX, to who has the secret."""

    def __init__(self, holdings: Holdings, *, faults: Faults, log: RequestLog, credentials: Credentials) -> None:
        self._holdings = holdings
        self._faults = faults
        self._log = log
        self._credentials = credentials

    def handle(self, request: Request) -> Response:
        """Answer a request. Raises Refusal."""
        given = request.headers.get(SECRET_HEADER, "").encode()
        if not hmac.compare_digest(given, self._credentials.secret.reveal()):
            raise Refusal(code="AccessDenied", message=f"{SECRET_HEADER} is missing or wrong", status=403)
        actions: dict[tuple[str, str], Callable[[Request], object]] = {
            ("GET", "health"): lambda _request: {"account": "up"},
            ("GET", "ec2-certificate"): lambda _request: {"file": str(self._holdings.ec2_key.ensure_certificate())},
            ("GET", "state"): lambda _request: self._state(),
            ("GET", "requests"): lambda request: self._log.since(int(request.query.get("since", "0"))),
            ("GET", "faults"): lambda _request: self._faults.shown(),
            ("POST", "faults"): self._add_faults,
            ("DELETE", "faults"): self._clear_faults,
        }
        action = actions.get((request.method, request.path.removeprefix(PREFIX)))
        if action is None:
            raise Refusal(code="NotFound", message=f"{request.method} {request.path}", status=404)
        body = json.dumps(action(request), default=str).encode()
        return Response(headers=[("Content-Type", "application/json")], body=body)

    def _add_faults(self, request: Request) -> object:
        try:
            document = json.loads(bytes(request.body.read()))
            faults = _FAULTS.validate_python(document if isinstance(document, list) else [document])
        except (ValueError, ValidationError) as error:
            raise Refusal(code="ValidationException", message=str(error)) from error
        for fault in faults:
            self._faults.add(fault)
        return self._faults.shown()

    def _clear_faults(self, _request: Request) -> object:
        self._faults.clear()
        return []

    def _state(self) -> object:
        now = utc_now()
        regions = {}
        for region in self._holdings.regions.used():
            snapshots = {
                one.id: {
                    "state": one.state(now),
                    "sealed": one.sealed_at is not None,
                    "tags": one.tags,
                    "description": one.description,
                    "volume_size_gib": one.volume_size_gib,
                    "parent": one.parent_id,
                    "encrypted": one.kms_key_arn is not None,
                    "client_token": one.client_token,
                    "blocks_put": len(region.snapshots.blocks(one.id).own),
                    "blocks": len(region.snapshots.blocks(one.id).all()),
                }
                for one in region.snapshots.all()
            }
            images = {image.id: {**image.model_dump(mode="json"), "state": image.state(now)} for image in region.images}
            pending = [name for name, snapshot in snapshots.items() if snapshot["state"] == "pending"]
            regions[region.name] = {"images": images, "snapshots": snapshots, "pending_snapshots": pending}
        return {"regions": regions, "buckets": self._holdings.objects.all()}
