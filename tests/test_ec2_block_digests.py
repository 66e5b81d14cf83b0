import hashlib
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.ec2.block_digests import CHECKSUM_TAG, BlockDigests, SnapshotState

A, B = hashlib.sha256(b"a").digest(), hashlib.sha256(b"b").digest()
RECORD = BlockDigests(snapshot_id="snap-1", volume_gib=8, digests={300: B, 2: A})
COMPLETED = SnapshotState(status="completed", volume_gib=8, tags={CHECKSUM_TAG: RECORD.checksum})


def test_the_checksum_is_over_the_digests_in_the_order_of_the_indexes() -> None:
    checksum = RECORD.checksum

    assert checksum == b64encode(hashlib.sha256(A + B).digest()).decode()


@given(digests=st.dictionaries(st.integers(0, 2**32 - 1), st.binary(min_size=32, max_size=32)))
def test_a_record_is_read_as_it_was_written(digests: dict[int, bytes]) -> None:
    record = BlockDigests(snapshot_id="snap-1", volume_gib=8, digests=digests)

    again = BlockDigests.from_bytes(record.to_bytes())

    assert again == record


def test_its_file_is_there_whole_and_alone(tmp_path: Path) -> None:
    RECORD.write(tmp_path / "digests")

    assert BlockDigests.read(tmp_path / "digests") == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["digests"]


@pytest.mark.parametrize(
    "content",
    [b"", b"something else\n", RECORD.to_bytes()[:-1], RECORD.to_bytes()[:-36], RECORD.to_bytes()[:-1] + b"x"],
    ids=["empty", "another file", "a byte short", "a block short", "a byte changed"],
)
def test_a_damaged_record_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"record|early|checksum"):
        BlockDigests.from_bytes(content)


def test_a_snapshot_that_is_what_the_record_says_is_not_doubted() -> None:
    assert RECORD.doubt(COMPLETED, [2, 300]) is None


@pytest.mark.parametrize(
    ("state", "indexes", "doubt"),
    [
        (None, [2, 300], "snap-1 does not exist"),
        (replace(COMPLETED, status="pending"), [2, 300], "snap-1 is pending"),
        (replace(COMPLETED, volume_gib=16), [2, 300], "snap-1 has 16 GiB, not 8"),
        (replace(COMPLETED, is_encrypted=True), [2, 300], "snap-1 is encrypted"),
        (replace(COMPLETED, tags={}), [2, 300], "snap-1 has no tag imgbuild:checksum"),
        (replace(COMPLETED, tags={CHECKSUM_TAG: "x"}), [2, 300], "snap-1 has another tag imgbuild:checksum"),
        (COMPLETED, [2], "snap-1 has other blocks"),
        (COMPLETED, [2, 3, 300], "snap-1 has other blocks"),
    ],
)
def test_a_snapshot_that_is_something_else_is_doubted(
    state: SnapshotState | None, indexes: list[int], doubt: str
) -> None:
    assert RECORD.doubt(state, indexes) == doubt
