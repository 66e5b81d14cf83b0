import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from imagebuilder.plan.changes import WriteFile
from tests.machines import PROJECT, change_at, shipped_plan

SCRIPTS = sorted(
    file
    for tree in (PROJECT / "overlays", PROJECT / "imagebuilder/image/bootstrap_files")
    for file in tree.rglob("*")
    if file.is_file() and file.read_bytes().startswith(b"#!/bin/sh")
)
OWN_DIRECTORIES = re.compile(
    r"(?<![\w.}])/(etc|run|sys/class/dmi|usr/lib/gridengine|usr/share/imgbuild|var/lib/imgbuild)(?=[/:])"
)


def relative(file: Path) -> str:
    return str(file.relative_to(PROJECT))


class Root:
    """A directory in the place of a machine's root: the scripts that run here see only what is below it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.programs = directory / "programs"
        for name in ("programs", "etc", "run", "usr/share/imgbuild", "var/lib/imgbuild"):
            (directory / name).mkdir(parents=True)

    def file(self, path: str) -> Path:
        """Where the file at `path` of the machine is here."""
        return self.directory / path.lstrip("/")

    def install(self, name: str, script: str) -> None:
        """Have a program `name` that is this shell script."""
        (self.programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.programs / name).chmod(0o755)

    def run(self, script: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the overlays as the machine would."""
        text = (PROJECT / "overlays" / script).read_text(encoding="utf-8")
        copy = self.directory / "script"
        copy.write_text(OWN_DIRECTORIES.sub(rf"{self.directory}/\1", text), encoding="utf-8")
        path = f"{self.programs}:{os.environ['PATH']}"
        return subprocess.run(
            ["sh", copy, *arguments],
            env={"PATH": path, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path / "root")


@pytest.mark.parametrize("script", SCRIPTS, ids=relative)
def test_a_script_has_no_syntax_error(script: Path) -> None:
    done = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(
        ["shellcheck", "--format=gcc", *map(relative, SCRIPTS)],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )

    assert done.stdout == ""


@pytest.mark.parametrize("name", ["oneserver", "local01", "worker"])
def test_every_script_in_an_image_can_be_run(name: str) -> None:
    files = [change for change in shipped_plan(name).changes if isinstance(change, WriteFile)]

    scripts = {str(file.path): file.mode for file in files if file.payload.startswith(b"#!/bin/")}

    assert scripts == dict.fromkeys(scripts, 0o755)


# reserve-names

RESERVE_NAMES = "reserve-names/rootfs/usr/lib/imgbuild/reserve-names"
RESERVED = "# BEGIN workers (reserved)\n10.1.1.100\tworkernode0\n10.1.1.101\tworkernode1\n# END workers\n"


def hosts_after(root: Root, hosts: str) -> str:
    root.file("/usr/share/imgbuild/workers.hosts").write_text(RESERVED)
    root.file("/etc/hosts").write_text(hosts)
    done = root.run(RESERVE_NAMES)
    assert (done.returncode, done.stderr) == (0, "")
    assert [file.name for file in root.file("/etc").iterdir()] == ["hosts"]
    return root.file("/etc/hosts").read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("127.0.0.1 localhost\n", f"127.0.0.1 localhost\n{RESERVED}", id="no names yet"),
        pytest.param(f"127.0.0.1 localhost\n{RESERVED}", f"127.0.0.1 localhost\n{RESERVED}", id="all names"),
        pytest.param(
            f"a\n{RESERVED.replace('100', '99').replace('workernode1', 'mine')}b\n",
            f"a\nb\n{RESERVED}",
            id="edited names",
        ),
        pytest.param("127.0.0.1 localhost", f"127.0.0.1 localhost\n{RESERVED}", id="no final newline"),
        pytest.param(
            "a\n# BEGIN workers\n10.1.1.100 x\nb\n", f"a\n10.1.1.100 x\nb\n{RESERVED}", id="the block's end is missing"
        ),
        pytest.param("a\n# END workers\nb\n", f"a\n# END workers\nb\n{RESERVED}", id="the block's begin is missing"),
        pytest.param(f"{RESERVED}a\n{RESERVED}", f"a\n{RESERVED}", id="two blocks"),
        pytest.param("", RESERVED, id="an empty file"),
    ],
)
def test_the_reserved_names_are_put_back_and_every_other_line_stays(before: str, after: str, root: Root) -> None:
    assert hosts_after(root, before) == after


