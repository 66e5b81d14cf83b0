"""EC2's query protocol: parameters of a form, and answers in XML."""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from xml.sax.saxutils import escape

from imagebuilder.cloud.refusals import Refusal

_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
# Those of every call.
_OF_ALL = {"Action", "Version"}


class Parameters:
    """The parameters of a call, or of one thing in it; each that nobody asks for is one that EC2 does not know."""

    def __init__(self, values: Mapping[str, str], prefix: str = "", used: set[str] | None = None) -> None:
        self._values = values
        self._prefix = prefix
        self._used = set(_OF_ALL) if used is None else used

    def text(self, name: str) -> str | None:
        """The value of a parameter, or None if it is not there."""
        self._used.add(self._prefix + name)
        return self._values.get(self._prefix + name)

    def required(self, name: str) -> str:
        """The value of a parameter that must be there."""
        value = self.text(name)
        if not value:
            message = f"The request must contain the parameter {self._prefix}{name}"
            raise Refusal(code="MissingParameter", message=message)
        return value

    def flag(self, name: str) -> bool | None:
        """True or false, or None if it is not there."""
        value = self.text(name)
        if value is None:
            return None
        if value.lower() not in {"true", "false"}:
            raise bad_value(f"Invalid value '{value}' for {self._prefix}{name}. It must be true or false")
        return value.lower() == "true"

    def number(self, name: str) -> int | None:
        """A whole number, or None if it is not there."""
        value = self.text(name)
        if value is None:
            return None
        if not re.fullmatch(r"-?\d{1,18}", value):
            raise bad_value(f"Invalid value '{value}' for {self._prefix}{name}. It must be a number")
        return int(value)

    def one_of(self, name: str, *known: str) -> str | None:
        """A value out of a few, or None if it is not there."""
        value = self.text(name)
        if value is not None and value not in known:
            raise bad_value(f"Value ({value}) for parameter {name} is invalid. It must be one of {', '.join(known)}")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of values: name.1, name.2, …"""
        return [self._values[key] for key in self._numbered(name) if self._use(key)]

    def things(self, name: str) -> "list[Parameters]":
        """A list of things with parameters of their own: name.1.…, name.2.…"""
        return [Parameters(self._values, f"{key}.", self._used) for key in self._numbered(name)]

    def thing(self, name: str) -> "Parameters":
        """The parameters of one thing: name.…"""
        return Parameters(self._values, f"{self._prefix}{name}.", self._used)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any(key.startswith(self._prefix) for key in self._values)

    def finish(self) -> None:
        """Raise Refusal if there is a parameter that nobody asked for."""
        unknown = sorted(set(self._values) - self._used)
        if unknown:
            message = f"The parameter {unknown[0]} is not recognized"
            raise Refusal(code="UnknownParameter", message=message)

    def _use(self, key: str) -> bool:
        self._used.add(key)
        return True

    def _numbered(self, name: str) -> list[str]:
        pattern = re.compile(rf"{re.escape(self._prefix + name)}\.(\d+)(?=\.|$)")
        found = {int(match[1]): match[0] for key in self._values if (match := pattern.match(key))}
        return [found[number] for number in sorted(found)]


def bad_value(message: str) -> Refusal:
    """A parameter with a value that cannot be."""
    return Refusal(code="InvalidParameterValue", message=message)


def bad_combination(message: str) -> Refusal:
    """Parameters that cannot be together."""
    return Refusal(code="InvalidParameterCombination", message=message)


def to_xml(action: str, request_id: str, document: Mapping[str, object]) -> bytes:
    """The answer to `action`. A list becomes items, None is left out, times are in ISO 8601 with milliseconds."""
    inner = f"<requestId>{request_id}</requestId>{_fields(document)}"
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{action}Response xmlns="{_NAMESPACE}">{inner}</{action}Response>'
    return text.encode()


def iso_time(time: datetime) -> str:
    """A time as EC2 writes it."""
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"


def _fields(document: Mapping[str, object]) -> str:
    return "".join(f"<{name}>{_value(value)}</{name}>" for name, value in document.items() if value is not None)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return iso_time(value)
        case Mapping():
            return _fields(value)
        case list() | tuple():
            return "".join(f"<item>{_value(item)}</item>" for item in value)
        case _:
            return escape(str(value))


def page_of(
    parameters: Parameters, things: Sequence[Mapping[str, object]], *, least: int, ids: Sequence[str]
) -> tuple[Sequence[Mapping[str, object]], str | None]:
    """The page that MaxResults and NextToken ask for, and the token of the next one."""
    most, token = parameters.number("MaxResults"), parameters.text("NextToken")
    if most is not None and ids:
        raise bad_combination("The parameter MaxResults cannot be used with a list of ids")
    if most is not None and not least <= most <= 1000:
        raise bad_value(f"Value ({most}) for parameter maxResults is invalid. Expecting a value from {least} to 1000")
    start = _token_start(token)
    page = things[start : None if most is None else start + most]
    following = start + len(page)
    return page, b64encode(f"from {following}".encode()).decode() if following < len(things) else None


def _token_start(token: str | None) -> int:
    if token is None:
        return 0
    try:
        found = re.fullmatch(rb"from (\d+)", b64decode(token, validate=True))
    except ValueError:
        found = None
    if found is None:
        raise Refusal(code="InvalidNextToken", message="The value for parameter NextToken is invalid")
    return int(found[1])
