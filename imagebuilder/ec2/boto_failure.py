"""What botocore raises, in the words of `call_failed`.

botocore is imported when it is first needed, as it takes a quarter of a second.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from imagebuilder.ec2.call_failed import BAD_ANSWER, CERTIFICATE_REFUSED, CONNECTION_LOST, TIMEOUT, CallFailed

_BY_NAME = {
    "ReadTimeoutError": TIMEOUT,
    "ConnectTimeoutError": TIMEOUT,
    "SSLError": CERTIFICATE_REFUSED,
    # A parameter that this version of botocore does not know: no attempt will change that.
    "ParamValidationError": "NotImplemented",
    "UnknownParameterError": "NotImplemented",
    **dict.fromkeys(
        ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
        "MissingAuthenticationToken",
    ),
    **dict.fromkeys(
        ("UnauthorizedSSOTokenError", "SSOTokenLoadError", "LoginRefreshRequired"), "MissingAuthenticationToken"
    ),
}


@contextmanager
def translated() -> Iterator[None]:
    """Around one call by boto3, as an attempt of `RetryBudget.run`: raises CallFailed for all that botocore raises."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see above
    from botocore.parsers import ResponseParserError  # noqa: PLC0415

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
    except ResponseParserError as error:
        raise CallFailed(code=BAD_ANSWER, message=str(error)) from error
    except BotoCoreError as error:
        code = _BY_NAME.get(type(error).__name__, CONNECTION_LOST)
        raise CallFailed(code=code, message=str(error)) from error
