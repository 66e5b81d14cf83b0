import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.cloud import Fault, RunningCloud, running_cloud
from imagebuilder.ec2.block_digests import CHECKSUM_TAG
from imagebuilder.ec2.download import read_digests, read_snapshot
from imagebuilder.ec2.ebs import BLOCK_BYTES
from imagebuilder.ec2.retry import RetryLimits
from imagebuilder.ec2.snapshot_journal import begun_snapshot, delete_begun
from imagebuilder.ec2.upload import Services, SnapshotRequest, verified_parent
from imagebuilder.errors import BuildError, LeftoversError, RemoteError, UsageError
from tests.cloud.clients import AT_ONCE, Clients
from tests.cloud.uploads import (
    DISK_BYTES,
    ZEROS,
    Told,
    account,
    block,
    digests_of,
    journal_beside,
    puts,
    record,
    upload,
    upload_again,
    write_disk,
)

BLOCKS = {0: block(1), 3: ZEROS, 4: block(2), 63: block(3)}
TUNING = AT_ONCE.model_copy(update={"snapshot_visible_after_s": 0.05, "snapshot_completes_after_s": 0.05})


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    with running_cloud(tmp_path_factory.mktemp("cloud"), tuning=TUNING) as running:
        yield Clients(running)


@pytest.fixture
def cloud(aws: Clients) -> Iterator[RunningCloud]:
    """A cloud with nothing in it."""
    yield aws.cloud
    aws.cloud.clear_faults()
    services = account(aws.cloud)
    for snapshot_id in snapshots(aws.cloud):
        services.snapshots.delete(snapshot_id, made_at=services.client.budget.now())


@pytest.fixture
def services(cloud: RunningCloud) -> Services:
    return account(cloud)


def snapshots(cloud: RunningCloud) -> list[str]:
    """The ids of all snapshots that there are, in whatever state."""
    regions: dict[str, dict[str, dict[str, object]]] = cloud.state()["regions"]  # type: ignore[assignment]
    return sorted(regions["us-east-1"]["snapshots"]) if "us-east-1" in regions else []


def tag_checksum(aws: Clients, snapshot_id: str, checksum: str) -> None:
    aws.ec2.create_tags(Resources=[snapshot_id], Tags=[{"Key": CHECKSUM_TAG, "Value": checksum}])


# What is sent.


def test_a_snapshot_holds_what_the_disk_holds(aws: Clients, services: Services, tmp_path: Path) -> None:
    uploaded = upload(services, tmp_path / "disk", BLOCKS)

    assert aws.read(uploaded.id) == BLOCKS
    assert uploaded.digests.digests == digests_of(BLOCKS)
    assert (uploaded.blocks_sent, uploaded.blocks_put, uploaded.bytes_sent) == (4, 4, 4 * BLOCK_BYTES)


def test_it_has_its_tags_and_its_description(aws: Clients, services: Services, tmp_path: Path) -> None:
    request = SnapshotRequest(volume_gib=2, description="worker", tags={"imgbuild:key": "k1", "Name": "w"})

    uploaded = upload(services, tmp_path / "disk", BLOCKS, request)

    [shown] = aws.ec2.describe_snapshots(SnapshotIds=[uploaded.id])["Snapshots"]
    assert {tag["Key"]: tag["Value"] for tag in shown["Tags"]} == {"imgbuild:key": "k1", "Name": "w"}
    assert (shown["Description"], shown["VolumeSize"], shown["State"]) == ("worker", 2, "completed")


def test_zeros_may_be_left_out(cloud: RunningCloud, services: Services, tmp_path: Path) -> None:
    sent_before = len(cloud.requests())

    upload(services, tmp_path / "disk", BLOCKS, SnapshotRequest(volume_gib=1, coverage="nonzero"))

    assert puts(cloud, since=sent_before) == [0, 4, 63]


def test_an_encrypted_snapshot_gets_every_block_of_the_volume(
    aws: Clients, cloud: RunningCloud, services: Services, tmp_path: Path
) -> None:
    sent_before = len(cloud.requests())
    request = SnapshotRequest(volume_gib=1, coverage="everything", encrypted=True)

    uploaded = upload(services, tmp_path / "disk", BLOCKS, request)

    [shown] = aws.ec2.describe_snapshots(SnapshotIds=[uploaded.id])["Snapshots"]
    assert shown["Encrypted"] is True
    assert puts(cloud, since=sent_before) == list(range(2048))


def test_an_encrypted_snapshot_without_all_blocks_is_refused() -> None:
    with pytest.raises(UsageError, match="all blocks"):
        SnapshotRequest(volume_gib=1, encrypted=True)


