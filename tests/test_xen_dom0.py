"""Copies to a dom0, which is here a directory behind a real ssh server on the loopback."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuilder.errors import CheckError, RemoteError, UsageError
from imagebuilder.image.store import Image
from imagebuilder.xen.dom0 import Dom0, copy_to_dom0, parse_dom0, start_in_dom0
from imagebuilder.xen.export import Export
from tests.exports import (
    DATA_BYTES,
    MIB,
    content_of,
    export_to,
    names_in,
    overlay_image,
    put_program,
    write_to,
)
from tests.ssh_server import SshServer, ssh_server, write_user_key

pytestmark = pytest.mark.remote

# Of the state that its directory has: see test_xen_folder_texts.py.
XL = """
case $1 in
    list) [ $# = 1 ] || [ -e "$HOME/running" ] ;;
    create) shift; for word; do printf '%s\\n' "$word"; done >"$HOME/created"; touch "$HOME/running" ;;
esac
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    (tmp_path / "remote").mkdir()
    with ssh_server(tmp_path / "remote") as server:
        put_program(server.home / "bin/xl", XL)
        yield server


@pytest.fixture
def dom0(server: SshServer) -> Dom0:
    return parse_dom0("dom0", server.config)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return overlay_image(tmp_path / "store")


@pytest.fixture
def exported(image: Image, tmp_path: Path) -> Export:
    return export_to(tmp_path / "out", content_of(image))


def texts_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# Hosts.


@pytest.mark.parametrize(
    ("text", "login", "shown"),
    [
        ("dom0", "dom0", "dom0:imgbuild"),
        ("root@dom0", "root@dom0", "root@dom0:imgbuild"),
        ("root@dom0:", "root@dom0", "root@dom0:imgbuild"),
        ("root@dom0.example.org:/srv/xen/", "root@dom0.example.org", "root@dom0.example.org:/srv/xen"),
        ("root@dom0:~/guests", "root@dom0", "root@dom0:guests"),
        ("root@dom0:/", "root@dom0", "root@dom0:/"),
        ("root@[fd00::1]:a b/c", "root@fd00::1", "root@[fd00::1]:a b/c"),
    ],
)
def test_a_host_is_what_ssh_takes_and_a_directory_there(text: str, login: str, shown: str) -> None:
    dom0 = parse_dom0(text)

    assert (dom0.login, str(dom0)) == (login, shown)


