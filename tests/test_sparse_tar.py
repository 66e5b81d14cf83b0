"""The archive in a bundle: as Python's tarfile and GNU tar read it, and as we do."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.ec2.sparse_tar import (
    BLOCK,
    Member,
    MemberParser,
    Segment,
    header_of,
    join_segments,
    packed_chunks,
    trailer_of,
)
from imagebuilder.errors import BuildError

GIB = 1 << 30


def segments(*ranges: tuple[int, int]) -> tuple[Segment, ...]:
    return tuple(Segment(start=start, length=length) for start, length in ranges)


def member(size_bytes: int, *ranges: tuple[int, int]) -> Member:
    return Member(name="image", size_bytes=size_bytes, segments=segments(*ranges))


def archive(one: Member, content: bytes) -> bytes:
    packed = b"".join(content[segment.start : segment.end] for segment in one.segments)
    stream = header_of(one) + packed
    return stream + trailer_of(len(stream))


def parse(header: bytes) -> Member:
    parser = MemberParser()
    for place in range(0, len(header), BLOCK):
        assert parser.member is None
        parser.feed(header[place : place + BLOCK])
    assert parser.member is not None
    return parser.member


def gnu_tar(*words: str | Path) -> str:
    return subprocess.run(["tar", *words], check=True, capture_output=True, text=True).stdout


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Member, bytes]:
    """A file of some KiB with up to sixty segments, and its bytes."""
    lengths = draw(st.lists(st.tuples(st.integers(0, 9000), st.integers(1, 9000)), max_size=60))
    content = bytearray()
    found = []
    for hole, length in lengths:
        content += bytes(hole)
        found.append(Segment(start=len(content), length=length))
        content += bytes((len(content) + number) % 251 + 1 for number in range(length))
    content += bytes(draw(st.integers(0, 5000)))
    return Member(name="image", size_bytes=len(content), segments=join_segments(found, len(content))), bytes(content)


@given(layouts())
def test_python_reads_what_was_archived(layout: tuple[Member, bytes]) -> None:
    one, content = layout

    with tarfile.open(fileobj=io.BytesIO(archive(one, content))) as tar:
        [entry] = tar.getmembers()
        extracted = tar.extractfile(entry)

        assert (entry.name, entry.size) == ("image", len(content))
        assert extracted is not None
        assert extracted.read() == content


@given(layouts())
def test_what_is_written_is_parsed(layout: tuple[Member, bytes]) -> None:
    one, _ = layout

    assert parse(header_of(one)) == one


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 25, 26, 47])
def test_gnu_tar_reads_what_was_archived(tmp_path: Path, count: int) -> None:
    content = b"".join(bytes(4096) + bytes([number + 1]) * 4096 for number in range(count)) + bytes(5000)
    one = member(len(content), *((place, 4096) for place in range(4096, count * 8192, 8192)))
    (tmp_path / "image.tar").write_bytes(archive(one, content))

    listed = gnu_tar("-tvf", tmp_path / "image.tar")
    gnu_tar("-xSf", tmp_path / "image.tar", "-C", tmp_path)

    assert listed.split()[:3] == ["-rw-------", "0/0", str(len(content))]
    assert (tmp_path / "image").read_bytes() == content


def test_gnu_tar_reads_sizes_and_places_of_8_gib_and_more(tmp_path: Path) -> None:
    one = member(10 * GIB, (0, 4096), (8 * GIB, 4096), (10 * GIB - 4096, 4096))
    stream = header_of(one) + b"a" * 4096 + b"b" * 4096 + b"c" * 4096
    (tmp_path / "image.tar").write_bytes(stream + trailer_of(len(stream)))

    gnu_tar("-xSf", tmp_path / "image.tar", "-C", tmp_path)

    with (tmp_path / "image").open("rb") as image:
        assert image.seek(0, io.SEEK_END) == 10 * GIB
        assert [image.seek(place) and image.read(1) for place in (8 * GIB, 10 * GIB - 1)] == [b"b", b"c"]
    assert parse(header_of(one)) == one


def test_the_bytes_of_a_header_are_those_that_gnu_tar_writes(tmp_path: Path) -> None:
    with (tmp_path / "image").open("wb") as image:
        image.seek(1 << 20)
        image.write(b"x" * 4096)
        image.truncate(2 << 20)
    (tmp_path / "image").chmod(0o600)
    options = ["--format=gnu", "--numeric-owner", "--owner=0", "--group=0", "--mtime=@0", "--hole-detection=seek"]
    gnu_tar("-cSf", tmp_path / "theirs.tar", "-C", tmp_path, *options, "image")

    one = member(2 << 20, (1 << 20, 4096))

    assert archive(one, (tmp_path / "image").read_bytes()) == (tmp_path / "theirs.tar").read_bytes()


def test_an_archive_ends_as_gnu_tar_ends_it() -> None:
    assert [len(trailer_of(taken)) for taken in (512, 9216, 9217, 9729, 10240)] == [9728, 1024, 11263, 10751, 10240]


def test_segments_grow_to_whole_blocks_and_join_where_they_touch() -> None:
    found = segments((100, 10), (4096, 5), (20000, 1), (99_000, 1000))

    joined = join_segments(found, 100_000)

    assert joined == segments((0, 8192), (16384, 4096), (98304, 1696))


def test_chunks_cut_segments_at_their_size() -> None:
    chunks = list(packed_chunks(segments((0, 4), (10, 3), (20, 9)), 5))

    assert chunks == [
        segments((0, 4), (10, 1)),
        segments((11, 2), (20, 3)),
        segments((23, 5)),
        segments((28, 1)),
    ]


def test_a_plain_file_in_an_archive_is_one_segment() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        entry = tarfile.TarInfo("image")
        entry.size = 1000
        tar.addfile(entry, io.BytesIO(bytes(1000)))

    assert parse(stream.getvalue()[:BLOCK]) == member(1000, (0, 1000))


def changed(header: bytes, place: int, content: bytes, *, checksum: bool = True) -> bytes:
    """`header` with other bytes at `place`, and with a right checksum unless that is not wanted."""
    block = bytearray(header)
    block[place : place + len(content)] = content
    if checksum:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


HEADER = header_of(member(1 << 20, (0, 4096), (8192, 4096)))


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (changed(HEADER, 0, b"X", checksum=False), "checksum"),
        (bytes(512), "checksum"),
        (changed(HEADER, 156, b"5"), "type '5'"),
        (changed(HEADER, 257, b"ustar\x0000"), "type 'S'"),
        (changed(HEADER, 124, b"00000010001\0"), "as long as"),
        (changed(HEADER, 124, b"0000001000x\0"), "no number"),
        (changed(HEADER, 410, b"00000000001\0"), "overlap"),
        (changed(HEADER, 483, b"00000010000\0"), "behind its end"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(header: bytes, what: str) -> None:
    with pytest.raises(BuildError, match=what):
        MemberParser().feed(header)