def test_reserving_names_twice_does_not_touch_the_file_again(root: Root) -> None:
    once = hosts_after(root, "127.0.0.1 localhost\n")
    inode = root.file("/etc/hosts").stat().st_ino

    root.run(RESERVE_NAMES)

    assert root.file("/etc/hosts").read_text() == once
    assert root.file("/etc/hosts").stat().st_ino == inode


def test_everybody_may_read_the_names(root: Root) -> None:
    hosts_after(root, "127.0.0.1 localhost\n")

    assert root.file("/etc/hosts").stat().st_mode & 0o777 == 0o644


def test_the_server_s_image_has_the_names_just_as_its_boot_makes_them(root: Root) -> None:
    plan = shipped_plan("oneserver")
    [hosts, reserved] = [change_at(plan, path) for path in ("/etc/hosts", "/usr/share/imgbuild/workers.hosts")]
    assert isinstance(hosts, WriteFile)
    assert isinstance(reserved, WriteFile)
    root.file("/etc/hosts").write_bytes(hosts.payload)
    root.file("/usr/share/imgbuild/workers.hosts").write_bytes(reserved.payload)

    root.run(RESERVE_NAMES)

    assert root.file("/etc/hosts").read_bytes() == hosts.payload


# vpn-instance

VPN_INSTANCE = "openvpn-client/rootfs/usr/lib/imgbuild/vpn-instance"
INSTANCE = "i-0123456789abcdef0"
ASSET_TAG, CLOUD_INIT = "/sys/class/dmi/id/board_asset_tag", "/run/cloud-init/.instance-id"


def told_of(root: Root) -> str:
    return root.file("/run/imgbuild/instance.conf").read_text()


@pytest.mark.parametrize(
    ("files", "told"),
    [
        pytest.param({ASSET_TAG: INSTANCE}, f"setenv UV_INSTANCE {INSTANCE}\n", id="on Nitro"),
        pytest.param({CLOUD_INIT: INSTANCE}, f"setenv UV_INSTANCE {INSTANCE}\n", id="on Xen, after cloud-init"),
        pytest.param(
            {ASSET_TAG: INSTANCE, CLOUD_INIT: "i-00000000000000000"},
            f"setenv UV_INSTANCE {INSTANCE}\n",
            id="the firmware goes first",
        ),
        pytest.param({ASSET_TAG: "Not Specified"}, "\n", id="on a machine of another kind"),
        pytest.param({ASSET_TAG: "i-0123 remote 10.6.6.6"}, "\n", id="text that only begins like an id"),
        pytest.param({}, "\n", id="on a machine without such a tag"),
    ],
)
def test_a_worker_tells_which_instance_it_is_if_it_knows(files: dict[str, str], told: str, root: Root) -> None:
    for path, text in files.items():
        root.file(path).parent.mkdir(parents=True)
        root.file(path).write_text(f"{text}\n")

    done = root.run(VPN_INSTANCE)

    assert (done.returncode, done.stderr) == (0, "")
    assert told_of(root) == told


def test_a_worker_whose_instance_is_not_known_any_more_does_not_tell_the_old_one(root: Root) -> None:
    root.file("/run/imgbuild").mkdir()
    root.file("/run/imgbuild/instance.conf").write_text(f"setenv UV_INSTANCE {INSTANCE}\n")

    root.run(VPN_INSTANCE)

    assert told_of(root) == "\n"


# vpn-up and join

VPN_UP = "openvpn-client/rootfs/usr/lib/imgbuild/vpn-up"
JOIN = "openvpn-client/rootfs/usr/lib/imgbuild/join"


@pytest.fixture
def worker(root: Root) -> Root:
    """A worker on which systemctl and hostname only write down what they are asked for."""
    root.install("systemctl", f'echo "$*" >> {root.directory}/asked')
    root.install("hostname", f'echo "$*" >> {root.directory}/asked')
    root.file("/etc/hosts").write_text("10.1.1.10\twrong\n10.1.1.100\tworkernode0 alias\n10.1.1.101\tworkernode1\n")
    return root


def asked_of(worker: Root) -> str:
    file = worker.directory / "asked"
    return file.read_text() if file.exists() else ""


def address_of(worker: Root) -> str:
    return worker.file("/run/imgbuild/vpn-address").read_text()


