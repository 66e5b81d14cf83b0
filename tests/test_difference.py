import hashlib
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from imagebuilder.compare.contents import (
    SecretDifference,
    TextDifference,
    UnshownDifference,
    compare_contents,
    printable,
    secrecy_of,
)
from imagebuilder.compare.difference import Aspect, compare_listings, is_within, undecided_files, with_digests
from imagebuilder.plan.listing import Entry, Kind, Listing

FILE = Entry(Kind.FILE, 0o644, 0, 0, size=3, digest="aa")
DIRECTORY = Entry(Kind.DIRECTORY, 0o755, 0, 0)
LINK = Entry(Kind.LINK, 0o777, 0, 0, target="one")
HOSTNAME = PurePosixPath("/etc/hostname")


def listing(entries: dict[str, Entry]) -> Listing:
    return Listing({PurePosixPath(path): entry for path, entry in entries.items()})


def text_difference(a: str, b: str) -> str:
    compared = compare_contents(a.encode(), b.encode(), name_a="A", name_b="B", secrecy="open")
    assert isinstance(compared, TextDifference)
    return compared.unified


def test_equal_listings_have_no_difference() -> None:
    one = listing({"/etc": DIRECTORY, "/etc/hostname": FILE, "/etc/link": LINK})

    assert compare_listings(one, listing({str(path): entry for path, entry in one.items()})) == ()


@pytest.mark.parametrize(
    ("a", "b", "aspects"),
    [
        (FILE, None, [Aspect.ONLY_IN_A]),
        (None, DIRECTORY, [Aspect.ONLY_IN_B]),
        (FILE, LINK, [Aspect.TYPE]),
        (FILE, replace(FILE, mode=0o600), [Aspect.MODE]),
        (DIRECTORY, replace(DIRECTORY, mode=0o1777), [Aspect.MODE]),
        (FILE, replace(FILE, uid=1), [Aspect.OWNER]),
        (FILE, replace(FILE, gid=1), [Aspect.OWNER]),
        (LINK, replace(LINK, target="two"), [Aspect.LINK]),
        (LINK, replace(LINK, mode=0o755), []),
        (FILE, replace(FILE, digest="bb"), [Aspect.CONTENT]),
        (replace(FILE, digest=""), replace(FILE, size=4, digest=""), [Aspect.CONTENT]),
        (FILE, replace(FILE, mode=0, uid=1, digest="bb"), [Aspect.MODE, Aspect.OWNER, Aspect.CONTENT]),
    ],
)
def test_each_way_to_differ_is_named(a: Entry | None, b: Entry | None, aspects: list[Aspect]) -> None:
    side_a = listing({"/etc/hostname": a} if a else {})
    side_b = listing({"/etc/hostname": b} if b else {})

    differences = compare_listings(side_a, side_b)

    assert [aspect for difference in differences for aspect in difference.aspects] == aspects
    assert all((difference.path, difference.a, difference.b) == (HOSTNAME, a, b) for difference in differences)


def test_differences_are_in_the_order_of_the_parts_of_their_paths() -> None:
    a = listing({"/etc-old": FILE, "/etc/b": FILE, "/usr": DIRECTORY})
    b = listing({"/etc/a": FILE, "/bin": FILE, "/usr": DIRECTORY})

    differences = compare_listings(a, b)

    assert [str(difference.path) for difference in differences] == ["/bin", "/etc/a", "/etc/b", "/etc-old"]


def test_only_files_of_one_size_and_without_digest_have_to_be_read() -> None:
    unread = replace(FILE, digest="")
    a = listing({"/same": unread, "/size": unread, "/type": unread, "/only": unread, "/known": FILE, "/half": FILE})
    b = listing({"/same": unread, "/size": replace(unread, size=4), "/type": LINK, "/known": FILE, "/half": unread})

    undecided = undecided_files(a, b)

    assert undecided == {PurePosixPath("/same"): 3, PurePosixPath("/half"): 3}


def test_digests_are_added_to_the_files_they_belong_to() -> None:
    unread = listing({"/a": replace(FILE, digest=""), "/b": LINK})

    read = with_digests(unread, {PurePosixPath("/a"): "aa"})

    assert read == listing({"/a": FILE, "/b": LINK})