def test_a_disk_that_is_larger_than_its_volume_is_refused(
    cloud: RunningCloud, services: Services, tmp_path: Path
) -> None:
    asked_before = len(cloud.requests())

    with pytest.raises(UsageError, match="do not fit"):
        upload(services, tmp_path / "disk", BLOCKS, SnapshotRequest(volume_gib=0))

    assert len(cloud.requests()) == asked_before


def test_progress_ends_with_all_blocks(services: Services, tmp_path: Path) -> None:
    told = Told()
    write_disk(tmp_path / "disk", BLOCKS)

    upload_again(services, tmp_path / "disk", BLOCKS, told=told)

    last = told.progress[-1]
    assert (last.done, last.total, last.sent) == (4, 4, 4)


# What is sent of a disk whose snapshot has a parent.


def test_of_an_edited_copy_only_the_changed_blocks_are_sent(
    aws: Clients, cloud: RunningCloud, services: Services, tmp_path: Path
) -> None:
    base = upload(services, tmp_path / "base", BLOCKS)
    sent_before = len(cloud.requests())
    edited = {**BLOCKS, 4: block(9), 5: block(8)}

    worker = upload(services, tmp_path / "worker", edited, SnapshotRequest(volume_gib=1, parent=record(base)))

    assert puts(cloud, since=sent_before) == [4, 5]
    assert aws.read(worker.id) == edited
    assert worker.digests.digests == digests_of(edited)


def test_zeros_are_sent_where_the_parent_has_something_else(
    aws: Clients, cloud: RunningCloud, services: Services, tmp_path: Path
) -> None:
    base = upload(services, tmp_path / "base", BLOCKS)
    sent_before = len(cloud.requests())
    request = SnapshotRequest(volume_gib=1, coverage="nonzero", parent=record(base))

    worker = upload(services, tmp_path / "worker", {63: block(3)}, request)

    assert puts(cloud, since=sent_before) == [0, 4]
    assert aws.read(worker.id) == {**BLOCKS, 0: ZEROS, 4: ZEROS}


def test_a_disk_without_a_difference_gets_a_snapshot_of_no_blocks(
    aws: Clients, services: Services, tmp_path: Path
) -> None:
    base = upload(services, tmp_path / "base", BLOCKS)

    worker = upload(services, tmp_path / "worker", BLOCKS, SnapshotRequest(volume_gib=1, parent=record(base)))

    assert (worker.blocks_sent, worker.checksum) == (0, base.checksum)
    assert aws.read(worker.id) == BLOCKS


def test_a_parent_is_used_if_its_snapshot_is_what_the_record_says(
    aws: Clients, services: Services, tmp_path: Path
) -> None:
    base = upload(services, tmp_path / "base", BLOCKS)
    tag_checksum(aws, base.id, base.checksum)

    parent = verified_parent(record(base), services, say=pytest.fail)

    assert parent == base.digests


def test_a_parent_that_is_gone_is_not_used_and_that_is_said(aws: Clients, services: Services, tmp_path: Path) -> None:
    base = upload(services, tmp_path / "base", BLOCKS)
    aws.ec2.delete_snapshot(SnapshotId=base.id)
    said: list[str] = []

    parent = verified_parent(record(base), services, say=said.append)

    assert parent is None
    assert said == [f"{base.id} does not exist: everything is sent, not only what differs"]


def test_a_parent_whose_blocks_are_others_is_not_used(aws: Clients, services: Services, tmp_path: Path) -> None:
    base = upload(services, tmp_path / "base", BLOCKS)
    wrong = replace(record(base), digests={**base.digests.digests, 9: bytes(32)})
    tag_checksum(aws, base.id, wrong.checksum)
    said: list[str] = []

    parent = verified_parent(wrong, services, say=said.append)

    assert parent is None
    assert "has other blocks" in said[0]


def test_the_record_of_a_snapshot_can_be_read_from_its_blocks(services: Services, tmp_path: Path) -> None:
    base = upload(services, tmp_path / "base", BLOCKS)

    read = read_digests(services.client, base.id, volume_gib=1, on_progress=lambda _: None)

    assert read == base.digests


def test_what_a_snapshot_changed_of_its_parent_is_listed(services: Services, tmp_path: Path) -> None:
    base = upload(services, tmp_path / "base", BLOCKS)
    edited = {**BLOCKS, 4: block(9), 5: block(8)}
    worker = upload(services, tmp_path / "worker", edited, SnapshotRequest(volume_gib=1, parent=record(base)))

    changed = list(services.client.list_changed_blocks(base.id, worker.id))

    assert [(block.index, block.first_token is None, block.second_token is None) for block in changed] == [
        (4, False, False),
        (5, True, False),
    ]


