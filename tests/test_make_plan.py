import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.edits.nis_client import NisClient
from imagebuilder.errors import BuildError
from imagebuilder.plan.changes import (
    AddWord,
    DisableService,
    EnableService,
    Intent,
    MakeDirectory,
    MakeLink,
    MaskService,
    RemoveLines,
    RemovePath,
    SetLine,
    WriteFile,
)
from imagebuilder.plan.make_plan import make_plan, missing_packages
from imagebuilder.secret import Secret
from tests.machines import (
    change_at,
    debian,
    machine_of,
    paths_in,
    plan_of,
    shipped_plan,
    shipped_site,
    text_of,
)

MOTD = PurePosixPath("/etc/motd")
OPTIONS = PurePosixPath("/etc/options")
MULTI_USER = "/etc/systemd/system/multi-user.target.wants"
UNIT = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"


def write(path: str, text: str = "text\n", **ownership: object) -> WriteFile:
    return WriteFile(path=PurePosixPath(path), content=text.encode(), **ownership)  # type: ignore[arg-type]


def set_option(line: str | Secret, *, name: str) -> SetLine:
    return SetLine(path=OPTIONS, line=line, replaces=re.compile(rf"^{name}\b"))


def drop_option(name: str) -> RemoveLines:
    return RemoveLines(path=OPTIONS, matching=re.compile(rf"^{name}\b"))


def add_nis(database: str = "passwd") -> AddWord:
    return AddWord(
        path=OPTIONS,
        within=re.compile(rf"^{database}:"),
        word="nis",
        behind="files",
        otherwise=f"{database}: files nis",
    )


def options_after(base: str, *intents: Intent) -> str:
    return text_of(plan_of({"options": intents}, debian(files={str(OPTIONS): base})), str(OPTIONS))


# Lines of the base's own texts.


def test_line_edits_keep_the_rest_of_the_base_file() -> None:
    target = debian(files={"/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"})
    machine = machine_of(shipped_site(), "local01")

    plan = plan_of({"nis": NisClient().intents(machine)}, target)

    assert text_of(plan, "/etc/nsswitch.conf") == (
        "passwd: files nis\ngroup: files nis\nshadow: files nis\nhosts: files dns\n"
    )


def test_a_line_takes_the_place_of_the_first_that_it_replaces_and_the_others_go() -> None:
    text = options_after("a 1\nport 1\nb 2\nport 2\n", set_option("port 22", name="port"))

    assert text == "a 1\nport 22\nb 2\n"


def test_a_line_that_replaces_none_comes_last() -> None:
    text = options_after("a 1\n", set_option("port 22", name="port"))

    assert text == "a 1\nport 22\n"


def test_lines_with_carriage_returns_form_feeds_and_no_final_newline_stay_as_they_are() -> None:
    text = options_after("a 1\r\n\fb 2\n\nc\u20283\x853", set_option("port 22", name="port"))

    assert text == "a 1\r\n\fb 2\n\nc\u20283\x853\nport 22\n"


def test_a_file_that_the_base_lacks_is_made_of_the_line() -> None:
    plan = plan_of({"options": [set_option("port 22", name="port")]})

    assert change_at(plan, str(OPTIONS)) == write("/etc/options", "port 22\n")


def test_a_file_that_is_made_of_a_secret_line_is_for_its_owner_only() -> None:
    plan = plan_of({"options": [set_option(Secret("password x"), name="password")]})

    assert change_at(plan, str(OPTIONS)) == WriteFile(path=OPTIONS, content=Secret("password x\n"), mode=0o600)


def test_an_edited_file_keeps_its_mode_and_owner_and_hides_what_not_all_may_read() -> None:
    own_line = SetLine(path=PurePosixPath("/etc/gshadow"), line="me:!::", replaces=re.compile("^me:"))

    plan = plan_of({"users": [own_line]}, debian(files={"/etc/gshadow": "root:*::\n"}))

    assert change_at(plan, "/etc/gshadow") == WriteFile(
        path=PurePosixPath("/etc/gshadow"), content=Secret("root:*::\nme:!::\n"), mode=0o640, group="shadow"
    )


def test_lines_are_edited_in_the_file_that_a_link_leads_to() -> None:
    target = debian(files={"/etc/real": "a 1\n"}, links={str(OPTIONS): "real"})

    plan = plan_of({"options": [set_option("port 22", name="port")]}, target)

    assert plan.changes == (write("/etc/real", "a 1\nport 22\n"),)


