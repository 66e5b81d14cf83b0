"""The main job on real input: a Debian base by mmdebstrap, and the three images of the shipped recipes."""

import json
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagebuilder.programs import run_program
from tests.command import imgbuild

pytestmark = pytest.mark.whole

_EMULATED = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
# What one image needs to get there by emulation, several times over.
_BOOT_LIMIT_S = 600


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file of an image, as guestfish gives it."""

    mode: str
    owner: str
    text: str
    target: str


Tree = Mapping[str, Member]


def disk_of(site: Path, role: str) -> Path:
    return Path(json.loads(imgbuild(site, "show", role, "--json").out)["path"])


def read_image(disk: Path, scratch: Path) -> Tree:
    """/etc, /usr/lib/imgbuild, /var/yp and /home of an image by guestfish."""
    commands = []
    for directory in ("etc", "usr/lib/imgbuild", "var/yp", "var/spool/gridengine", "home"):
        archive = scratch / f"{disk.parent.name[:8]}-{directory.replace('/', '-')}.tar"
        # The minus sign: an image that lacks the directory is no error.
        commands.append(f"-tar-out /{directory} {archive} numericowner:true\n")
    argv: list[str | Path] = ["guestfish", "--ro", "--format=qcow2", "-a", disk, "-m", "/dev/sda1"]
    run_program(argv, stdin="".join(commands).encode(), environment=_EMULATED, timeout_s=600)
    tree: dict[str, Member] = {}
    for archive in sorted(scratch.glob(f"{disk.parent.name[:8]}-*.tar")):
        top = "/" + archive.stem.partition("-")[2].replace("-", "/")
        tree |= dict(_members(archive, top))
    return tree


def _members(archive: Path, top: str) -> Iterator[tuple[str, Member]]:
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            yield (
                f"{top}/{member.name.removeprefix('./')}",
                Member(
                    mode=f"{member.mode:04o}",
                    owner=f"{member.uid}:{member.gid}",
                    text=content.read().decode(errors="replace") if content else "",
                    target=member.linkname,
                ),
            )


@pytest.fixture(scope="module")
def server(cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return read_image(disk_of(cluster, "server"), tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def node(cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return read_image(disk_of(cluster, "node"), tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def worker(cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return read_image(disk_of(cluster, "worker"), tmp_path_factory.mktemp("worker"))


def enabled(tree: Tree) -> set[str]:
    links = [
        path for path, member in tree.items() if re.search(r"/etc/systemd/system/.*\.wants/", path) and member.target
    ]
    return {path.rpartition("/")[2] for path in links}


def test_the_server_has_its_own_name_and_everybodys(server: Tree) -> None:
    hosts = server["/etc/hosts"].text.split("\n")

    assert server["/etc/hostname"].text == "oneserver\n"
    assert {"10.1.1.99\toneserver", "10.1.1.55\tlocal01", "147.96.1.100\toneserver-public"} < set(hosts)
    assert {"10.1.1.100\tworkernode0", "10.1.1.254\tworkernode154"} < set(hosts)
    assert "127.0.1.1" not in server["/etc/hosts"].text


def test_the_server_bridges_the_private_network_for_the_vpn(server: Tree) -> None:
    text = server["/etc/network/interfaces"].text

    assert "iface br0 inet static\n    address 10.1.1.99/24\n" in text
    assert "bridge_ports eth0 tap0\n" in text
    assert "iface eth1 inet static\n    address 147.96.1.100/24\n" in text


def test_the_server_serves_nis_and_nfs_to_the_private_network_only(server: Tree) -> None:
    assert server["/etc/defaultdomain"].text == "cluster.nis\n"
    assert "255.255.255.0\t10.1.1.0\n" in server["/etc/ypserv.securenets"].text
    assert "0.0.0.0" not in server["/etc/ypserv.securenets"].text.replace("255.0.0.0", "")
    assert server["/etc/exports"].text == (
        "/home\t10.1.1.0/24(rw,sync,no_subtree_check,root_squash)\n"
        "/var/lib/gridengine/default\t10.1.1.0/24(ro,sync,no_subtree_check,root_squash)\n"
    )


def test_the_server_has_the_users_and_their_homes(server: Tree) -> None:
    assert "clouduser:x:2000:2000:Cloud user:/home/clouduser:/bin/bash\n" in server["/etc/passwd"].text
    assert "clouduser:!::0:99999:7:::\n" in server["/etc/shadow"].text
    assert server["/etc/shadow"].mode == "0640"
    assert (server["/home/clouduser"].mode, server["/home/clouduser"].owner) == ("0700", "2000:2000")


def test_the_server_runs_the_vpn(server: Tree) -> None:
    lines = server["/etc/openvpn/server/cluster.conf"].text.splitlines()

    wanted = {
        "local 147.96.1.100",
        "dev tap0",
        "server-bridge 10.1.1.99 255.255.255.0 10.1.1.100 10.1.1.254",
        "duplicate-cn",
        "tls-crypt tls-crypt.key",
        "crl-verify crl.pem",
    }
    assert wanted < set(lines)
    keys = ["/etc/openvpn/server/server.key", "/etc/openvpn/server/tls-crypt.key"]
    assert [(server[key].mode, server[key].owner) for key in keys] == [("0600", "0:0")] * 2
    assert "BEGIN CERTIFICATE" in server["/etc/openvpn/server/ca.crt"].text
    assert [path for path, member in server.items() if "ca.key" in path] == []


def test_the_servers_public_side_answers_only_the_vpn(server: Tree) -> None:
    text = server["/etc/nftables.conf"].text

    assert "udp dport { 1194 } accept" in text
    assert "tcp dport" not in text
    assert re.search(r"hook forward priority filter; policy drop;", text)


def test_each_machine_starts_what_its_role_needs_and_nothing_of_the_others(
    server: Tree, node: Tree, worker: Tree
) -> None:
    of_server = {"ypserv.service", "nfs-server.service", "openvpn-server@cluster.service", "gridengine-master.service"}
    of_both = {"ypbind.service", "gridengine-exec.service", "nftables.service", "networking.service"}

    assert of_server | {"imgbuild-reserve-names.service"} < enabled(server)
    assert of_both < enabled(node)
    assert of_both | {"openvpn-client@cluster.service"} < enabled(worker)
    assert (enabled(node) | enabled(worker)) & of_server == set()
    assert enabled(server) & {"ypbind.service", "gridengine-exec.service"} == set()
    assert (enabled(server) | enabled(node) | enabled(worker)) & {"openvpn.service", "yppasswdd.service"} == set()


def test_node_and_worker_get_users_homes_and_the_cell_from_the_server(node: Tree, worker: Tree) -> None:
    for tree in (node, worker):
        assert tree["/etc/yp.conf"].text == "domain cluster.nis server oneserver\n"
        assert re.search(r"^passwd:\s+files nis", tree["/etc/nsswitch.conf"].text, re.MULTILINE)
        assert "oneserver:/home /home nfs " in tree["/etc/fstab"].text
        assert "oneserver:/var/lib/gridengine/default /var/lib/gridengine/default nfs " in tree["/etc/fstab"].text
        assert "LABEL=cluster-root / ext4" in tree["/etc/fstab"].text
        assert "clouduser" not in tree["/etc/passwd"].text


def test_the_worker_joins_by_the_vpn(worker: Tree) -> None:
    lines = worker["/etc/openvpn/client/cluster.conf"].text.splitlines()

    assert {"remote 147.96.1.100 1194", "dev tap0", "remote-cert-tls server", "tls-crypt tls-crypt.key"} < set(lines)
    assert worker["/etc/openvpn/client/client.key"].mode == "0600"
    assert worker["/usr/lib/imgbuild/join"].mode == "0755"
    assert "iface eth0 inet dhcp\n" in worker["/etc/network/interfaces"].text
    assert "tcp dport { 22-25 } accept" in worker["/etc/nftables.conf"].text


def test_no_image_has_an_identity(server: Tree, node: Tree, worker: Tree) -> None:
    for tree in (server, node, worker):
        assert tree["/etc/machine-id"].text == ""
        assert [path for path in tree if "ssh_host_" in path] == []
        assert re.search(r"^root:[*!]", tree["/etc/shadow"].text, re.MULTILINE)


def test_a_node_boots_to_its_login_prompt_under_its_own_name(cluster: Path, tmp_path: Path) -> None:
    serial = tmp_path / "serial.log"
    serial.touch()
    argv = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1024", "-snapshot"]
    argv += ["-nodefaults", "-display", "none", "-serial", f"file:{serial}"]
    argv += ["-drive", f"file={disk_of(cluster, 'node')},format=qcow2,if=virtio"]
    argv += ["-netdev", "hubport,id=private,hubid=0", "-device", "virtio-net-pci,netdev=private"]

    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as machine:
        said = wait_for("local01 login: ", serial)
        machine.terminate()

    assert "local01 login: " in said
    assert re.findall(r"FAILED.*|ordering cycle.*", said) == []


def wait_for(text: str, serial: Path) -> str:
    end = time.monotonic() + _BOOT_LIMIT_S
    while text not in (said := serial.read_text(errors="replace")) and time.monotonic() < end:
        time.sleep(0.5)
    return said
