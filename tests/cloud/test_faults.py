"""Faults to order: each kind does what it says, to the calls that were chosen."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from imagebuilder.cloud import Fault, RunningCloud, running_cloud
from imagebuilder.cloud.faults import Kind
from tests.cloud.clients import AT_ONCE, Clients, block, refused


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    """A cloud for the faults, which would befall other tests too."""
    with running_cloud(tmp_path_factory.mktemp("faults"), tuning=AT_ONCE) as running:
        yield running


@pytest.fixture(scope="module")
def clients(cloud: RunningCloud) -> Clients:
    return Clients(cloud)


@pytest.fixture
def aws(clients: Clients) -> Iterator[Clients]:
    yield clients
    clients.cloud.clear_faults()


def actions(cloud: RunningCloud, since: int) -> list[tuple[object, object]]:
    return [(call["action"], call.get("fault")) for call in cloud.requests(since=since)]


@pytest.mark.parametrize(
    ("kind", "of_ec2", "of_ebs"),
    [
        ("throttle", "RequestLimitExceeded", "RequestThrottledException"),
        ("error-500", "InternalError", "InternalServerException"),
        ("error-503", "Unavailable", "ServiceUnavailable"),
        ("access-denied", "UnauthorizedOperation", "AccessDeniedException"),
        ("expired-token", "RequestExpired", "ExpiredTokenException"),
    ],
)
def test_each_service_tells_a_fault_in_its_own_words(aws: Clients, kind: Kind, of_ec2: str, of_ebs: str) -> None:
    aws.cloud.add_fault(Fault(kind=kind))

    with refused(of_ec2):
        aws.ec2.describe_images()
    with refused(of_ebs):
        aws.start()


def test_a_throttled_bucket_says_slow_down(aws: Clients) -> None:
    aws.cloud.add_fault(Fault(kind="throttle", service="s3"))

    with refused("SlowDown"):
        aws.s3.list_buckets()


def test_a_fault_befalls_only_the_action_it_is_for(aws: Clients) -> None:
    aws.cloud.add_fault(Fault(kind="error-500", action="RegisterImage"))

    assert aws.ec2.describe_images()["Images"] == []


def test_a_fault_befalls_only_the_block_it_is_for(aws: Clients) -> None:
    snapshot = aws.start()
    aws.cloud.add_fault(Fault(kind="error-500", action="PutSnapshotBlock", subject="7"))

    aws.put(snapshot, 6, block(b"a"))

    with refused("InternalServerException"):
        aws.put(snapshot, 7, block(b"a"))


def test_the_nth_call_fails_and_no_other(aws: Clients) -> None:
    aws.cloud.add_fault(Fault(kind="throttle", action="DescribeImages", nth=2))

    aws.ec2.describe_images()
    with refused("RequestLimitExceeded"):
        aws.ec2.describe_images()
    aws.ec2.describe_images()

    assert [(rule["seen"], rule["hit"]) for rule in aws.cloud.faults()] == [(3, 1)]


def test_as_many_calls_fail_as_were_ordered(aws: Clients) -> None:
    aws.cloud.add_fault(Fault(kind="throttle", action="DescribeImages", count=1))

    with refused("RequestLimitExceeded"):
        aws.ec2.describe_images()

    assert aws.ec2.describe_images()["Images"] == []


def fails(aws: Clients) -> bool:
    try:
        aws.ec2.describe_images()
    except ClientError:
        return True
    return False


def test_chance_is_the_same_in_each_run(aws: Clients) -> None:
    fault = Fault(kind="throttle", action="DescribeImages", probability=0.5, seed=3)
    aws.cloud.add_fault(fault)
    first = [fails(aws) for _ in range(12)]
    aws.cloud.clear_faults()
    aws.cloud.add_fault(fault)

    assert [fails(aws) for _ in range(12)] == first
    assert len(set(first)) == 2


def test_a_call_that_is_dropped_before_it_is_carried_out_did_nothing(aws: Clients) -> None:
    snapshot = aws.start()
    aws.cloud.add_fault(Fault(kind="drop", action="CompleteSnapshot", count=1))

    with pytest.raises(ConnectionClosedError):
        aws.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)

    assert aws.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "pending"


def test_a_call_whose_answer_is_dropped_was_carried_out(aws: Clients) -> None:
    snapshot = aws.start()
    aws.cloud.add_fault(Fault(kind="drop", when="after", action="CompleteSnapshot", count=1))

    with pytest.raises(ConnectionClosedError):
        aws.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)

    assert aws.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "completed"


@pytest.mark.parametrize("kind", ["hang", "slow"])
def test_a_call_that_is_held_up_has_no_answer_in_time(aws: Clients, kind: Kind) -> None:
    aws.cloud.add_fault(Fault(kind=kind, action="DescribeImages", delay_s=60, count=1))

    with pytest.raises(ReadTimeoutError):
        Clients(aws.cloud, read_timeout_s=0.2).ec2.describe_images()

    assert aws.ec2.describe_images()["Images"] == []


def test_a_slow_call_has_its_answer_in_the_end(aws: Clients) -> None:
    aws.cloud.add_fault(Fault(kind="slow", action="DescribeImages", delay_s=0.1, count=1))

    assert aws.ec2.describe_images()["Images"] == []
    assert aws.cloud.requests()[-1]["ms"] > 100  # type: ignore[operator]


def test_an_answer_that_trickles_takes_its_time(aws: Clients) -> None:
    aws.cloud.add_fault(Fault(kind="trickle", action="GetCallerIdentity", bytes_per_s=4000, count=1))

    assert aws.sts.get_caller_identity()["Account"] == "123456789012"


def test_a_corrupt_block_is_not_what_was_put(aws: Clients) -> None:
    snapshot = aws.snapshot(block(b"a"))
    aws.cloud.add_fault(Fault(kind="corrupt", action="GetSnapshotBlock", count=1))

    damaged = aws.read(snapshot)

    assert damaged[0] != block(b"a")
    assert aws.read(snapshot) == {0: block(b"a")}


def test_the_log_has_every_call_and_nothing_secret(tmp_path: Path) -> None:
    with running_cloud(tmp_path) as cloud:
        logged = Clients(cloud)
        snapshot = logged.start()
        cloud.add_fault(Fault(kind="throttle", action="DescribeSnapshots"))
        assert fails(Clients(cloud)) is False
        with refused("RequestLimitExceeded"):
            logged.ec2.describe_snapshots()
        secret = cloud.credentials.secret.reveal().decode()

    text = (tmp_path / "requests.jsonl").read_text(encoding="utf-8")
    calls = [json.loads(line) for line in text.splitlines()]
    assert [(call["action"], call["status"], call.get("code")) for call in calls] == [
        ("StartSnapshot", 201, None),
        ("DescribeImages", 200, None),
        ("DescribeSnapshots", 503, "RequestLimitExceeded"),
    ]
    assert calls[0]["SnapshotId"] == snapshot
    assert secret not in text
    assert "Signature" not in text


def test_calls_are_counted_from_where_one_wants(aws: Clients) -> None:
    before = len(aws.cloud.requests())

    aws.ec2.describe_images()
    aws.start()

    assert actions(aws.cloud, before) == [("DescribeImages", None), ("StartSnapshot", None)]