def test_a_file_with_every_line_as_wanted_is_left_alone() -> None:
    target = debian(files={str(OPTIONS): "port 22\n"})

    plan = plan_of({"options": [set_option("port 22", name="port"), drop_option("listen")]}, target)

    assert plan.changes == ()


def test_removed_lines_go_and_the_rest_stays() -> None:
    text = options_after("a 1\nport 1\nport 2\nb 2\n", drop_option("port"))

    assert text == "a 1\nb 2\n"


def test_a_word_goes_behind_another_and_the_rest_of_its_line_stays() -> None:
    text = options_after("passwd:   files systemd  # ours\nhosts: files\n", add_nis())

    assert text == "passwd:   files nis systemd  # ours\nhosts: files\n"


def test_a_word_comes_last_in_a_line_that_lacks_the_one_before_it() -> None:
    text = options_after("passwd: compat   # not files\n", add_nis())

    assert text == "passwd: compat nis   # not files\n"


def test_a_word_that_stands_there_already_is_not_added_again() -> None:
    target = debian(files={str(OPTIONS): "passwd: files systemd nis\n"})

    plan = plan_of({"nis": [add_nis()]}, target)

    assert plan.changes == ()


def test_a_word_whose_line_is_missing_brings_the_line() -> None:
    text = options_after("hosts: files\n", add_nis())

    assert text == "hosts: files\npasswd: files nis\n"


def test_a_text_that_cannot_be_read_is_not_written_over() -> None:
    target = debian(without=["/etc/passwd"], unread=["/etc/passwd"])
    own_line = SetLine(path=PurePosixPath("/etc/passwd"), line="me:x:2000:2000:::", replaces=re.compile("^me:"))

    with pytest.raises(BuildError, match="users edits lines of /etc/passwd, which is not a UTF-8 text"):
        plan_of({"users": [own_line]}, target)


# Edits that contradict each other.


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        pytest.param(
            write("/etc/motd", "a\n"),
            write("/etc/motd", "b\n"),
            "the edits one and other want different things of /etc/motd",
            id="two texts",
        ),
        pytest.param(
            write("/etc/motd", mode=0o644),
            write("/etc/motd", mode=0o600),
            "the edits one and other want different things of /etc/motd",
            id="two modes",
        ),
        pytest.param(
            write("/etc/motd"),
            RemovePath(path=MOTD),
            "the edits one and other want different things of /etc/motd",
            id="a file and nothing",
        ),
        pytest.param(
            write("/etc/options"),
            set_option("port 22", name="port"),
            "other edits lines of /etc/options, which one writes or removes whole",
            id="a whole file and a line of it",
        ),
        pytest.param(
            set_option("port 22", name="port"),
            set_option("port 23", name="port"),
            "the edits one and other want different things of a line in /etc/options",
            id="two lines of one meaning",
        ),
        pytest.param(
            set_option(Secret("port 22"), name="port"),
            set_option(Secret("port 23"), name="port"),
            "the edits one and other want different things of a line in /etc/options",
            id="two secret lines of one meaning",
        ),
        pytest.param(
            set_option("port 22", name="port"),
            drop_option("port"),
            "the edits one and other want different things of a line in /etc/options",
            id="a line and its removal",
        ),
        pytest.param(
            add_nis(),
            SetLine(path=OPTIONS, line="passwd: sss", replaces=re.compile("^passwd:")),
            "the edits one and other want different things of a line in /etc/options",
            id="a word and a line without it",
        ),
        pytest.param(
            EnableService(unit="ssh.service"),
            DisableService(unit="ssh.service"),
            "the edits one and other disagree on whether 'ssh.service' starts at boot",
            id="a service on and off",
        ),
        pytest.param(
            EnableService(unit="ssh.service"),
            MaskService(unit="ssh.service"),
            "the edits one and other disagree on whether 'ssh.service' starts at boot",
            id="a service on and masked",
        ),
        pytest.param(
            write("/etc/new/file"),
            RemovePath(path=PurePosixPath("/etc/new")),
            "one writes /etc/new/file, but other leaves no directory at /etc/new",
            id="a file in a directory that goes",
        ),
        pytest.param(
            write("/etc/new/file"),
            write("/etc/new"),
            "one writes /etc/new/file, but other leaves no directory at /etc/new",
            id="a file in a file",
        ),
    ],
)
def test_two_edits_that_disagree_are_both_named(one: Intent, other: Intent, what: str) -> None:
    with pytest.raises(BuildError) as caught:
        plan_of({"one": [one], "other": [other]})

    assert (caught.value.where, caught.value.what) == ("local01", what)


