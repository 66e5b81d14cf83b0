import io
import tarfile
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from imagebuilder.image.apply import archive_of
from imagebuilder.plan.changes import Change, MakeDirectory, MakeLink, RemovePath, WriteFile
from imagebuilder.plan.plan import Plan
from imagebuilder.secret import Secret
from tests.machines import plan_of, shipped_plan

ETC = PurePosixPath("/etc")


def plan_with(*changes: Change) -> Plan:
    return replace(plan_of({}), changes=changes, uids={"root": 0, "me": 1234}, gids={"root": 0, "us": 77})


def members_of(plan: Plan) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive_of(plan))) as archive:
        return archive.getmembers()


def content_of(plan: Plan, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive_of(plan))) as archive:
        member = archive.extractfile(name)
        assert member is not None
        return member.read()


def test_a_file_has_its_content_mode_and_the_numbers_of_its_owner_without_names() -> None:
    plan = plan_with(WriteFile(path=ETC / "motd", content=b"hello\n", mode=0o4750, owner="me", group="us"))

    [member] = members_of(plan)

    assert member.isreg()
    assert (member.name, member.mode, member.uid, member.gid) == ("etc/motd", 0o4750, 1234, 77)
    assert (member.uname, member.gname) == ("", "")
    assert content_of(plan, "etc/motd") == b"hello\n"


def test_a_directory_has_its_mode_and_owner() -> None:
    [member] = members_of(plan_with(MakeDirectory(path=ETC / "own", mode=0o1770, owner="me", group="us")))

    assert member.isdir()
    assert (member.name, member.mode, member.uid, member.gid) == ("etc/own", 0o1770, 1234, 77)


def test_a_link_leads_where_its_change_says() -> None:
    [member] = members_of(plan_with(MakeLink(path=ETC / "link", target="../run/näher")))

    assert member.issym()
    assert (member.name, member.linkname, member.uid, member.gid) == ("etc/link", "../run/näher", 0, 0)


def test_a_secret_is_written_as_it_is() -> None:
    plan = plan_with(WriteFile(path=ETC / "key", content=Secret("not a key"), mode=0o600))

    assert content_of(plan, "etc/key") == b"not a key"


def test_what_is_removed_is_not_in_the_archive() -> None:
    members = members_of(plan_with(RemovePath(path=ETC / "old"), MakeLink(path=ETC / "link", target="x")))

    assert [member.name for member in members] == ["etc/link"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("x" * 255, id="as long as a name can be"),
        pytest.param("zoë", id="accent"),
        pytest.param("new\nline", id="newline"),
        pytest.param("na\udcefve", id="latin 1"),
    ],
)
def test_odd_names_are_kept(name: str) -> None:
    [member] = members_of(plan_with(WriteFile(path=ETC / name, content=b"")))

    assert member.name == f"etc/{name}"


def test_members_are_in_the_plan_s_order_with_one_time_for_all() -> None:
    plan = shipped_plan("oneserver")

    members = members_of(plan)

    kept = [str(change.path)[1:] for change in plan.changes if not isinstance(change, RemovePath)]
    assert [member.name for member in members] == kept
    assert {member.mtime for member in members} == {members[0].mtime}
    assert members[0].mtime > 0


def test_the_same_plan_gives_the_same_bytes() -> None:
    one, other = shipped_plan("worker"), shipped_plan("worker")

    assert archive_of(one) == archive_of(other)


def test_an_empty_plan_gives_an_empty_archive() -> None:
    assert members_of(plan_of({})) == []