@pytest.mark.parametrize(
    "text", ["", "-oProxyCommand=x", "root@-oProxyCommand=x", "a b", "root@", "root@dom0/x", "@dom0", "dom0::module"]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_dom0(text)

    assert str(raised.value) == f"'{text}' is no host\n  fix: write USER@HOST or USER@HOST:DIRECTORY"


def test_the_home_of_another_user_is_refused() -> None:
    with pytest.raises(UsageError, match="'~admin/xen' is a directory that only a shell there would find"):
        parse_dom0("root@dom0:~admin/xen")


# Copies.


def test_the_folder_arrives_whole_under_its_name(exported: Export, server: SshServer, dom0: Dom0) -> None:
    copied = copy_to_dom0(exported, dom0)

    there = server.home / "imgbuild/local01"
    assert (copied.folder, copied.outcome, copied.kept) == ("imgbuild/local01", "copied", None)
    assert texts_of(there) == texts_of(exported.folder)
    assert (there / "disk.raw").stat().st_blocks * 512 < DATA_BYTES + MIB
    assert names_in(server.home / "imgbuild") == ["local01"]


def test_only_its_owner_can_read_it_there(exported: Export, server: SshServer, dom0: Dom0) -> None:
    copy_to_dom0(exported, dom0)

    there = server.home / "imgbuild/local01"
    modes = {file.name: f"{file.stat().st_mode & 0o7777:04o}" for file in [there, there.parent, *there.iterdir()]}
    assert {name for name, mode in modes.items() if mode == "0700"} == {"imgbuild", "local01", "start"}
    assert set(modes.values()) == {"0600", "0700"}


def test_a_directory_may_have_a_name_that_shells_would_take_apart(exported: Export, server: SshServer) -> None:
    dom0 = parse_dom0(f'dom0:{server.home}/it\'s $HOME; a "b"', server.config)

    copy_to_dom0(exported, dom0)

    assert texts_of(server.home / 'it\'s $HOME; a "b"/local01') == texts_of(exported.folder)


def test_the_same_folder_is_copied_once(exported: Export, server: SshServer, dom0: Dom0) -> None:
    copy_to_dom0(exported, dom0)

    again = copy_to_dom0(exported, dom0)

    assert again.outcome == "unchanged"
    assert len(server.copied) == 1


def test_another_build_takes_the_place_of_the_earlier_one(
    exported: Export, tmp_path: Path, server: SshServer, dom0: Dom0
) -> None:
    copy_to_dom0(exported, dom0)
    newer = export_to(tmp_path / "out", content_of(overlay_image(tmp_path / "store", key="k2")))

    copied = copy_to_dom0(newer, dom0)

    assert (copied.outcome, copied.kept) == ("copied", None)
    assert texts_of(server.home / "imgbuild/local01") == texts_of(newer.folder)
    assert names_in(server.home / "imgbuild") == ["local01"]


def test_a_disk_that_the_machine_has_run_on_there_is_kept(
    image: Image, tmp_path: Path, server: SshServer, dom0: Dom0
) -> None:
    copy_to_dom0(export_to(tmp_path / "out", content_of(image, disk_format="qcow2")), dom0)
    write_to(server.home / "imgbuild/local01/disk.qcow2", seed=99)
    used = (server.home / "imgbuild/local01/disk.qcow2").read_bytes()
    newer = overlay_image(tmp_path / "store", key="k2")

    copied = copy_to_dom0(export_to(tmp_path / "out", content_of(newer, disk_format="qcow2")), dom0)

    assert copied.kept == "imgbuild/local01.used-1"
    assert (server.home / "imgbuild/local01.used-1/disk.qcow2").read_bytes() == used


def test_a_disk_that_a_machine_has_run_on_here_is_not_copied(
    image: Image, tmp_path: Path, server: SshServer, dom0: Dom0
) -> None:
    exported = export_to(tmp_path / "out", content_of(image, disk_format="qcow2"))
    write_to(exported.folder / "disk.qcow2", seed=99)

    with pytest.raises(CheckError, match="a machine has run on its disk"):
        copy_to_dom0(exported, dom0)

    assert server.commands == []


# What goes wrong on the way.


def test_a_copy_that_was_cut_off_goes_on_with_the_rest(exported: Export, server: SshServer, dom0: Dom0) -> None:
    server.cut_after = DATA_BYTES * 3 // 4

    with pytest.raises(RemoteError) as raised:
        copy_to_dom0(exported, dom0)
    left = names_in(server.home / "imgbuild")
    server.cut_after = None
    copy_to_dom0(exported, dom0)

    assert raised.value.what.startswith("the copy of local01 was cut off: ")
    assert raised.value.fix == "run the command again: it goes on where it stopped (local01.part there)"
    assert left == ["local01.part"]
    first, second = server.copied
    assert first > DATA_BYTES * 3 // 4
    assert second < DATA_BYTES // 2
    assert texts_of(server.home / "imgbuild/local01") == texts_of(exported.folder)
    assert names_in(server.home / "imgbuild") == ["local01"]


# After the real rsync, this spoils a byte of the disk, and leaves its size and time.
SPOIL = """
/usr/bin/rsync "$@" || exit
[ -e "$HOME/spoiled" ] && exit
{once}
for last; do :; done
cd "$last"
touch -r disk.raw "$HOME/time"
printf x | dd of=disk.raw bs=1 seek=3000000 conv=notrunc status=none
touch -r "$HOME/time" disk.raw
"""


def test_a_file_that_arrives_spoiled_is_found_and_sent_again(exported: Export, server: SshServer, dom0: Dom0) -> None:
    put_program(server.home / "bin/rsync", rsync_that_spoils("touch $HOME/spoiled"))

    copied = copy_to_dom0(exported, dom0)

    assert copied.outcome == "copied"
    assert len(server.copied) == 2
    assert server.copied[1] < MIB
    assert texts_of(server.home / "imgbuild/local01") == texts_of(exported.folder)


def test_a_file_that_arrives_spoiled_twice_is_named_and_nothing_stays(
    exported: Export, server: SshServer, dom0: Dom0
) -> None:
    put_program(server.home / "bin/rsync", rsync_that_spoils("true"))

    with pytest.raises(RemoteError, match=r"local01 is not there as it was sent: disk.raw: FAILED"):
        copy_to_dom0(exported, dom0)

    assert names_in(server.home / "imgbuild") == []


def rsync_that_spoils(once: str) -> str:
    # With --secluded-args the directory is not among the words of the server's command.
    return SPOIL.replace("{once}", once).replace("for last; do :; done\n", "last=imgbuild/local01.part\n")


def test_a_host_that_is_not_there_is_named(exported: Export, server: SshServer) -> None:
    server.config.write_text(server.config.read_text().replace("Port ", "Port 1 # "))

    with pytest.raises(RemoteError) as raised:
        copy_to_dom0(exported, parse_dom0("dom0", server.config))

    assert str(raised.value) == (
        "dom0: ssh failed: ssh: connect to host 127.0.0.1 port 1: Connection refused\n"
        "  fix: try `ssh dom0 true`; addresses, ports and keys stand in ~/.ssh/config"
    )


def test_another_host_key_than_the_known_one_is_refused(
    exported: Export, server: SshServer, dom0: Dom0, tmp_path: Path
) -> None:
    known = tmp_path / "remote/known_hosts"
    known.write_text(
        f"{known.read_text().split()[0]} {' '.join((tmp_path / 'remote/authorized_keys').read_text().split()[:2])}\n"
    )

    with pytest.raises(RemoteError) as raised:
        copy_to_dom0(exported, dom0)

    assert raised.value.what.endswith("Host key verification failed.")
    assert raised.value.fix == "log in by hand once, `ssh dom0`, and compare the host's key"
    assert server.commands == []


def test_a_key_that_the_host_does_not_know_is_refused_without_a_question(
    exported: Export, server: SshServer, dom0: Dom0, tmp_path: Path
) -> None:
    write_user_key(tmp_path / "remote")

    with pytest.raises(RemoteError) as raised:
        copy_to_dom0(exported, dom0)

    assert "Permission denied" in raised.value.what
    assert raised.value.fix == (
        "let ssh log in without a question: a key in authorized_keys there, ssh-agent or IdentityFile here"
    )
    assert server.commands == []


# What is refused there.


def test_the_disk_of_a_machine_that_runs_there_is_not_replaced(
    exported: Export, tmp_path: Path, server: SshServer, dom0: Dom0
) -> None:
    copy_to_dom0(exported, dom0)
    (server.home / "running").touch()
    newer = export_to(tmp_path / "out", content_of(overlay_image(tmp_path / "store", key="k2")))

    with pytest.raises(RemoteError) as raised:
        copy_to_dom0(newer, dom0)

    assert str(raised.value) == (
        "dom0:imgbuild: local01 runs there, maybe on the disk that would be replaced\n"
        "  fix: end it there by `xl shutdown -w local01`, or name another directory"
    )
    assert names_in(server.home / "imgbuild") == ["local01"]


@pytest.mark.parametrize("name", ["local01", "local01.part"])
def test_a_folder_of_somebody_else_is_refused_and_left_alone(
    name: str, exported: Export, server: SshServer, dom0: Dom0
) -> None:
    foreign = server.home / "imgbuild" / name
    foreign.mkdir(parents=True)
    (foreign / "letter").write_text("dear")

    with pytest.raises(RemoteError, match=f"{name} is there, and is no export of local01"):
        copy_to_dom0(exported, dom0)

    assert texts_of(foreign) == {"letter": b"dear"}


def test_a_directory_that_cannot_be_made_is_named(exported: Export, server: SshServer) -> None:
    (server.home / "file").touch()

    with pytest.raises(RemoteError) as raised:
        copy_to_dom0(exported, parse_dom0("dom0:file/x", server.config))

    assert str(raised.value) == (
        "dom0:file/x: the directory cannot be made\n"
        "  fix: name a directory that the user may write to: USER@HOST:DIRECTORY"
    )


def test_a_host_without_rsync_is_told_apart(exported: Export, server: SshServer, dom0: Dom0) -> None:
    subprocess.run(["ln", "-s", "/usr/bin/mkdir", "/usr/bin/sed", "/usr/bin/sh", server.home / "bin"], check=True)
    server.path = str(server.home / "bin")

    with pytest.raises(RemoteError, match="rsync is not installed there"):
        copy_to_dom0(exported, dom0)


def test_a_host_without_room_gets_nothing(exported: Export, server: SshServer, dom0: Dom0) -> None:
    put_program(server.home / "bin/df", "echo head; echo 'dev 9 8 1000 90% /'\n")

    with pytest.raises(RemoteError) as raised:
        copy_to_dom0(exported, dom0)

    assert str(raised.value) == (
        "dom0:imgbuild: there is no room for local01: 1000 KiB are free\n"
        "  fix: make room there, or name another directory"
    )
    assert (names_in(server.home / "imgbuild"), server.copied) == ([], [])


def test_a_disk_that_is_full_after_all_is_made_empty_again(exported: Export, server: SshServer, dom0: Dom0) -> None:
    put_program(server.home / "bin/df", "echo head; echo 'dev 9 8 1000000 90% /'\n")
    put_program(server.home / "bin/rsync", RSYNC_ON_A_SMALL_DISK)

    with pytest.raises(RemoteError) as raised:
        copy_to_dom0(exported, dom0)

    assert str(raised.value) == (
        "dom0:imgbuild: its disk is full; what was copied is removed again\n"
        "  fix: make room there, or name another directory"
    )
    assert names_in(server.home / "imgbuild") == []


# A file system of 4 MiB in namespaces of its own.
RSYNC_ON_A_SMALL_DISK = """
exec unshare --user --map-root-user --mount sh -c '
    mount -t tmpfs -o size=4m tmpfs imgbuild/local01.part && exec /usr/bin/rsync "$@"' sh "$@"
"""


# Starts.


def test_a_machine_is_started_there_and_its_script_heard(exported: Export, server: SshServer, dom0: Dom0) -> None:
    copy_to_dom0(exported, dom0)

    said = start_in_dom0("local01", dom0)

    assert said == "local01 runs; its console: xl console local01 (leave it by Ctrl-])"
    assert (server.home / "created").read_text().splitlines() == [
        "./local01.cfg",
        f'kernel = "{server.home}/imgbuild/local01/kernel"',
        f"disk = [ 'format=raw,vdev=xvda,access=rw,target={server.home}/imgbuild/local01/disk.raw' ]",
    ]


def test_a_machine_that_does_not_start_is_told_with_what_xl_says(
    exported: Export, server: SshServer, dom0: Dom0
) -> None:
    copy_to_dom0(exported, dom0)
    put_program(server.home / "bin/xl", "[ $1 = list ] && { [ $# = 1 ]; exit; }; echo 'libxl: no memory' >&2; exit 3\n")

    with pytest.raises(RemoteError) as raised:
        start_in_dom0("local01", dom0)

    assert str(raised.value) == (
        "dom0:imgbuild: local01 was not started: libxl: no memory; start: xl could not start local01\n"
        "  fix: log in there, and run imgbuild/local01/start"
    )


def test_a_machine_that_runs_already_is_not_started_again(exported: Export, dom0: Dom0) -> None:
    copy_to_dom0(exported, dom0)
    start_in_dom0("local01", dom0)

    with pytest.raises(RemoteError, match="local01 was not started: start: local01 runs already"):
        start_in_dom0("local01", dom0)
