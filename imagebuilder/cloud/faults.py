"""Faults to order: which calls go wrong, and how."""

import random
import threading
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from imagebuilder.cloud.refusals import Refusal

Kind = Literal[
    "throttle", "error-500", "error-503", "access-denied", "expired-token", "slow", "trickle", "hang", "drop", "corrupt"
]


class Fault(BaseModel):
    """One rule: the calls that it is for, and what becomes of them.

    Of the calls that fit `service`, `action` and `subject`, those that `nth`, `probability` and `count` choose.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    service: str | None = None
    """ec2, ebs, s3, sts …; None for all."""
    action: str | None = None
    """Such as PutSnapshotBlock; None for all."""
    subject: str | None = None
    """An id, a name or a block's index that the call must be about; None for whatever."""
    nth: Annotated[int, Field(ge=1)] | None = None
    """The call that it begins with, counted from 1."""
    count: Annotated[int, Field(ge=1)] | None = None
    """How many calls it is for; None for all, but with `nth` one."""
    probability: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int = 0
    """Of the chance that `probability` speaks of: the same calls in each run."""
    when: Literal["before", "after"] = "before"
    """Of drop, hang and slow: before the call is carried out, or after that and before the answer."""
    delay_s: Annotated[float, Field(ge=0)] = 1.0
    """Of slow."""
    bytes_per_s: Annotated[float, Field(gt=0)] = 100.0
    """Of trickle."""


class _Rule:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.seen = 0
        self.hit = 0
        self._chance = random.Random(fault.seed)  # noqa: S311 - to repeat, not to hide

    def fits(self, service: str, action: str, subjects: Sequence[str]) -> bool:
        fault = self.fault
        return (
            fault.service in {None, service}
            and fault.action in {None, action}
            and (fault.subject is None or fault.subject in subjects)
        )

    def strikes(self) -> bool:
        """Whether it is for the call that has just come."""
        self.seen += 1
        fault = self.fault
        most = fault.count if fault.count is not None or fault.nth is None else 1
        if most is not None and self.hit >= most:
            return False
        if fault.nth is not None and self.seen < fault.nth:
            return False
        if fault.probability is not None and self._chance.random() >= fault.probability:
            return False
        self.hit += 1
        return True


class Faults:
    """The rules that are in force. Of several that strike a call the first counts."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Have one rule more."""
        with self._lock:
            self._rules.append(_Rule(fault))

    def clear(self) -> None:
        """Have no rules."""
        with self._lock:
            self._rules.clear()

    def strike(self, service: str, action: str, subjects: Sequence[str]) -> Fault | None:
        """The fault that befalls a call, if any."""
        if not self._rules:
            return None
        with self._lock:
            fitting = [rule for rule in self._rules if rule.fits(service, action, subjects)]
            striking = [rule for rule in fitting if rule.strikes()]
            return striking[0].fault if striking else None

    def shown(self) -> list[dict[str, object]]:
        """The rules, with how many calls each has seen and hit."""
        with self._lock:
            return [
                {**rule.fault.model_dump(exclude_none=True), "seen": rule.seen, "hit": rule.hit} for rule in self._rules
            ]


def refusal_of(kind: Kind, service: str) -> Refusal | None:
    """What a service says when this befalls a call; None for faults that are not told."""
    refusals = _REFUSALS.get(kind)
    if refusals is None:
        return None
    code, status, message = refusals.get(service, refusals["ebs"])
    fields = {}
    if service == "ebs" and code == "RequestThrottledException":
        fields["Reason"] = "ACCOUNT_THROTTLED"
    elif service == "ebs" and code == "AccessDeniedException":
        fields["Reason"] = "UNAUTHORIZED_ACCOUNT"
    return Refusal(code=code, message=message, status=status, fields=fields)


_REFUSALS = {
    "throttle": {
        "ec2": ("RequestLimitExceeded", 503, "Request limit exceeded."),
        "ebs": ("RequestThrottledException", 400, "Rate exceeded"),
        "s3": ("SlowDown", 503, "Please reduce your request rate."),
        "sts": ("Throttling", 400, "Rate exceeded"),
    },
    "error-500": {
        "ec2": ("InternalError", 500, "An internal error has occurred"),
        "ebs": ("InternalServerException", 500, "An internal error has occurred."),
        "s3": ("InternalError", 500, "We encountered an internal error. Please try again."),
        "sts": ("InternalFailure", 500, "An internal error has occurred."),
    },
    "error-503": {
        "ec2": ("Unavailable", 503, "The server is overloaded and can't handle the request."),
        "ebs": ("ServiceUnavailable", 503, "The service is unavailable."),
        "s3": ("ServiceUnavailable", 503, "Reduce your request rate."),
        "sts": ("ServiceUnavailable", 503, "The service is unavailable."),
    },
    "access-denied": {
        "ec2": ("UnauthorizedOperation", 403, "You are not authorized to perform this operation."),
        "ebs": ("AccessDeniedException", 403, "You do not have sufficient access to perform this action."),
        "s3": ("AccessDenied", 403, "Access Denied"),
        "sts": ("AccessDenied", 403, "You are not authorized to perform this action."),
    },
    "expired-token": {
        "ec2": ("RequestExpired", 400, "Request has expired."),
        "ebs": ("ExpiredTokenException", 403, "The security token included in the request is expired"),
        "s3": ("ExpiredToken", 400, "The provided token has expired."),
        "sts": ("ExpiredToken", 403, "The security token included in the request is expired"),
    },
}