def test_edits_that_want_the_same_agree() -> None:
    plan = plan_of({"one": [write("/etc/motd")], "other": [write("/etc/motd")]})

    assert plan.origins == {MOTD: ("one", "other")}


def test_a_third_edit_of_the_file_is_not_blamed_for_a_conflict() -> None:
    intents = {
        "first": [set_option("port 22", name="port")],
        "innocent": [set_option("listen 0", name="listen")],
        "last": [set_option("port 23", name="port")],
    }

    with pytest.raises(BuildError, match="the edits first and last want different things"):
        plan_of(intents)


def test_two_edits_may_want_the_same_path_gone_by_different_depths() -> None:
    target = debian(directories=["/etc/old", "/etc/old/inner"])
    intents: Mapping[str, Sequence[Intent]] = {
        "one": [RemovePath(path=PurePosixPath("/etc/old"))],
        "other": [RemovePath(path=PurePosixPath("/etc/old/inner/file"))],
    }

    plan = plan_of(intents, target)

    assert plan.changes == (RemovePath(path=PurePosixPath("/etc/old")),)


# Paths as they are in the base.


def test_a_file_is_named_by_its_real_path() -> None:
    plan = plan_of({"own": [write("/lib/systemd/system/own.service")]})

    assert paths_in(plan) == ["/usr/lib/systemd/system/own.service"]


def test_directories_that_the_base_lacks_are_made() -> None:
    plan = plan_of({"own": [write("/srv/own/deep/file")]})

    assert plan.changes == (
        MakeDirectory(path=PurePosixPath("/srv/own")),
        MakeDirectory(path=PurePosixPath("/srv/own/deep")),
        write("/srv/own/deep/file"),
    )


def test_a_directory_in_place_of_a_link_to_one_is_that_directory() -> None:
    target = debian(links={"/home": "srv/home"}, directories=["/srv/home"], without=["/home"])

    plan = plan_of({"own": [MakeDirectory(path=PurePosixPath("/home"))]}, target)

    assert paths_in(plan) == ["/srv/home"]


def test_a_link_of_the_base_gives_way_to_a_file() -> None:
    target = debian(links={"/etc/motd": "/run/motd"})

    plan = plan_of({"own": [write("/etc/motd")]}, target)

    assert plan.changes == (write("/etc/motd"),)


@pytest.mark.parametrize(
    ("intent", "what"),
    [
        pytest.param(write("/etc/ssh"), "own writes /etc/ssh, which is a directory in the base", id="file"),
        pytest.param(
            MakeLink(path=PurePosixPath("/etc/ssh"), target="/srv"),
            "own writes /etc/ssh, which is a directory in the base",
            id="link",
        ),
        pytest.param(
            write("/etc/passwd/own"),
            "own makes the directory /etc/passwd, which is no directory in the base",
            id="directory for a file",
        ),
    ],
)
def test_what_the_base_has_of_another_kind_is_not_replaced(intent: Intent, what: str) -> None:
    with pytest.raises(BuildError) as caught:
        plan_of({"own": [intent]})

    assert caught.value.what == what


def test_a_loop_of_links_in_the_base_is_an_error_with_the_edit() -> None:
    target = debian(links={"/srv/a": "b", "/srv/b": "a"})

    with pytest.raises(BuildError, match="local01: own: /srv/a/file goes round in circles"):
        plan_of({"own": [write("/srv/a/file")]}, target)


def test_nothing_is_removed_from_a_directory_that_the_base_lacks() -> None:
    target = debian(without=["/etc/ssh"])

    plan = plan_of({"identity": [RemovePath(path=PurePosixPath("/etc/ssh/ssh_host_rsa_key"))]}, target)

    assert plan.changes == ()


@pytest.mark.parametrize(
    "intent",
    [
        pytest.param(write("/etc/hostname", "localhost\n"), id="text"),
        pytest.param(MakeLink(path=PurePosixPath("/lib"), target="usr/lib"), id="link"),
        pytest.param(MakeLink(path=PurePosixPath("/bin"), target="/usr/bin"), id="link to the same place"),
    ],
)
def test_what_the_base_has_already_is_not_written(intent: Intent) -> None:
    plan = plan_of({"own": [intent]})

    assert plan.changes == ()


