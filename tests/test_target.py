import os
from pathlib import PurePosixPath

import pytest

from imagebuilder.plan.target import Account, Target, accounts_in, groups_in
from tests.machines import debian


@pytest.mark.parametrize(
    ("path", "real"),
    [
        pytest.param("/etc/motd", "/etc/motd", id="no link"),
        pytest.param("/lib/systemd", "/usr/lib/systemd", id="relative link"),
        pytest.param("/srv/abs/x", "/home/x", id="absolute link"),
        pytest.param("/srv/up/x", "/home/x", id="link upwards"),
        pytest.param("/srv/chain/x", "/home/x", id="link to a link"),
        pytest.param("/srv/deep/systemd/x", "/usr/lib/systemd/x", id="link through a link"),
        pytest.param("/srv/root/etc/x", "/etc/x", id="link to the root"),
        pytest.param("/srv/over/x", "/home/x", id="link above the root"),
        pytest.param("/srv/abs", "/srv/abs", id="link at the end"),
        pytest.param("/etc/../srv/x", "/srv/x", id="dots in the path"),
    ],
)
def test_links_in_the_directories_of_a_path_are_followed(path: str, real: str) -> None:
    links = {"abs": "/home", "up": "../home", "chain": "abs", "deep": "../lib", "root": "/", "over": "../../../home"}
    target = debian(links={f"/srv/{name}": link for name, link in links.items()})

    resolved = target.resolve(PurePosixPath(path))

    assert resolved == PurePosixPath(real)


def test_a_link_at_the_end_is_followed_by_wish() -> None:
    target = debian(links={"/srv/one": "other", "/srv/other": "/etc/motd"})

    resolved = target.resolve(PurePosixPath("/srv/one"), last="followed")

    assert resolved == PurePosixPath("/etc/motd")


@pytest.mark.parametrize("path", ["/srv/a/x", "/srv/self/x"])
def test_a_path_that_goes_round_in_circles_is_an_error(path: str) -> None:
    target = debian(links={"/srv/a": "b", "/srv/b": "a", "/srv/self": "self/deeper"})

    with pytest.raises(ValueError, match=f"{path} goes round in circles through links of the base image"):
        target.resolve(PurePosixPath(path))


def test_only_the_links_of_the_administrator_s_units_say_what_starts() -> None:
    target = debian()

    assert PurePosixPath("/etc/systemd/system/sshd.service") in target.unit_links
    assert PurePosixPath("/lib") not in target.unit_links


def test_the_facts_come_back_from_json_as_they_were() -> None:
    before = debian(
        files={"/etc/odd\nname": 'tab\tquote"\u2028zoë\n'},
        links={"/etc/link": os.fsdecode(b"na\xefve")},
        directories=[os.fsdecode(b"/srv/na\xefve")],
        unread=["/etc/big"],
    )

    after = Target.from_json(before.to_json())

    assert after == before


def test_facts_of_before_there_was_a_list_of_unread_files_are_still_good() -> None:
    old = debian().to_json().replace(', "unread": []', "")

    assert Target.from_json(old) == debian()


def test_the_same_facts_in_another_order_are_the_same_json() -> None:
    one = debian(links={"/srv/a": "b", "/srv/b": "c"}, directories=["/srv/x", "/srv/y"])
    other = debian(links={"/srv/b": "c", "/srv/a": "b"}, directories=["/srv/y", "/srv/x"])

    assert one.to_json() == other.to_json()


def test_accounts_are_those_with_numbers_and_the_first_of_a_name_counts() -> None:
    passwd = "root:x:0:0:root:/root:/bin/bash\n\n+::::::\nbroken:x\nodd:x:²:1::\nme:x:5:6:::\nme:x:7:8:::\n# me\n"

    accounts = accounts_in(passwd)

    assert accounts == {"root": Account(uid=0, gid=0), "me": Account(uid=5, gid=6)}


def test_groups_are_those_with_numbers_and_the_first_of_a_name_counts() -> None:
    groups = groups_in("root:x:0:\n+:::\nus:x:5:me,you\nus:x:6:\nbroken\n")

    assert groups == {"root": 0, "us": 5}