@pytest.mark.parametrize(
    ("path", "limits", "within"),
    [
        ("/etc/hosts", ["/etc"], True),
        ("/etc", ["/etc"], True),
        ("/etcetera", ["/etc"], False),
        ("/etc", ["/etc/hosts"], False),
        ("/usr/bin", ["/etc", "/usr"], True),
        ("/usr/bin", ["/"], True),
        ("/usr/bin", [], True),
    ],
)
def test_a_limit_takes_in_what_is_below_it(path: str, limits: list[str], within: bool) -> None:
    assert is_within(PurePosixPath(path), [PurePosixPath(limit) for limit in limits]) is within


def test_a_text_difference_reads_like_diff() -> None:
    unified = text_difference("one\ntwo\nthree\n", "one\n2\nthree\n")

    assert unified == "--- A\n+++ B\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"


def test_a_missing_last_newline_is_marked_as_diff_does() -> None:
    unified = text_difference("one\n", "one")

    assert unified == "--- A\n+++ B\n@@ -1 +1 @@\n-one\n+one\n\\ No newline at end of file\n"


def test_a_new_text_is_all_plus_lines() -> None:
    assert text_difference("", "one\n") == "--- A\n+++ B\n@@ -0,0 +1 @@\n+one\n"


def test_a_form_feed_does_not_end_a_line() -> None:
    unified = text_difference("a\fb\u2028c\n", "a\fb\n")

    assert unified == "--- A\n+++ B\n@@ -1 +1 @@\n-a\fb\u2028c\n+a\fb\n"


def test_a_change_deep_in_a_long_text_is_found_with_its_line_numbers() -> None:
    before = "same\n" * 60_000
    after = "same\n" * 60_000

    unified = text_difference(f"{before}old\n{after}", f"{before}new\n{after}")

    assert unified.splitlines()[2] == "@@ -59998,7 +59998,7 @@"
    assert unified.splitlines()[6:8] == ["-old", "+new"]


def test_texts_that_are_all_different_and_long_are_not_worked_through() -> None:
    a, b = (
        b"".join(b"%d\n" % (line % 150) for line in range(60_000)),
        b"".join(b"%d\n" % line for line in range(60_000)),
    )

    compared = compare_contents(a, b, name_a="A", name_b="B", secrecy="open")

    assert compared == UnshownDifference(why="too many lines differ")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b"])
def test_what_is_not_text_is_binary(content: bytes) -> None:
    compared = compare_contents(b"text\n", content, name_a="A", name_b="B", secrecy="open")

    assert compared == UnshownDifference(why="binary")


@pytest.mark.parametrize(
    ("a", "b", "secrecy"),
    [
        (b"old", b"new", "secret"),
        (b"old", b"-----BEGIN EC PRIVATE KEY-----\n", "open"),
        (b"-----BEGIN OpenVPN Static key V1-----\n", b"new", "open"),
    ],
)
def test_of_secrets_only_the_digests_are_given(a: bytes, b: bytes, secrecy: str) -> None:
    compared = compare_contents(a, b, name_a="A", name_b="B", secrecy="secret" if secrecy == "secret" else "open")

    assert compared == SecretDifference(digest_a=hashlib.sha256(a).hexdigest(), digest_b=hashlib.sha256(b).hexdigest())


def test_a_secret_that_is_not_there_has_no_digest() -> None:
    compared = compare_contents(None, b"new", name_a="A", name_b="B", secrecy="secret")

    assert compared == SecretDifference(digest_a=None, digest_b=hashlib.sha256(b"new").hexdigest())


@pytest.mark.parametrize(
    ("file_mode", "directory_mode", "secrecy"),
    [(0o644, 0o755, "open"), (0o604, 0o711, "open"), (0o640, 0o755, "secret"), (0o644, 0o750, "secret")],
)
def test_a_file_that_not_everybody_can_read_is_a_secret(file_mode: int, directory_mode: int, secrecy: str) -> None:
    files = listing({"/etc": replace(DIRECTORY, mode=directory_mode), "/etc/hostname": replace(FILE, mode=file_mode)})

    assert secrecy_of(HOSTNAME, files) == secrecy


def test_a_path_that_is_not_there_is_no_secret() -> None:
    assert secrecy_of(HOSTNAME, listing({"/etc": DIRECTORY})) == "open"


def test_characters_that_upset_a_terminal_are_escaped() -> None:
    assert printable("a\tb\x1b[2J\r\n\u202ezoë \udcff") == "a\tb\\x1b[2J\\r\\n\\u202ezoë \\udcff"
