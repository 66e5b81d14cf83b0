from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from imagebuilder.ec2.call_failed import CONNECTION_LOST, TIMEOUT, CallFailed, Trouble
from imagebuilder.ec2.retry import Call, RetryBudget, RetryLimits, Surroundings
from imagebuilder.errors import RemoteError

PUT = Call(service="ebs", action="PutSnapshotBlock", what="block 17 of snap-0a")


@dataclass
class Clock:
    """Time that passes by sleeping only."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


def budget(clock: Clock, **limits: float) -> RetryBudget:
    around = Surroundings(now=lambda: clock.now, sleep=clock.sleep, chance=lambda: 1.0)
    return RetryBudget(RetryLimits(**limits), around)  # type: ignore[arg-type]


def failed(code: str, status: int | None = None, message: str = "") -> CallFailed:
    return CallFailed(code=code, status=status, message=message)


def answers(*outcomes: object) -> Callable[[], object]:
    """An attempt that has these outcomes one after another, then no more."""
    left = iter(outcomes)

    def attempt() -> object:
        outcome = next(left)
        if isinstance(outcome, CallFailed):
            raise outcome
        return outcome

    return attempt


def forever(clock: Clock, outcome: CallFailed, takes_s: float = 0.0) -> Callable[[], object]:
    def attempt() -> object:
        clock.now += takes_s
        raise outcome

    return attempt


def succeed(own: RetryBudget, times: int) -> None:
    for _ in range(times):
        own.run(PUT, answers("done"))


@pytest.mark.parametrize(
    "failure",
    [
        failed("InternalServerException", 500),
        failed("Unavailable", 503),
        failed(CONNECTION_LOST),
        failed(TIMEOUT),
        failed("ThrottlingException", 400),
        failed("RequestThrottledException", 400),
        failed("RequestLimitExceeded", 503),
        failed("SlowDown", 503),
        failed("Unheard", 429),
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(failure: CallFailed) -> None:
    clock = Clock()

    answer = budget(clock).run(PUT, answers(failure, failure, "done"))

    assert answer == "done"
    assert len(clock.slept) >= 2


@pytest.mark.parametrize(
    ("failure", "fix"),
    [
        (failed("AccessDeniedException", 403), "allow ebs:PutSnapshotBlock"),
        (failed("UnauthorizedOperation", 403), "allow ebs:PutSnapshotBlock"),
        (failed("ValidationException", 400), "would be refused again"),
        (failed("ConflictException", 503), "would be refused again"),
        (failed("ExpiredTokenException", 403), "log in again"),
        (failed("RequestExpired", 400), "log in again"),
        (failed("SignatureDoesNotMatch", 403), "log in again"),
        (failed("ResourceNotFoundException", 404), "check the region"),
    ],
    ids=str,
)
def test_what_would_fail_again_is_tried_once(failure: CallFailed, fix: str) -> None:
    clock = Clock()

    with pytest.raises(RemoteError) as caught:
        budget(clock).run(PUT, answers(failure, "never"))

    assert fix in str(caught.value)
    assert clock.slept == []


def test_the_error_says_service_action_what_how_often_and_the_fix() -> None:
    clock = Clock()

    with pytest.raises(RemoteError) as caught:
        budget(clock, attempts=3).run(PUT, forever(clock, failed("InternalServerException", 500, "Oops.")))

    assert str(caught.value) == (
        "ebs:PutSnapshotBlock: block 17 of snap-0a: InternalServerException: Oops. (tried 3 times in 1 s)\n"
        "  fix: check the network, the proxy and the endpoint, then run the same command again"
    )


def test_delays_double_up_to_a_longest() -> None:
    clock = Clock()

    with pytest.raises(RemoteError):
        budget(clock, attempts=10, patience_s=1000).run(PUT, forever(clock, failed(CONNECTION_LOST)))

    assert clock.slept == [0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0, 20.0]


def test_hanging_attempts_use_up_the_patience_of_the_run() -> None:
    clock = Clock()

    with pytest.raises(RemoteError, match=r"no answer within 60 s.*tried 3 times"):
        budget(clock, patience_s=180).run(PUT, forever(clock, failed(TIMEOUT), takes_s=60))

    assert clock.now < 1000 + 250


def test_the_patience_is_one_for_all_calls_of_a_run() -> None:
    clock = Clock()
    own = budget(clock, attempts=2, patience_s=100)
    with pytest.raises(RemoteError):
        own.run(PUT, forever(clock, failed(TIMEOUT), takes_s=49))

    with pytest.raises(RemoteError) as caught:
        own.run(PUT, forever(clock, failed(TIMEOUT), takes_s=3))

    assert "tried" not in str(caught.value)


def test_a_success_gives_the_run_its_patience_back() -> None:
    clock = Clock()
    own = budget(clock, attempts=2, patience_s=100)
    with pytest.raises(RemoteError):
        own.run(PUT, forever(clock, failed(TIMEOUT), takes_s=49))

    own.run(PUT, answers("done"))

    assert own.run(PUT, answers(failed(TIMEOUT), "done")) == "done"


def test_being_throttled_does_not_use_up_attempts() -> None:
    clock = Clock()
    throttled = [failed("RequestThrottledException", 400)] * 9

    answer = budget(clock, attempts=2).run(PUT, answers(*throttled, "done"))

    assert answer == "done"


def test_a_throttled_call_slows_the_next_calls_and_successes_free_them() -> None:
    clock = Clock()
    own = budget(clock)
    own.run(PUT, answers(*[failed("RequestThrottledException", 400)] * 4, "done"))
    clock.slept.clear()

    succeed(own, times=400)

    assert clock.slept[1] > clock.slept[50] > 0
    assert len(clock.slept) < 200


def test_throttling_of_one_service_leaves_the_other_alone() -> None:
    clock = Clock()
    own = budget(clock)
    own.run(PUT, answers(failed("RequestThrottledException", 400), "done"))
    clock.slept.clear()

    own.run(Call(service="ec2", action="DescribeImages", what="images"), answers("done"))

    assert clock.slept == []


def test_something_new_that_is_not_found_is_waited_for() -> None:
    clock = Clock()
    own = budget(clock)

    answer = own.run(PUT, answers(*[failed("InvalidSnapshot.NotFound", 400)] * 20, "there"), made_at=own.now())

    assert answer == "there"


def test_something_that_is_never_found_is_given_up_after_two_minutes() -> None:
    clock = Clock()
    own = budget(clock)

    with pytest.raises(RemoteError, match="InvalidAMIID"):
        own.run(PUT, forever(clock, failed("InvalidAMIID.NotFound", 400)), made_at=own.now())

    assert 1120 <= clock.now < 1123


def test_an_interruption_of_the_sleep_ends_the_call() -> None:
    clock = Clock()

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        budget(clock).run(PUT, forever(clock, failed(TIMEOUT)), sleep=interrupted)


def test_other_exceptions_pass_through() -> None:
    def broken() -> Iterator[object]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        budget(Clock()).run(PUT, broken)


def test_what_follows_the_first_line_of_a_message_is_dropped() -> None:
    message = "The signature does not match.\n\nThe Canonical String should have been\n'x-amz-security-token:FwoG'"

    failure = failed("SignatureDoesNotMatch", 403, message)

    assert failure.reason == "SignatureDoesNotMatch: The signature does not match."


def test_an_unknown_error_of_the_client_is_refused() -> None:
    assert failed("Unheard", 400).trouble is Trouble.REFUSED