def test_a_parent_and_encryption_exclude_each_other(services: Services, tmp_path: Path) -> None:
    base = upload(services, tmp_path / "base", BLOCKS)

    with pytest.raises(UsageError, match="encryption of its parent"):
        SnapshotRequest(volume_gib=1, coverage="everything", encrypted=True, parent=base.digests)


# Back from the cloud.


def test_an_image_is_rebuilt_byte_for_byte_and_sparse(services: Services, tmp_path: Path) -> None:
    uploaded = upload(services, tmp_path / "disk", BLOCKS)
    back = tmp_path / "back"

    digests = read_snapshot(services.client, uploaded.id, back, size_bytes=DISK_BYTES, on_progress=lambda _: None)

    assert back.read_bytes() == (tmp_path / "disk").read_bytes()
    assert back.stat().st_blocks * 512 < 10 * BLOCK_BYTES
    assert digests == uploaded.digests.digests


def test_a_list_in_many_pages_is_read_to_its_end(tmp_path: Path) -> None:
    with running_cloud(tmp_path / "cloud", tuning=TUNING.model_copy(update={"blocks_a_page": 3})) as cloud:
        services = account(cloud)
        uploaded = upload(services, tmp_path / "disk", BLOCKS)

        listed = [index for index, _ in services.client.list_blocks(uploaded.id)]

    assert listed == list(BLOCKS)


def test_a_block_that_comes_back_damaged_is_asked_for_again(
    cloud: RunningCloud, services: Services, tmp_path: Path
) -> None:
    uploaded = upload(services, tmp_path / "disk", BLOCKS)
    cloud.add_fault(Fault(kind="corrupt", action="GetSnapshotBlock", count=2))

    read_snapshot(services.client, uploaded.id, tmp_path / "back", size_bytes=DISK_BYTES, on_progress=lambda _: None)

    assert (tmp_path / "back").read_bytes() == (tmp_path / "disk").read_bytes()


def test_data_behind_the_end_is_an_error_and_leaves_no_file(services: Services, tmp_path: Path) -> None:
    uploaded = upload(services, tmp_path / "disk", BLOCKS)

    with pytest.raises(BuildError, match="block 63"):
        read_snapshot(
            services.client, uploaded.id, tmp_path / "back", size_bytes=DISK_BYTES // 2, on_progress=lambda _: None
        )

    assert [path.name for path in tmp_path.glob("*back*")] == []


# Faults.


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="throttle", action="PutSnapshotBlock", count=3),
        Fault(kind="error-500", action="PutSnapshotBlock", count=3),
        Fault(kind="error-503", action="StartSnapshot", count=1),
        Fault(kind="drop", action="PutSnapshotBlock", count=3),
        Fault(kind="drop", when="after", action="PutSnapshotBlock", count=3),
        Fault(kind="drop", when="after", action="StartSnapshot", count=1),
        Fault(kind="drop", when="after", action="CompleteSnapshot", count=1),
        Fault(kind="drop", action="CompleteSnapshot", count=1),
        Fault(kind="hang", action="PutSnapshotBlock", count=1),
        Fault(kind="hang", when="after", action="CompleteSnapshot", count=1),
        Fault(kind="slow", action="PutSnapshotBlock", delay_s=0.2, count=3),
        Fault(kind="corrupt", action="PutSnapshotBlock", count=2),
        Fault(kind="throttle", service="ec2", action="DescribeSnapshots", count=1),
    ],
    ids=lambda fault: f"{fault.kind} {fault.when} {fault.action}",
)
def test_a_fault_that_passes_changes_nothing_in_the_end(
    aws: Clients, cloud: RunningCloud, services: Services, tmp_path: Path, fault: Fault
) -> None:
    cloud.add_fault(fault)

    uploaded = upload(services, tmp_path / "disk", BLOCKS)

    assert aws.read(uploaded.id) == BLOCKS
    assert snapshots(cloud) == [uploaded.id]
    assert cloud.faults()[0]["hit"] == fault.count


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(kind="access-denied", action="PutSnapshotBlock", nth=2), "allow ebs:PutSnapshotBlock"),
        (Fault(kind="access-denied", action="CompleteSnapshot"), "allow ebs:CompleteSnapshot"),
        (Fault(kind="expired-token", action="PutSnapshotBlock", nth=3), "log in again"),
        (Fault(kind="error-500", action="PutSnapshotBlock"), "tried 3 times"),
        (Fault(kind="hang", action="PutSnapshotBlock"), "no answer within"),
    ],
    ids=["denied", "denied at the end", "expired", "broken", "dead"],
)
def test_a_fault_that_stays_ends_the_upload_and_the_snapshot_can_be_undone(
    cloud: RunningCloud, tmp_path: Path, fault: Fault, message: str
) -> None:
    services = account(cloud, RetryLimits(attempt_timeout_s=0.7, attempts=3, patience_s=2, new_s=1))
    cloud.add_fault(fault)

    with pytest.raises(RemoteError, match=message):
        upload(services, tmp_path / "disk", BLOCKS)
    cloud.clear_faults()
    with journal_beside(tmp_path / "disk") as journal:
        deleted = delete_begun(journal, client=services.client, snapshots=services.snapshots)
        left = begun_snapshot(journal)

    assert deleted is not None
    assert snapshots(cloud) == []
    assert left is None