def test_the_first_address_on_the_vpn_is_kept_and_nothing_restarted(worker: Root) -> None:
    done = worker.run(VPN_UP, ifconfig_local="10.1.1.100")

    assert done.returncode == 0
    assert (address_of(worker), asked_of(worker)) == ("10.1.1.100\n", "")


def test_after_a_restart_of_the_tunnel_grid_engine_looks_at_its_jobs(worker: Root) -> None:
    worker.run(VPN_UP, ifconfig_local="10.1.1.100")

    done = worker.run(VPN_UP, ifconfig_local="10.1.1.100")

    assert done.returncode == 0
    assert (address_of(worker), asked_of(worker)) == (
        "10.1.1.100\n",
        "--no-block try-restart gridengine-exec.service\n",
    )


def test_another_address_makes_the_worker_join_anew(worker: Root) -> None:
    worker.run(VPN_UP, ifconfig_local="10.1.1.100")

    done = worker.run(VPN_UP, ifconfig_local="10.1.1.101")

    assert done.returncode == 0
    assert address_of(worker) == "10.1.1.101\n"
    assert asked_of(worker) == "--no-block try-restart imgbuild-join.service\n"


def test_a_vpn_without_an_address_is_no_reason_to_act(worker: Root) -> None:
    done = worker.run(VPN_UP)

    assert done.returncode == 0
    assert not worker.file("/run/imgbuild").exists()


def test_a_worker_takes_the_first_name_of_exactly_its_address(worker: Root) -> None:
    worker.run(VPN_UP, ifconfig_local="10.1.1.100")

    done = worker.run(JOIN)

    assert (done.returncode, asked_of(worker)) == (0, "workernode0\n")


def test_a_worker_whose_address_has_no_name_does_not_join(worker: Root) -> None:
    worker.run(VPN_UP, ifconfig_local="10.1.1.200")

    done = worker.run(JOIN)

    assert (done.returncode, asked_of(worker)) == (1, "")
    assert done.stderr.endswith("has no name for 10.1.1.200\n")


def test_a_worker_waits_until_it_has_an_address(worker: Root) -> None:
    worker.file("/run/imgbuild").mkdir()
    worker.install("sleep", f"echo 10.1.1.101 > {worker.file('/run/imgbuild/vpn-address')}")

    done = worker.run(JOIN)

    assert (done.returncode, asked_of(worker)) == (0, "workernode1\n")


# note-worker

NOTE_WORKER = "openvpn-server/rootfs/usr/lib/imgbuild/note-worker"
CONNECT = {
    "script_type": "client-connect",
    "ifconfig_pool_remote_ip": "10.1.1.100",
    "ifconfig_pool_netmask": "255.255.255.0",
    "trusted_port": "4711",
}
DISCONNECT = {**CONNECT, "script_type": "client-disconnect"}
AGAIN = {**CONNECT, "ifconfig_pool_remote_ip": "10.1.1.101", "trusted_port": "4712"}
FROM_ONE, FROM_OTHER = {"IV_HWADDR": "0a:00:00:00:00:01"}, {"trusted_ip": "75.101.155.97"}


@pytest.fixture
def server(root: Root) -> Root:
    """A server that knows two workers' names, and whose Grid Engine writes down what it is asked to change."""
    hosts = root.file("/etc/hosts")
    hosts.write_text(f"10.1.1.99\toneserver\n{RESERVED}")
    found = '$1 == key || $2 == key { print $1 "      " $2 " alias"; ok = 1 } END { exit !ok }'
    root.install("getent", f"""awk -v key="$2" '{found}' {hosts}""")
    root.install("sleep", ":")
    root.install("qstat", ":")
    root.install(
        "qconf",
        f"""case $1 in
        -shgrp_resolved) cat {root.directory}/members ;;
        -sel) echo oneserver; echo workernode0 ;;
        -sconf) echo configuration ;;
        *) echo "$*" >> {root.directory}/asked ;;
        esac""",
    )
    (root.directory / "members").write_text("local01\n")
    return root


def notes_of(server: Root) -> dict[str, str]:
    return {note.name: note.read_text() for note in server.file("/run/imgbuild/workers").iterdir()}


