"""What the cloud refuses, in the words and the format of each service."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from imagebuilder.cloud.http_messages import Response


@dataclass(kw_only=True)
class Refusal(Exception):  # noqa: N818 - the word for it
    """A request that is not carried out: the code and the text that AWS gives, and the HTTP status."""

    code: str
    message: str
    status: int = 400
    fields: Mapping[str, str] = field(default_factory=dict)
    """Further fields of the error's document, such as EBS's Reason."""
    headers: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def refuse(service: str, refusal: Refusal, request_id: str) -> Response:
    """The answer that tells a client of `service` of a refusal."""
    match service:
        case "ec2":
            error = _elements({"Code": refusal.code, "Message": refusal.message, **refusal.fields})
            text = f"<Response><Errors><Error>{error}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
            return _xml(refusal, text)
        case "s3":
            known = {"Code": refusal.code, "Message": refusal.message, **refusal.fields, "RequestId": request_id}
            response = _xml(refusal, f"<Error>{_elements(known)}</Error>")
            response.headers.append(("x-amz-request-id", request_id))
            return response
        case "sts" | "iam":
            error = _elements({"Type": "Sender", "Code": refusal.code, "Message": refusal.message})
            return _xml(
                refusal, f"<ErrorResponse><Error>{error}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
            )
        case _:
            shown = {"__type": refusal.code, "message": refusal.message, **refusal.fields}
            headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", refusal.code)]
            headers += [("x-amzn-RequestId", request_id), *refusal.headers]
            return Response(status=refusal.status, headers=headers, body=json.dumps(shown).encode())


def _elements(fields: Mapping[str, str]) -> str:
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())


def _xml(refusal: Refusal, text: str) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return Response(
        status=refusal.status, headers=[("Content-Type", "text/xml;charset=UTF-8"), *refusal.headers], body=body
    )
