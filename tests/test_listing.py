import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imagebuilder.errors import BuildError
from imagebuilder.plan.changes import Change, Intent, MakeDirectory, MakeLink, RemovePath, WriteFile
from imagebuilder.plan.listing import Entry, Kind, Listing, parents
from imagebuilder.plan.make_plan import make_plan
from imagebuilder.plan.plan import Plan, foresee
from imagebuilder.secret import Secret
from tests.machines import plan_of
from tests.trees import DIRECTORY, Node, Tree, apply, listing_of, target_of

FILE = Entry(Kind.FILE, 0o644, 0, 0, size=5, digest="f" * 64)
LINK = Entry(Kind.LINK, 0o777, 0, 0, target="b")


def listing(entries: Mapping[str, Entry]) -> Listing:
    return Listing({PurePosixPath(path): entry for path, entry in entries.items()})


def written_and_read(before: Listing, directory: Path) -> Listing:
    before.write(directory / "listing.gz")
    return Listing.read(directory / "listing.gz")


# Reading and writing.


def test_every_kind_of_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    before = listing(
        {
            "/file": Entry(Kind.FILE, 0o4755, 1000, 50, size=1 << 40, digest="a" * 64),
            "/empty": Entry(Kind.FILE, 0, 0, 0, digest="e" * 64),
            "/unread": Entry(Kind.FILE, 0o644, 0, 0, size=3),
            "/directory": Entry(Kind.DIRECTORY, 0o1777, 0, 0),
            "/link": Entry(Kind.LINK, 0o777, 4294967294, 65534, target="../näher/\udcff"),
            "/device": Entry(Kind.DEVICE, 0o660, 0, 6),
            "/fifo": Entry(Kind.FIFO, 0o600, 0, 0),
            "/socket": Entry(Kind.SOCKET, 0o755, 0, 0),
        }
    )

    after = written_and_read(before, tmp_path)

    assert after == before


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("new\nline", id="newline"),
        pytest.param("tab\tand\rreturn", id="tab"),
        pytest.param('quote"back\\slash', id="quote"),
        pytest.param(" ", id="space"),
        pytest.param("zoë", id="accent"),
        pytest.param("\u2028\x85", id="line separators"),
        pytest.param(os.fsdecode(b"na\xefve"), id="latin 1"),
        pytest.param(os.fsdecode(b"\xed\xa0\x80"), id="encoded surrogate"),
        pytest.param("\U0001d518", id="beyond the basic plane"),
    ],
)
def test_odd_names_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    before = Listing({PurePosixPath("/etc") / name: FILE})

    after = written_and_read(before, tmp_path)

    assert after == before


@settings(max_examples=30)
@given(names=st.lists(st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & set(b"/\0."))))
def test_names_of_any_bytes_come_back_as_they_were(
    names: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = Listing({PurePosixPath("/", os.fsdecode(name)): FILE for name in names})

    after = written_and_read(before, tmp_path_factory.getbasetemp())

    assert after == before


def test_the_same_entries_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    entries = {"/b": FILE, "/a": DIRECTORY, "/a/c": LINK, "/a-b": FILE}

    listing(entries).write(tmp_path / "one.gz")
    listing(dict(reversed(entries.items()))).write(tmp_path / "other.gz")

    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "other.gz").read_bytes()


def test_what_is_in_a_directory_follows_it() -> None:
    order = list(listing({"/a-b": FILE, "/a/c": FILE, "/a": DIRECTORY, "/a/c-d": FILE}))

    assert [str(path) for path in order] == ["/a", "/a/c", "/a/c-d", "/a-b"]


def test_below_a_directory_is_all_that_is_in_it_and_not_what_only_begins_like_it() -> None:
    entries = listing({"/a": DIRECTORY, "/a/b": DIRECTORY, "/a/b/c": FILE, "/ab": FILE})

    assert list(entries.below(PurePosixPath("/a"))) == [PurePosixPath("/a/b"), PurePosixPath("/a/b/c")]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        pytest.param(FILE, "file 0644 0:0 5 bytes ffffffffffff", id="file"),
        pytest.param(DIRECTORY, "directory 0755 0:0", id="directory"),
        pytest.param(LINK, "link 0777 0:0 -> b", id="link"),
    ],
)
def test_an_entry_says_what_it_is(entry: Entry, text: str) -> None:
    assert str(entry) == text