def test_a_snapshot_that_vanishes_after_it_was_sealed_is_an_error(tmp_path: Path) -> None:
    with running_cloud(
        tmp_path / "cloud", tuning=AT_ONCE.model_copy(update={"snapshot_completes_after_s": 60})
    ) as slow:
        impatient = account(slow, RetryLimits(attempt_timeout_s=5, new_s=0.3))
        deletion = threading.Thread(target=delete_when_sealed, args=(Clients(slow),))
        deletion.start()
        with pytest.raises(RemoteError, match=r"snap-\w+ is gone, \d+ s after all was sent"):
            upload(impatient, tmp_path / "disk", BLOCKS)
        deletion.join()


def delete_when_sealed(aws: Clients) -> None:
    while "CompleteSnapshot" not in {call["action"] for call in aws.cloud.requests()}:
        time.sleep(0.02)
    [snapshot_id] = snapshots(aws.cloud)
    aws.ec2.delete_snapshot(SnapshotId=snapshot_id)


def test_no_thread_goes_on_after_a_failure(cloud: RunningCloud, tmp_path: Path) -> None:
    services = account(cloud, RetryLimits(attempt_timeout_s=60))
    cloud.add_fault(Fault(kind="access-denied", action="PutSnapshotBlock", nth=1))
    cloud.add_fault(Fault(kind="hang", action="PutSnapshotBlock"))
    before = threading.active_count()
    began = time.monotonic()

    with pytest.raises(RemoteError):
        upload(services, tmp_path / "disk", {index: block(index) for index in range(40)})

    assert threading.active_count() - before <= 4  # those of the cloud that hang
    assert time.monotonic() - began < 20


def test_a_snapshot_that_cannot_be_deleted_is_listed_with_the_command(cloud: RunningCloud, tmp_path: Path) -> None:
    services = account(cloud)
    cloud.add_fault(Fault(kind="access-denied", action="PutSnapshotBlock"))
    cloud.add_fault(Fault(kind="access-denied", action="DeleteSnapshot"))
    with pytest.raises(RemoteError):
        upload(services, tmp_path / "disk", BLOCKS)

    with journal_beside(tmp_path / "disk") as journal, pytest.raises(LeftoversError) as caught:
        delete_begun(journal, client=services.client, snapshots=services.snapshots)

    [snapshot_id] = snapshots(cloud)
    command = f"aws ec2 delete-snapshot --snapshot-id {snapshot_id} --region us-east-1"
    assert caught.value.leftovers[0].undo_command == command


def test_a_snapshot_whose_start_was_never_answered_is_found_and_deleted(cloud: RunningCloud, tmp_path: Path) -> None:
    impatient, patient = account(cloud, RetryLimits(attempt_timeout_s=0.5, attempts=1)), account(cloud)
    cloud.add_fault(Fault(kind="hang", when="after", action="StartSnapshot"))
    with pytest.raises(RemoteError):
        upload(impatient, tmp_path / "disk", BLOCKS)
    made = snapshots(cloud)
    cloud.clear_faults()

    with journal_beside(tmp_path / "disk") as journal:
        deleted = delete_begun(journal, client=patient.client, snapshots=patient.snapshots)

    assert made == [deleted]
    assert snapshots(cloud) == []


# On from an earlier run.


def interrupted(cloud: RunningCloud, path: Path, request: SnapshotRequest | None = None) -> set[int]:
    """A run that ends before the last block and undoes nothing, as one that is killed; the blocks that it noted."""
    cloud.add_fault(Fault(kind="hang", action="PutSnapshotBlock", subject="63"))
    impatient = account(cloud, RetryLimits(attempt_timeout_s=0.7, attempts=1))
    with pytest.raises(RemoteError):
        upload(impatient, path, BLOCKS, request)
    cloud.clear_faults()
    with journal_beside(path) as journal:
        return set(journal.blocks())