@pytest.mark.parametrize(
    ("client", "machine"),
    [
        pytest.param(FROM_ONE, "0a:00:00:00:00:01", id="by its MAC address"),
        pytest.param(FROM_OTHER, "75.101.155.97:4711", id="by where it comes from"),
    ],
)
def test_a_worker_that_connects_is_noted_by_name_and_machine(
    client: dict[str, str], machine: str, server: Root
) -> None:
    done = server.run(NOTE_WORKER, **CONNECT, **client)

    assert done.returncode == 0
    assert notes_of(server) == {"workernode0": f"here {machine}\n"}
    assert server.file("/run/imgbuild/workers-changed").exists()


def instances_of(server: Root) -> dict[str, str]:
    return {note.name: note.read_text() for note in server.file("/run/imgbuild/instances").iterdir()}


@pytest.mark.parametrize("instance", ["i-0123abcd", INSTANCE])
def test_the_instance_that_a_worker_says_it_is_is_noted(instance: str, server: Root) -> None:
    done = server.run(NOTE_WORKER, **CONNECT, **FROM_ONE, UV_INSTANCE=instance)

    assert done.returncode == 0
    assert instances_of(server) == {"workernode0": f"{instance}\n"}


@pytest.mark.parametrize(
    "said",
    [
        *(
            "",
            "i-",
            "i-0123abc",
            "i-0123456789abcdef",
            "i-0123456789abcdef01",
            "I-0123abcd",
            "i-0123ABCD",
            "xi-0123abcd",
        ),
        *("i-0123abcd ", "i-0123abcd\ni-0123abcd", "i-../../../etc", "$(reboot)", "i-\x1b[2J1234", "i-ééééabcd"),
    ],
)
def test_what_is_no_id_of_an_instance_is_not_noted_and_takes_the_place_of_none(said: str, server: Root) -> None:
    server.run(NOTE_WORKER, **CONNECT, **FROM_ONE, UV_INSTANCE=INSTANCE)

    done = server.run(NOTE_WORKER, **{**CONNECT, "trusted_port": "4712"}, **FROM_ONE, UV_INSTANCE=said)

    assert done.returncode == 0
    assert instances_of(server) == {}
    assert list(notes_of(server)) == ["workernode0"]


def test_a_vpn_server_that_starts_knows_no_instance(server: Root) -> None:
    server.run(NOTE_WORKER, **CONNECT, **FROM_ONE, UV_INSTANCE=INSTANCE)

    server.run(NOTE_WORKER, script_type="up")

    assert instances_of(server) == {}


def test_a_worker_that_disconnects_is_noted_as_gone_in_a_while(server: Root) -> None:
    server.run(NOTE_WORKER, **CONNECT, **FROM_ONE)

    done = server.run(NOTE_WORKER, **DISCONNECT)

    assert done.returncode == 0
    assert list(notes_of(server)) == ["workernode0"]
    assert re.fullmatch(r"gone [0-9]+\n", notes_of(server)["workernode0"])


def test_a_worker_keeps_the_address_that_openvpn_gives_it(server: Root) -> None:
    pushed = server.file("/run/pushed")

    server.run(NOTE_WORKER, pushed, **CONNECT, **FROM_ONE)

    assert not pushed.exists()


def test_a_worker_that_is_back_before_it_was_missed_gets_its_address_again(server: Root) -> None:
    server.run(NOTE_WORKER, **CONNECT, **FROM_ONE)
    pushed = server.file("/run/pushed")

    done = server.run(NOTE_WORKER, pushed, **AGAIN, **FROM_ONE)

    assert done.returncode == 0
    assert pushed.read_text() == "ifconfig-push 10.1.1.100 255.255.255.0\n"
    assert notes_of(server) == {"workernode0": "here 0a:00:00:00:00:01\n"}


def test_the_end_of_a_connection_that_was_replaced_is_no_leave(server: Root) -> None:
    server.run(NOTE_WORKER, **CONNECT, **FROM_ONE)
    server.run(NOTE_WORKER, server.file("/run/pushed"), **AGAIN, **FROM_ONE)

    done = server.run(NOTE_WORKER, **DISCONNECT)

    assert done.returncode == 0
    assert notes_of(server) == {"workernode0": "here 0a:00:00:00:00:01\n"}


def test_a_worker_that_is_back_after_a_restart_of_the_server_gets_its_address_again(server: Root) -> None:
    server.file("/var/lib/imgbuild/workers").mkdir()
    server.file("/var/lib/imgbuild/workers/workernode1").write_text("0a:00:00:00:00:01\n")
    server.run(NOTE_WORKER, script_type="up")
    pushed = server.file("/run/pushed")

    server.run(NOTE_WORKER, pushed, **CONNECT, **FROM_ONE)

    assert pushed.read_text() == "ifconfig-push 10.1.1.101 255.255.255.0\n"
    assert notes_of(server) == {"workernode1": "here 0a:00:00:00:00:01\n"}