def test_the_parents_of_paths_are_all_directories_above_any_of_them() -> None:
    above = parents([PurePosixPath("/a/b/c"), PurePosixPath("/a/d")])

    assert above == {PurePosixPath("/"), PurePosixPath("/a"), PurePosixPath("/a/b")}


# What an image will hold.


def plan_with(*changes: Change) -> Plan:
    ids = {"root": 0, "me": 1000}
    return replace(plan_of({}), changes=changes, uids=ids, gids=ids)


def test_a_written_file_stands_with_its_size_digest_mode_and_the_numbers_of_its_owner() -> None:
    motd = WriteFile(path=PurePosixPath("/motd"), content=b"hello", mode=0o640, owner="me", group="me")

    after = foresee(listing({"/motd": LINK}), plan_with(motd))

    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert after == listing({"/motd": Entry(Kind.FILE, 0o640, 1000, 1000, size=5, digest=digest)})


def test_a_secret_counts_as_what_it_is() -> None:
    path = PurePosixPath("/key")
    plain, secret = WriteFile(path=path, content=b"hello"), WriteFile(path=path, content=Secret("hello"))

    assert foresee(listing({}), plan_with(secret)) == foresee(listing({}), plan_with(plain))


def test_a_link_is_root_s_and_open() -> None:
    after = foresee(listing({}), plan_with(MakeLink(path=PurePosixPath("/link"), target="b")))

    assert after == listing({"/link": LINK})


def test_a_directory_that_was_there_keeps_what_is_in_it() -> None:
    change = MakeDirectory(path=PurePosixPath("/a"), mode=0o700)

    after = foresee(listing({"/a": DIRECTORY, "/a/b": FILE}), plan_with(change))

    assert after == listing({"/a": replace(DIRECTORY, mode=0o700), "/a/b": FILE})


def test_a_removed_directory_goes_with_all_in_it() -> None:
    base = listing({"/a": DIRECTORY, "/a/b": DIRECTORY, "/a/b/c": FILE, "/ab": FILE})

    after = foresee(base, plan_with(RemovePath(path=PurePosixPath("/a"))))

    assert after == listing({"/ab": FILE})


def test_removing_what_is_not_there_changes_nothing() -> None:
    after = foresee(listing({"/a": FILE}), plan_with(RemovePath(path=PurePosixPath("/b"))))

    assert after == listing({"/a": FILE})


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: PurePosixPath("/", *parts))
MODES = st.sampled_from([0o600, 0o644, 0o755])
OWNERS = st.sampled_from(["root", "daemon", "sgeadmin"])
LEAVES: st.SearchStrategy[Node] = st.one_of(
    st.just((FILE, {})), st.sampled_from(["a", "../b", "/c"]).map(lambda target: (replace(LINK, target=target), {}))
)
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        LEAVES,
        lambda inside: st.dictionaries(NAMES, inside, max_size=3).map(lambda tree: (DIRECTORY, tree)),
        max_leaves=8,
    ),
)
CHANGES: st.SearchStrategy[Intent] = st.one_of(
    st.builds(WriteFile, path=PATHS, content=st.binary(max_size=3), mode=MODES, owner=OWNERS, group=OWNERS),
    st.builds(MakeDirectory, path=PATHS, mode=MODES, owner=OWNERS),
    st.builds(MakeLink, path=PATHS, target=st.sampled_from(["a", "/b"])),
    st.builds(RemovePath, path=PATHS),
)


@st.composite
def trees_with_plans(draw: st.DrawFn) -> tuple[Tree, Plan]:
    tree = draw(TREES)
    intents = {str(index): [change] for index, change in enumerate(draw(st.lists(CHANGES, max_size=4)))}
    try:
        return tree, make_plan("local01", "node", intents, target_of(tree))
    except BuildError:
        assume(False)
        raise


@settings(max_examples=60)
@given(case=trees_with_plans())
def test_what_is_foreseen_is_what_applying_the_plan_gives(case: tuple[Tree, Plan]) -> None:
    tree, plan = case
    base = listing_of(tree)

    apply(plan, tree)

    assert foresee(base, plan) == listing_of(tree)


@settings(max_examples=60)
@given(case=trees_with_plans())
def test_the_same_changes_planned_for_their_result_change_nothing_more(case: tuple[Tree, Plan]) -> None:
    tree, plan = case
    apply(plan, tree)
    again = make_plan("local01", "node", {"again": plan.changes}, target_of(tree))
    after = listing_of(tree)

    apply(again, tree)

    assert listing_of(tree) == after
