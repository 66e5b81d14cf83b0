"""A call of AWS that failed once, in words that fit every way to make one; and what can be done about it."""

from enum import Enum

_MESSAGE_CHARACTERS = 200


class Trouble(Enum):
    """What a failed call means for the one who made it."""

    FLEETING = "fleeting"
    """The network, or the service itself: worth another attempt."""
    THROTTLED = "throttled"
    """Too many calls: worth another attempt, later, and fewer of all others."""
    NOT_FOUND = "not found"
    """The thing is not there; or not yet, if it is new."""
    DENIED = "denied"
    """These credentials may not do that."""
    CREDENTIALS = "credentials"
    """The credentials themselves are not accepted: wrong, expired, or a clock that is."""
    REFUSED = "refused"
    """The request is wrong, or a quota is used up: the same again fails again."""


class CallFailed(Exception):  # noqa: N818 - it is one failed attempt, not yet an error
    """One attempt of a call failed.

    `status` is the HTTP status, None if no whole answer came; `code` is the service's name of the error, or one of
    `NO_ANSWER`. Of the service's message the first line is kept, as what follows may repeat the signed request.
    """

    def __init__(
        self,
        *,
        code: str,
        message: str = "",
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        self.code = code
        self.message = message.strip().partition("\n")[0][:_MESSAGE_CHARACTERS]
        self.status = status
        self.request_id = request_id
        super().__init__(self.reason)

    @property
    def reason(self) -> str:
        """The error's name, the service's message, and what its support asks for."""
        text = f"{self.code}: {self.message}" if self.message else self.code
        return f"{text} (request {self.request_id})" if self.request_id else text

    @property
    def trouble(self) -> Trouble:
        """What it means."""
        if known := _TROUBLE.get(self.code):
            return known
        if self.code.startswith("Invalid") and self.code.endswith(".NotFound"):
            return Trouble.NOT_FOUND
        if self.status is None or self.status >= 500:
            return Trouble.FLEETING
        return _TROUBLE_BY_STATUS.get(self.status, Trouble.REFUSED)


TIMEOUT, CONNECTION_LOST, BAD_ANSWER = "Timeout", "ConnectionLost", "BadAnswer"
CERTIFICATE_REFUSED = "CertificateRefused"
NO_ANSWER = (TIMEOUT, CONNECTION_LOST, BAD_ANSWER, CERTIFICATE_REFUSED)

_TROUBLE_BY_STATUS = {401: Trouble.CREDENTIALS, 403: Trouble.DENIED, 404: Trouble.NOT_FOUND, 429: Trouble.THROTTLED}

# botocore's list of throttling errors (retries/standard.py), and what EBS and S3 have beside it.
_THROTTLED = (
    *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException"),
    *("RequestLimitExceeded", "TooManyRequestsException", "PriorRequestNotComplete", "BandwidthLimitExceeded"),
    *("SlowDown", "LimitExceededException", "EC2ThrottledException"),
)
# Errors with a status below 500 that the next attempt may not meet.
_FLEETING = ("RequestTimeout", "RequestTimeoutException", "OperationAborted", BAD_ANSWER)
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "OptInRequired")
_CREDENTIALS = (
    *("AuthFailure", "ExpiredToken", "ExpiredTokenException", "RequestExpired", "RequestTimeTooSkewed"),
    *("InvalidClientTokenId", "InvalidAccessKeyId", "InvalidToken", "UnrecognizedClientException"),
    *("MissingAuthenticationToken", "MissingAuthenticationTokenException", "IncompleteSignature"),
    *("SignatureDoesNotMatch", "InvalidSignatureException"),
)
_NOT_FOUND = ("ResourceNotFoundException", "NoSuchKey", "NoSuchBucket")
# With a status from 500 on these would look fleeting; a refused certificate has no status.
_REFUSED = ("ConflictException", "ServiceQuotaExceededException", "NotImplemented", CERTIFICATE_REFUSED)

_TROUBLE = {
    **dict.fromkeys(_THROTTLED, Trouble.THROTTLED),
    **dict.fromkeys(_FLEETING, Trouble.FLEETING),
    **dict.fromkeys(_DENIED, Trouble.DENIED),
    **dict.fromkeys(_CREDENTIALS, Trouble.CREDENTIALS),
    **dict.fromkeys(_NOT_FOUND, Trouble.NOT_FOUND),
    **dict.fromkeys(_REFUSED, Trouble.REFUSED),
}