def test_nobody_gets_the_address_of_a_worker_that_is_there(server: Root) -> None:
    server.run(NOTE_WORKER, **CONNECT, **FROM_ONE)
    pushed = server.file("/run/pushed")

    server.run(NOTE_WORKER, pushed, **{**CONNECT, "trusted_port": "4713"}, **FROM_OTHER)

    assert pushed.read_text() == "ifconfig-push 10.1.1.101 255.255.255.0\n"
    assert notes_of(server) == {
        "workernode0": "here 0a:00:00:00:00:01\n",
        "workernode1": "here 75.101.155.97:4713\n",
    }


def test_a_worker_is_refused_if_every_name_is_taken(server: Root) -> None:
    server.run(NOTE_WORKER, **CONNECT, **FROM_ONE)
    server.run(NOTE_WORKER, **{**CONNECT, "ifconfig_pool_remote_ip": "10.1.1.101", "trusted_port": "4713"})

    done = server.run(NOTE_WORKER, server.file("/run/pushed"), **{**AGAIN, "trusted_port": "4714"})

    assert done.returncode != 0
    assert sorted(notes_of(server)) == ["workernode0", "workernode1"]


def test_a_worker_without_a_name_is_refused(server: Root) -> None:
    done = server.run(NOTE_WORKER, **{**CONNECT, "ifconfig_pool_remote_ip": "10.1.1.200"}, **FROM_ONE)

    assert done.returncode != 0
    assert notes_of(server) == {}


def test_a_vpn_server_that_starts_knows_nobody(server: Root) -> None:
    server.run(NOTE_WORKER, **CONNECT, **FROM_ONE)

    done = server.run(NOTE_WORKER, script_type="up")

    assert done.returncode == 0
    assert notes_of(server) == {}


# gridengine-members

MEMBERS = "gridengine-qmaster/rootfs/usr/lib/imgbuild/gridengine-members"


def known_to(server: Root) -> dict[str, str]:
    return {file.name: file.read_text() for file in server.file("/var/lib/imgbuild/workers").iterdir()}


def test_a_worker_that_is_there_joins_the_host_group(server: Root) -> None:
    server.run(NOTE_WORKER, **CONNECT, **FROM_ONE)

    done = server.run(MEMBERS)

    assert done.returncode == 0
    assert "-aattr hostgroup hostlist workernode0 @allhosts\n" in asked_of(server)
    assert known_to(server) == {"workernode0": "0a:00:00:00:00:01\n"}


def test_a_worker_that_is_in_the_host_group_already_is_left_alone(server: Root) -> None:
    server.run(NOTE_WORKER, **CONNECT, **FROM_ONE)
    server.run(MEMBERS)
    (server.directory / "asked").unlink()
    (server.directory / "members").write_text("local01 workernode0\n")

    server.run(MEMBERS)

    assert "-aattr" not in asked_of(server)
    assert "-dattr" not in asked_of(server)


def test_a_worker_that_is_gone_is_no_execution_host_any_more(server: Root) -> None:
    server.run(NOTE_WORKER, **CONNECT, **FROM_ONE)
    server.run(MEMBERS)
    (server.directory / "asked").unlink()
    server.file("/run/imgbuild/workers/workernode0").write_text("gone 0\n")

    done = server.run(MEMBERS)

    assert done.returncode == 0
    assert asked_of(server).splitlines()[:2] == ["-dattr hostgroup hostlist workernode0 @allhosts", "-de workernode0"]
    assert known_to(server) == {}


def test_another_machine_under_the_name_of_one_takes_over_only_after_that_one_has_left(server: Root) -> None:
    server.run(NOTE_WORKER, **CONNECT, **FROM_ONE)
    server.run(MEMBERS)
    (server.directory / "asked").unlink()
    server.run(NOTE_WORKER, **DISCONNECT)
    server.run(NOTE_WORKER, **CONNECT, **FROM_OTHER)

    server.run(MEMBERS)

    assert [line.split()[0] for line in asked_of(server).splitlines()[:3]] == ["-dattr", "-de", "-aattr"]
    assert known_to(server) == {"workernode0": "75.101.155.97:4711\n"}