def test_what_was_uploaded_is_not_sent_again(
    aws: Clients, cloud: RunningCloud, services: Services, tmp_path: Path
) -> None:
    noted = interrupted(cloud, tmp_path / "disk")
    sent_before = len(cloud.requests())

    uploaded = upload_again(services, tmp_path / "disk", BLOCKS)

    assert noted == {0, 3, 4}
    assert puts(cloud, since=sent_before) == [63]
    assert (uploaded.blocks_sent, uploaded.blocks_put) == (1, 4)
    assert snapshots(cloud) == [uploaded.id]
    assert aws.read(uploaded.id) == BLOCKS


def test_zeros_that_no_longer_look_allocated_are_not_taken_for_a_change(
    aws: Clients, cloud: RunningCloud, services: Services, tmp_path: Path
) -> None:
    interrupted(cloud, tmp_path / "disk")
    allocated = {index: content for index, content in BLOCKS.items() if index != 3}

    uploaded = upload_again(services, tmp_path / "disk", allocated)

    assert (uploaded.blocks_sent, uploaded.blocks_put) == (1, 4)
    assert aws.read(uploaded.id) == BLOCKS


def test_a_disk_that_has_changed_meanwhile_is_refused(cloud: RunningCloud, services: Services, tmp_path: Path) -> None:
    interrupted(cloud, tmp_path / "disk")
    write_disk(tmp_path / "disk", {index: block(99) for index in BLOCKS})

    with pytest.raises(BuildError, match="has changed since it was sent"):
        upload_again(services, tmp_path / "disk", BLOCKS)


def test_a_snapshot_that_is_gone_is_begun_anew(aws: Clients, cloud: RunningCloud, tmp_path: Path) -> None:
    services = account(cloud, RetryLimits(attempt_timeout_s=2, patience_s=20, new_s=0.2))
    interrupted(cloud, tmp_path / "disk")
    [gone] = snapshots(cloud)
    aws.ec2.delete_snapshot(SnapshotId=gone)
    told = Told()

    uploaded = upload_again(services, tmp_path / "disk", BLOCKS, told=told)

    assert told.said == [f"{gone} of an earlier run is gone: beginning anew"]
    assert uploaded.blocks_sent == 4
    assert aws.read(uploaded.id) == BLOCKS


def test_a_snapshot_that_has_timed_out_is_deleted_and_begun_anew(tmp_path: Path) -> None:
    hurried = TUNING.model_copy(update={"minute_s": 0.01})
    brief, patient = (SnapshotRequest(volume_gib=1, timeout_minutes=minutes) for minutes in (10, 4000))
    with running_cloud(tmp_path / "cloud", tuning=hurried) as cloud:
        interrupted(cloud, tmp_path / "disk", brief)
        time.sleep(0.2)
        told = Told()

        uploaded = upload_again(account(cloud), tmp_path / "disk", BLOCKS, patient, told=told)
        left = snapshots(cloud)

    assert "is error: beginning anew" in told.said[0]
    assert left == [uploaded.id]


def test_a_snapshot_whose_id_was_not_noted_is_not_made_twice(
    aws: Clients, cloud: RunningCloud, services: Services, tmp_path: Path
) -> None:
    interrupted(cloud, tmp_path / "disk")
    journal = tmp_path / "disk.journal"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:2]))  # what it is of, and that a snapshot was asked for

    uploaded = upload_again(services, tmp_path / "disk", BLOCKS)

    assert snapshots(cloud) == [uploaded.id]
    assert aws.read(uploaded.id) == BLOCKS


def test_a_sealed_snapshot_is_waited_for_and_not_sealed_again(
    cloud: RunningCloud, services: Services, tmp_path: Path
) -> None:
    first = upload(services, tmp_path / "disk", BLOCKS)
    journal = tmp_path / "disk.journal"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]))  # killed before it was noted as completed
    sent_before = len(cloud.requests())

    again = upload_again(services, tmp_path / "disk", BLOCKS)

    assert (again.id, again.checksum, again.blocks_sent) == (first.id, first.checksum, 0)
    assert puts(cloud, since=sent_before) == []


def test_the_journal_has_no_secret(cloud: RunningCloud, services: Services, tmp_path: Path) -> None:
    upload(services, tmp_path / "disk", BLOCKS)

    assert cloud.credentials.secret.reveal() not in (tmp_path / "disk.journal").read_bytes()