def test_a_file_of_the_base_with_another_mode_is_written() -> None:
    plan = plan_of({"own": [write("/etc/hostname", "localhost\n", mode=0o600)]})

    assert paths_in(plan) == ["/etc/hostname"]


# Owners.


def test_owners_have_the_numbers_of_the_image_s_own_accounts() -> None:
    target = debian(files={"/etc/passwd": "root:x:0:0::/root:/bin/sh\nme:x:1234:1:::\n", "/etc/group": "us:x:77:\n"})

    plan = plan_of({"own": [write("/etc/motd", owner="me", group="us")]}, target)

    assert (plan.uids, plan.gids) == ({"me": 1234}, {"us": 77})


def test_an_account_that_the_same_plan_makes_can_own_files() -> None:
    intents: dict[str, Sequence[Intent]] = {
        "users": [
            SetLine(path=PurePosixPath("/etc/passwd"), line="me:x:2000:2000:::", replaces=re.compile("^me:")),
            SetLine(path=PurePosixPath("/etc/group"), line="me:x:2000:", replaces=re.compile("^me:")),
        ],
        "own": [write("/etc/motd", owner="me", group="me")],
    }

    plan = plan_of(intents)

    assert (plan.uids["me"], plan.gids["me"]) == (2000, 2000)


def test_an_owner_whom_the_base_does_not_have_is_an_error() -> None:
    with pytest.raises(BuildError, match="/etc/motd is to belong to nobody-knows:root"):
        plan_of({"own": [write("/etc/motd", owner="nobody-knows")]})


# Services.


def test_a_service_of_an_overlay_can_be_enabled() -> None:
    intents: Mapping[str, Sequence[Intent]] = {
        "own": [write("/etc/systemd/system/own.service", UNIT), EnableService(unit="own.service")]
    }

    plan = plan_of(intents)

    assert change_at(plan, f"{MULTI_USER}/own.service") == MakeLink(
        path=PurePosixPath(f"{MULTI_USER}/own.service"), target="/etc/systemd/system/own.service"
    )


def test_a_service_that_the_base_has_enabled_needs_no_change() -> None:
    plan = plan_of({"own": [EnableService(unit="ssh.service"), EnableService(unit="rpcbind.service")]})

    assert plan.changes == ()


def test_a_service_that_is_not_there_is_an_error_with_the_edit() -> None:
    with pytest.raises(BuildError) as caught:
        plan_of({"own": [EnableService(unit="sssh.service")]})

    assert (caught.value.where, caught.value.what) == (
        "local01: own",
        "there is no systemd unit 'sssh.service' in the base or the overlays",
    )


def test_a_service_that_the_base_has_masked_is_unmasked() -> None:
    target = debian(links={"/etc/systemd/system/nftables.service": "/dev/null"})

    plan = plan_of({"own": [EnableService(unit="nftables.service")]}, target)

    assert change_at(plan, "/etc/systemd/system/nftables.service") == RemovePath(
        path=PurePosixPath("/etc/systemd/system/nftables.service")
    )


def test_a_unit_of_an_overlay_takes_the_place_of_the_base_s_mask() -> None:
    target = debian(links={"/etc/systemd/system/own.service": "/dev/null"})
    unit = write("/etc/systemd/system/own.service", UNIT)

    plan = plan_of({"own": [unit, EnableService(unit="own.service")]}, target)

    assert change_at(plan, "/etc/systemd/system/own.service") == unit


def test_a_disabled_service_loses_its_links() -> None:
    plan = plan_of({"own": [DisableService(unit="ssh.service")]})

    assert plan.changes == (
        RemovePath(path=PurePosixPath(f"{MULTI_USER}/ssh.service")),
        RemovePath(path=PurePosixPath("/etc/systemd/system/sshd.service")),
    )


def test_a_disabled_service_stays_on_if_an_enabled_one_brings_it_along() -> None:
    intents: Mapping[str, Sequence[Intent]] = {
        "one": [EnableService(unit="rpcbind.service")],
        "other": [DisableService(unit="rpcbind.socket")],
    }

    plan = plan_of(intents)

    assert plan.changes == ()


