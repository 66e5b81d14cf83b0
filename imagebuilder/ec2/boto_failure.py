"""What botocore raises, in the words of `call_failed`."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from imagebuilder.ec2.call_failed import CERTIFICATE_REFUSED, CONNECTION_LOST, TIMEOUT, CallFailed


@contextmanager
def translated() -> Iterator[None]:
    """Around one call by boto3, as an attempt of `RetryBudget.run`: raises CallFailed for all that botocore raises."""
    try:
        yield
    except ClientError as error:
        said, answer = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
        raise CallFailed(
            code=said.get("Code", "Unknown"),
            message=said.get("Message", ""),
            status=answer.get("HTTPStatusCode"),
            request_id=answer.get("RequestId"),
        ) from error
    except BotoCoreError as error:
        raise CallFailed(code=_code_of(error), message=str(error)) from error


def _code_of(error: BotoCoreError) -> str:
    match error:
        case ReadTimeoutError() | ConnectTimeoutError():
            return TIMEOUT
        case SSLError():
            return CERTIFICATE_REFUSED
        case NoCredentialsError() | PartialCredentialsError():
            return "MissingAuthenticationToken"
        case _:
            return CONNECTION_LOST
