"""boto3: an AWS account in one region. The only importer of boto3 and botocore.

Credentials, region and endpoints come from where boto3 looks for them: AWS_PROFILE, AWS_ENDPOINT_URL and the like. One
exception: the metadata service of the machine that this runs on is asked for a role's credentials only if
AWS_EC2_METADATA_DISABLED=false says that it is there; on another machine, anybody could answer at that address.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from imagebuilder.ec2.boto_failure import translated
from imagebuilder.ec2.call_failed import CallFailed
from imagebuilder.ec2.retry import Call, RetryBudget
from imagebuilder.ec2.signing import Credentials
from imagebuilder.errors import RemoteError, UsageError
from imagebuilder.recipe.model import nearest
from imagebuilder.secret import Secret

if TYPE_CHECKING:
    from boto3 import Session
    from botocore.config import Config
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
Page = TypeVar("Page", bound=Mapping[str, object])

_CONNECT_TIMEOUT_S = 10
_SHORTEST_POLL_S, _LONGEST_POLL_S = 0.2, 5.0


class Account:
    """An account in one region; made by `open_account`. Its methods may be called from several threads."""

    def __init__(self, session: "Session", region: str, budget: RetryBudget) -> None:
        self._session = session
        self.region = region
        self.budget = budget

    @cached_property
    def ec2(self) -> "EC2Client":
        """EC2's client, for use inside `call`."""
        return self._session.client("ec2", region_name=self.region, config=self._config)

    @cached_property
    def s3(self) -> "S3Client":
        """S3's client, for use inside `call`."""
        return self._session.client("s3", region_name=self.region, config=self._config)

    @cached_property
    def ebs_endpoint(self) -> str:
        """The URL of the EBS direct APIs."""
        return str(self._session.client("ebs", region_name=self.region).meta.endpoint_url)

    def in_region(self, region: str) -> "Account":
        """The same account in another region, with the same retry budget."""
        return Account(self._session, region, self.budget)

    def with_budget(self, budget: RetryBudget) -> "Account":
        """The same account and region, with another retry budget."""
        return Account(self._session, self.region, budget)

    def credentials(self) -> Credentials:
        """The credentials as they are now; boto3 renews those that end. Raises RemoteError if there are none."""
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - boto3 takes a quarter of a second

        try:
            found = self._session.get_credentials()
            frozen = found.get_frozen_credentials() if found else None
        except BotoCoreError as error:
            raise _no_credentials(str(error)) from error
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise _no_credentials("there are no credentials of AWS")
        return Credentials(
            access_key=frozen.access_key,
            secret_key=Secret(frozen.secret_key),
            session_token=Secret(frozen.token) if frozen.token else None,
        )

    def call(
        self, action: str, what: str, attempt: Callable[[], T], *, service: str = "ec2", made_at: float | None = None
    ) -> T:
        """What `attempt` returns, which is one call of `ec2` or `s3`; again where that may help.

        `made_at`: see RetryBudget.run. Raises RemoteError, whose `failure_code` is the service's name of the error.
        """
        call = Call(service=service, action=action, what=what)

        def translated_attempt() -> T:
            with translated():
                return attempt()

        return self.budget.run(call, translated_attempt, made_at=made_at)

    def pages(self, action: str, what: str, ask: Callable[..., Page], request: Mapping[str, object]) -> Iterator[Page]:
        """All pages of the answer to `request`, each by a call of its own."""
        token = ""
        while True:
            page = self.call(action, what, partial(ask, **request, **({"NextToken": token} if token else {})))
            yield page
            token = str(page.get("NextToken") or "")
            if not token:
                return

    def wait(self, look: Callable[[], T | None], *, what: str, wanted: str, timeout_s: float) -> T:
        """What `look` finds in the end. Raises RemoteError after `timeout_s` seconds."""
        began = self.budget.now()
        while True:
            found = look()
            if found is not None:
                return found
            waited_s = self.budget.now() - began
            if waited_s > timeout_s:
                fix = "run the same command again in a while"
                raise RemoteError(f"was not {wanted} after {timeout_s:g} s", where=what, fix=fix)
            time.sleep(min(_LONGEST_POLL_S, max(_SHORTEST_POLL_S, waited_s / 4)))

    @cached_property
    def _config(self) -> "Config":
        from botocore.config import Config  # noqa: PLC0415 - boto3 takes a quarter of a second

        return Config(
            retries={"total_max_attempts": 1, "mode": "standard"},  # the retry budget has them all
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=self.budget.limits.attempt_timeout_s,
            user_agent_extra="imgbuild",
        )


def open_account(region: str | None, budget: RetryBudget) -> Account:
    """The account that the environment and AWS's own files describe; `region` is theirs if it is None.

    Makes no call. Raises UsageError if there is no region, or a profile that does not exist.
    """
    import boto3  # noqa: PLC0415 - it takes a quarter of a second
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    try:
        session = boto3.Session(region_name=region or os.environ.get("AWS_REGION"))
    except BotoCoreError as error:
        raise UsageError(str(error), fix="set AWS_PROFILE to a profile of ~/.aws/config") from error
    if session.region_name is None:
        raise UsageError("no region of AWS is chosen", fix="use --region, or set AWS_REGION")
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "true").lower() != "false":
        session._session.get_component("credential_provider").remove("iam-role")  # noqa: SLF001 - no public way
    account = Account(session, session.region_name, budget)
    _require_known(session, account)
    return account


def _require_known(session: "Session", account: Account) -> None:
    """Raise UsageError for a region that AWS does not have: that its endpoints have no address takes long to find out.

    Another cloud's regions have the names that it likes.
    """
    if ".amazonaws.com" not in account.ec2.meta.endpoint_url:
        return
    partitions = session.get_available_partitions()
    regions = [region for partition in partitions for region in session.get_available_regions("ec2", partition)]
    if account.region not in regions:
        fix = "use --region, or set AWS_REGION; for a region that is new, bring boto3 up to date"
        raise UsageError(f"AWS has no region '{account.region}'.{nearest(account.region, regions)}", fix=fix)


def failure_code(error: RemoteError) -> str:
    """The service's name of the error that a call was given up for; empty if it was none of a service."""
    return error.__cause__.code if isinstance(error.__cause__, CallFailed) else ""


def _no_credentials(what: str) -> RemoteError:
    fix = (
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; to try it without AWS: `imgbuild cloud start`"
    )
    return RemoteError(what, fix=fix)