def test_a_masked_service_leads_nowhere() -> None:
    path = PurePosixPath("/etc/systemd/system/ssh.service")

    plan = plan_of({"own": [MaskService(unit="ssh.service")]})

    assert plan.changes == (MakeLink(path=path, target="/dev/null"),)


# Keys.

INTENTS: Mapping[str, Sequence[Intent]] = {
    "lines": [
        set_option("port 22", name="port"),
        set_option(Secret("password x"), name="password"),
        drop_option("listen"),
        add_nis("passwd"),
        add_nis("group"),
    ],
    "more lines": [set_option("user me", name="user"), add_nis("passwd"), drop_option("alias")],
    "files": [
        write("/etc/motd"),
        write("/srv/own/file", mode=0o600),
        MakeDirectory(path=PurePosixPath("/srv/own")),
        MakeLink(path=PurePosixPath("/srv/link"), target="own"),
        RemovePath(path=PurePosixPath("/etc/ssh/ssh_host_rsa_key")),
    ],
    "services": [
        EnableService(unit="rpcbind.service"),
        EnableService(unit="nfs-server.service"),
        DisableService(unit="rpcbind.socket"),
        DisableService(unit="cron.service"),
        MaskService(unit="ssh.service"),
    ],
}


@settings(max_examples=25)
@given(pairs=st.permutations([(edit, intent) for edit, intents in INTENTS.items() for intent in intents]))
def test_neither_the_order_of_edits_nor_that_of_their_intents_changes_the_plan(
    pairs: Sequence[tuple[str, Intent]],
) -> None:
    target = debian(files={str(OPTIONS): "listen 0\nport 1\nhosts: files\npasswd: files\n"})
    shuffled = {name: [intent for edit, intent in pairs if edit == name] for name, _ in pairs}

    plan = plan_of(shuffled, target)

    assert plan == plan_of(INTENTS, target)
    assert plan.key == plan_of(INTENTS, target).key


@settings(max_examples=25)
@given(text=st.text(), mode=st.integers(0, 0o7777), target=st.text(min_size=1))
def test_the_key_changes_with_the_rows_and_with_nothing_else(text: str, mode: int, target: str) -> None:
    link = PurePosixPath("/srv/link")
    before = plan_of({"own": [write("/etc/motd", "a"), MakeLink(path=link, target="b")]})

    plan = plan_of({"own": [write("/etc/motd", text, mode=mode), MakeLink(path=link, target=target)]})

    assert (plan.key == before.key) == (plan.rows() == before.rows())


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"name": "local02"}, id="name"),
        pytest.param({"role": "worker"}, id="role"),
        pytest.param({"base_digest": "e" * 64}, id="base"),
        pytest.param({"changes": ()}, id="changes"),
    ],
)
def test_the_key_says_which_image_of_which_base_it_is(other: dict[str, object]) -> None:
    plan = plan_of({"own": [write("/etc/motd")]})

    assert replace(plan, **other).key != plan.key  # type: ignore[arg-type]


def test_the_key_does_not_depend_on_which_edit_wants_a_change() -> None:
    one, other = plan_of({"one": [write("/etc/motd")]}), plan_of({"other": [write("/etc/motd")]})

    assert one.key == other.key


def test_the_key_changes_with_a_secret_that_no_row_shows() -> None:
    plans = [plan_of({"own": [set_option(Secret(text), name="password")]}) for text in ("password x", "password y")]

    assert plans[0].key != plans[1].key
    assert "password" not in str([plan.rows() for plan in plans])


@pytest.mark.parametrize("name", ["oneserver", "local01", "worker"])
def test_two_builds_of_the_same_recipes_have_the_same_plan(name: str) -> None:
    shipped_site.cache_clear()
    first = shipped_plan(name)
    shipped_site.cache_clear()

    second = shipped_plan(name)

    assert second == first
    assert second.key == first.key


# Packages.


def test_packages_that_the_base_lacks_are_named_in_order() -> None:
    missing = missing_packages(["slurmd", "openvpn", "nis | ypbind-mt", "munge | slurm-wlm"], debian())

    assert list(missing) == ["munge | slurm-wlm", "slurmd"]


def test_an_empty_plan_changes_nothing() -> None:
    plan = make_plan("local01", "node", {}, debian())

    assert (plan.changes, plan.uids, plan.gids, plan.origins) == ((), {}, {}, {})
