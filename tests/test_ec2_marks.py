"""Secrets are found by what they look like, wherever the bytes are cut; what only mentions one is none."""

import pytest

from imagebuilder.ec2.marks import Mark, MarkKind, marks_in
from imagebuilder.secret import Secret
from tests.evidence import AWS_SECRET, PEM_KEY

KEY = PEM_KEY.encode()
OPENVPN_KEY = b"-----BEGIN OpenVPN Static key V1-----\n" + b"0123456789abcdef0123456789abcdef\n" * 16
IN_JSON = b'{"private_key": "' + KEY.replace(b"\n", rb"\n") + b'"}'


@pytest.mark.parametrize(
    ("content", "kind", "offset"),
    [
        (KEY, MarkKind.PRIVATE_KEY, 0),
        (b"\0" * 1000 + KEY.replace(b"\n", b"\r\n"), MarkKind.PRIVATE_KEY, 1000),
        (KEY.replace(b"PRIVATE", b"RSA PRIVATE"), MarkKind.PRIVATE_KEY, 0),
        (KEY.replace(b"-----\nMC4", b"-----MC4"), MarkKind.PRIVATE_KEY, 0),
        (IN_JSON, MarkKind.PRIVATE_KEY, 17),
        (b"x" + OPENVPN_KEY, MarkKind.OPENVPN_KEY, 1),
        (AWS_SECRET.encode(), MarkKind.AWS_SECRET, 0),
        (b'"SecretAccessKey": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY12",', MarkKind.AWS_SECRET, 1),
        (b"export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY12\n", MarkKind.AWS_SECRET, 7),
    ],
)
def test_a_secret_is_found(content: bytes, kind: MarkKind, offset: int) -> None:
    [mark] = marks_in([content])

    assert (mark.kind, mark.offset) == (kind, offset)


@pytest.mark.parametrize(
    "content",
    [
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n\0-----END OPENSSH PRIVATE KEY-----\n",
        b"a line -----BEGIN RSA PRIVATE KEY-----\n(your key goes here, in as many lines as it takes)\n",
        b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n",
        b"-----BEGIN OpenVPN Static key V1-----\0",
        b"aws_secret_access_key = YOUR_SECRET_KEY\n",
        b"aws_secret_access_key: the secret part of the pair, 40 characters\n",
    ],
)
def test_what_only_mentions_a_secret_is_none(content: bytes) -> None:
    assert list(marks_in([content])) == []


@pytest.mark.parametrize("size", [1 << 20, 40_000, 16_000, 4096])
def test_secrets_are_found_however_the_bytes_are_cut(size: int) -> None:
    content = b"".join(b"\0" * 70_001 + KEY for _ in range(20)) + b"z" * 100_000
    chunks = [content[start : start + size] for start in range(0, len(content), size)]

    marks = list(marks_in(chunks))

    assert [mark.offset for mark in marks] == [70_001 + index * (70_001 + len(KEY)) for index in range(20)]
    assert {mark.body.reveal() for mark in marks} == {KEY.rstrip()}


def test_a_secret_on_the_disk_is_known_by_its_file() -> None:
    in_file = Mark(kind=MarkKind.PRIVATE_KEY, offset=0, body=Secret(KEY))
    on_disk = Mark(kind=MarkKind.PRIVATE_KEY, offset=4096 * 77, body=Secret(KEY.rstrip()))
    another = Mark(kind=MarkKind.PRIVATE_KEY, offset=4096 * 78, body=Secret(KEY.replace(b"DBV", b"XYZ")))

    assert on_disk.is_part_of(in_file, block_bytes=4096)
    assert not another.is_part_of(in_file, block_bytes=4096)


def test_a_secret_whose_file_goes_on_elsewhere_is_known_by_what_is_in_its_block() -> None:
    in_file = Mark(kind=MarkKind.PRIVATE_KEY, offset=500, body=Secret(KEY))
    torn = Mark(kind=MarkKind.PRIVATE_KEY, offset=4096 - 60, body=Secret(KEY[:60] + b"A" * 40))

    assert torn.is_part_of(in_file, block_bytes=4096)


def test_a_mark_does_not_show_its_secret() -> None:
    [mark] = marks_in([KEY])

    assert "MC4CAQAw" not in repr(mark)
