import gzip
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.ec2.gzip_member import HEADER, Effort, checksum, compress_chunk, decompress, ending
from imagebuilder.errors import BuildError
from tests.bundles import noise

EFFORTS = pytest.mark.parametrize("effort", ["fast", "small"])


def compressed(chunks: list[bytes], effort: Effort = "fast") -> bytes:
    crc = 0
    for chunk in chunks:
        crc = checksum(memoryview(chunk), crc)
    pieces = [compress_chunk(memoryview(chunk), effort) for chunk in chunks]
    return b"".join([HEADER, *pieces, ending(crc, sum(map(len, chunks)))])


CHUNKS = [b"one " * 50_000, b"", noise(100_000), bytes(3 << 20), b"end"]


@EFFORTS
def test_gunzip_and_python_read_chunks_as_one_member(effort: Effort) -> None:
    member = compressed(CHUNKS, effort)

    unzipped = subprocess.run(["gunzip"], input=member, check=True, capture_output=True).stdout

    assert unzipped == gzip.decompress(member) == b"".join(CHUNKS)


@EFFORTS
def test_the_same_chunk_is_compressed_the_same(effort: Effort) -> None:
    assert compressed(CHUNKS, effort) == compressed(CHUNKS, effort)


@given(st.lists(st.binary(max_size=2000), max_size=5), st.integers(1, 700))
def test_what_was_compressed_comes_back_however_it_is_cut(chunks: list[bytes], step: int) -> None:
    member = compressed(chunks)

    pieces = list(decompress(member[place : place + step] for place in range(0, len(member), step)))

    assert b"".join(pieces) == b"".join(chunks)


def test_a_small_piece_that_grows_comes_back_in_lots() -> None:
    pieces = list(decompress([compressed([bytes(9 << 20)])]))

    assert b"".join(pieces) == bytes(9 << 20)
    assert max(map(len, pieces)) <= 1 << 20


MEMBER = compressed(CHUNKS)


@pytest.mark.parametrize(
    ("damaged", "what"),
    [
        (MEMBER[:-1], "without an end"),
        (MEMBER[:1000], "without an end"),
        (b"", "without an end"),
        (MEMBER + b"\0", "behind the end"),
        (MEMBER + MEMBER, "behind the end"),
        (MEMBER[:-8] + b"\0\0\0\0" + MEMBER[-4:], "damaged"),
        (MEMBER[:-4] + b"\0\0\0\0", "damaged"),
        (b"no gzip, but long enough for one", "damaged"),
    ],
)
def test_damaged_data_is_an_error(damaged: bytes, what: str) -> None:
    with pytest.raises(BuildError, match=what):
        list(decompress([damaged]))
