from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from imagebuilder.errors import Fault
from imagebuilder.recipe.address_plan import make_cluster
from imagebuilder.recipe.cluster import Cluster, ClusterRecipe, expand_names, fold_names, is_host_name, pool_bounds
from imagebuilder.recipe.model import validate_source
from imagebuilder.recipe.source import read_source

CLUSTER = """\
name: "demo"
networks:
  private: {subnet: "10.1.1.0/24", bridge: "xenbr0"}
  public: {subnet: "147.96.1.0/24", gateway: "147.96.1.1", bridge: "xenbr1"}
server: "head"
hosts:
  head: {role: server, addresses: {private: "10.1.1.99", public: "147.96.1.100"}}
  "local[08-11]": {role: node, addresses: {private: "10.1.1.[55-58]"}}
workers: {names: "cloud[0-2]"}
vpn: {pool: "10.1.1.100-10.1.1.102"}
nis: {domain: "demo.nis"}
exports: {"/home": {}, "/var/lib/gridengine/default": {}}
"""
USERS = CLUSTER + "users:\n  ada:\n    uid: 2000\n"
HASH = "$y$j9T$rVz1T3pQeQ0dYxUeqQ0Wq1$8t5RWBpKqBkWTBuyzS0wfZ1nEBqv3BPjAu9XLPGx0K6"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


def plan_of(
    directory: Path, text: str, roles: Iterable[str] = ("server", "node", "worker")
) -> tuple[Cluster | None, list[Fault]]:
    file = directory / "cluster.yaml"
    file.write_text(text, encoding="utf-8")
    source, faults = read_source(file)
    assert source is not None
    recipe, found = validate_source(source, ClusterRecipe)
    if recipe is None:
        return None, [*faults, *found]
    cluster, contradictions = make_cluster(recipe, source, roles)
    return cluster, [*faults, *found, *contradictions]


def cluster_of(directory: Path, text: str) -> Cluster:
    cluster, faults = plan_of(directory, text)
    assert faults == []
    assert cluster is not None
    return cluster


def said_of(directory: Path, text: str, roles: Iterable[str] = ("server", "node", "worker")) -> list[str]:
    return [f"{fault.place.line}:{fault.place.column}: {fault.what}" for fault in plan_of(directory, text, roles)[1]]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("head", ["head"]),
        ("local[08-11]", ["local08", "local09", "local10", "local11"]),
        ("local[8-11]", ["local8", "local9", "local10", "local11"]),
        ("local[1,3-4]", ["local1", "local3", "local4"]),
        ("n[0-4/2]", ["n0", "n2", "n4"]),
        ("rack[1-2]node[1-2]", ["rack1node1", "rack1node2", "rack2node1", "rack2node2"]),
        ("10.1.1.[9-11]", ["10.1.1.9", "10.1.1.10", "10.1.1.11"]),
        ("zoe,ada,n[1-2]", ["zoe", "ada", "n1", "n2"]),
        ("10.1.1.[55-56],10.1.1.40", ["10.1.1.55", "10.1.1.56", "10.1.1.40"]),
    ],
)
def test_a_pattern_stands_for_names_in_the_order_written(pattern: str, names: list[str]) -> None:
    expanded = expand_names(pattern)

    assert list(expanded) == names


@pytest.mark.parametrize(
    "pattern",
    [
        *("", ",", "a,", "a,,b", "a[1-2", "a]b[", "a[]", "a[x]", "a[1--2]", "a[1-2][3-4]", "a[01-3]", "a[1-2/0]"),
        *("@all", "a*", "a?", "a!b", "a&b", "a^b", "a b", "a%b", "a\nb"),
        *("a[3-1]", "10.1.1.[55,40]", "a[1-3,2-5]", "a,a", "n[1-2],n[2-3]"),
        *("a[1-5000]", "a[1-99999999]", "a[1-9999999999]", "a[0,99999999]", "a[1-900]b[1-900]c[1-900]"),
        "a[" + "1" * 5000 + "]",
    ],
)
def test_a_pattern_that_is_unclear_or_without_end_is_refused_at_once(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"is no name|do not ascend|twice|stands for|digits"):
        expand_names(pattern)


def test_names_fold_into_the_pattern_that_they_came_from() -> None:
    folded = fold_names(expand_names("local[08-11]"))

    assert folded == "local[08-11]"
    assert fold_names([IPv4Address("10.1.1.55"), IPv4Address("10.1.1.56")]) == "10.1.1.[55-56]"


@pytest.mark.parametrize("name", ["a", "0", "node-1", "n" * 63])
def test_host_names(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "A", "a.b", "n" * 64, "é", "a\n"])
def test_no_host_names(name: str) -> None:
    assert not is_host_name(name)


def test_each_host_of_a_range_gets_its_own_address(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, CLUSTER)

    addresses = {host.name: str(host.addresses["private"]) for host in cluster.nodes}
    assert addresses == {
        "local08": "10.1.1.55",
        "local09": "10.1.1.56",
        "local10": "10.1.1.57",
        "local11": "10.1.1.58",
    }
    assert {host.role for host in cluster.nodes} == {"node"}


def test_addresses_are_given_in_the_order_written(tmp_path: Path) -> None:
    text = CLUSTER.replace('"local[08-11]"', '"zoe,ada"').replace("10.1.1.[55-58]", "10.1.1.58,10.1.1.55")

    cluster = cluster_of(tmp_path, text)

    assert {host.name: str(host.addresses["private"]) for host in cluster.nodes} == {
        "zoe": "10.1.1.58",
        "ada": "10.1.1.55",
    }


def test_workers_get_the_addresses_of_the_pool_in_order(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, CLUSTER)

    assert {name: str(address) for name, address in cluster.workers.items()} == {
        "cloud0": "10.1.1.100",
        "cloud1": "10.1.1.101",
        "cloud2": "10.1.1.102",
    }
    assert pool_bounds(cluster.recipe) == (IPv4Address("10.1.1.100"), IPv4Address("10.1.1.102"))


def test_the_plan_knows_the_server_and_its_networks(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, CLUSTER)

    assert cluster.server.name == "head"
    assert cluster.server.addresses["public"] == IPv4Address("147.96.1.100")
    assert cluster.private.subnet == IPv4Network("10.1.1.0/24")
    assert cluster.public.gateway == IPv4Address("147.96.1.1")


def test_the_cell_names_its_directory(tmp_path: Path) -> None:
    text = CLUSTER.replace("gridengine/default", "gridengine/prod") + 'grid_engine: {cell: "prod"}\n'

    cluster = cluster_of(tmp_path, text)

    assert cluster.cell_directory == "/var/lib/gridengine/prod"


def test_one_worker_is_enough(tmp_path: Path) -> None:
    text = CLUSTER.replace("cloud[0-2]", "cloud").replace("10.1.1.100-10.1.1.102", "10.1.1.100 - 10.1.1.100")

    cluster = cluster_of(tmp_path, text)

    assert cluster.workers == {"cloud": IPv4Address("10.1.1.100")}


def test_hosts_and_workers_may_share_a_role(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, CLUSTER.replace("workers: {", "workers: {role: node, "))

    assert cluster.recipe.workers.role == "node"


@pytest.mark.parametrize(
    "password_hash",
    [
        HASH,
        "$6$rounds=5000$Zb0NJ6aMZzn6$" + "x" * 86,
        "$5$Zb0NJ6aMZzn6$" + "x" * 43,
        "$2b$12$" + "x" * 53,
    ],
)
def test_hashes_that_debian_thinks_safe_are_accepted(tmp_path: Path, password_hash: str) -> None:
    cluster = cluster_of(tmp_path, f'{USERS}    password_hash: "{password_hash}"\n')

    kept = cluster.recipe.users["ada"].password_hash
    assert kept is not None
    assert kept.reveal().decode() == password_hash
    assert password_hash not in repr(cluster)


@pytest.mark.parametrize(
    "text",
    ["hunter2", "$y$hunter2", "$1$Zb0NJ6aM$" + "x" * 22, "!" + HASH, HASH + ":0", HASH + "\\n", " " + HASH],
)
def test_what_is_no_such_hash_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    [said] = said_of(tmp_path, f'{USERS}    password_hash: "{text}"\n')

    assert said.startswith("16:20: 'password_hash': this is no hash by yescrypt, bcrypt, SHA-512 or SHA-256;")
    assert text not in said


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        f"{KEY} ada@home, her laptop",
        "ssh-rsa " + "A" * 372,
        "ecdsa-sha2-nistp256 " + "A" * 140,
        "sk-ssh-ed25519@openssh.com " + "A" * 92 + "=",
    ],
)
def test_public_keys_are_accepted(tmp_path: Path, key: str) -> None:
    cluster = cluster_of(tmp_path, f'{USERS}    ssh_keys: ["{key}"]\n')

    assert cluster.recipe.users["ada"].ssh_keys == (key,)


@pytest.mark.parametrize(
    "key", [KEY[12:], f'from=\\"10.0.0.0/8\\" {KEY}', f"{KEY}\\n{KEY}", "ssh-dss " + "A" * 400, ""]
)
def test_what_is_no_public_key_is_refused(tmp_path: Path, key: str) -> None:
    [said] = said_of(tmp_path, f'{USERS}    ssh_keys: ["{key}"]\n')

    assert said == "16:16: item 1 of 'ssh_keys': this is no ssh public key"


@pytest.mark.parametrize("ports", ["1", "22", "65535", "22-25", "22-22"])
def test_ports_are_accepted(tmp_path: Path, ports: str) -> None:
    cluster = cluster_of(tmp_path, f'{CLUSTER}firewall: {{server_ports: ["{ports}"]}}\n')

    assert cluster.recipe.firewall.server_ports == (ports,)


@pytest.mark.parametrize("ports", ["", "0", "022", "65536", "22-", "-22", "25-22", "22:25", "22-70000", "٢٢", "ssh"])
def test_what_is_no_port_is_refused(tmp_path: Path, ports: str) -> None:
    [said] = said_of(tmp_path, f'{CLUSTER}firewall: {{server_ports: ["{ports}"]}}\n')

    assert said == f"13:27: item 1 of 'server_ports': '{ports}' is no port or range of ports"


@pytest.mark.parametrize("path", ["/srv", "/srv/data", "/srv/.data", "/srv/a..b", "/...", "/a.b-c_d"])
def test_absolute_paths_are_accepted(tmp_path: Path, path: str) -> None:
    cluster = cluster_of(tmp_path, CLUSTER.replace('"/home": {}', f'"/home": {{}}, "{path}": {{}}'))

    assert path in cluster.recipe.exports


@pytest.mark.parametrize("path", ["", "/", "srv", "/srv/", "//srv", "/srv/../etc", "/./srv", "/..", "/a b", "/a\\nb"])
def test_what_is_no_absolute_path_is_refused(tmp_path: Path, path: str) -> None:
    [said] = said_of(tmp_path, CLUSTER.replace('"/home": {}', f'"/home": {{}}, "{path}": {{}}'))

    assert said.startswith("12:24: '")
    assert said.endswith("is no absolute path")


@pytest.mark.parametrize("subnet", ["10.1.1.0/31", "10.1.1.0/32", "10.1.1.7/24", "10.1.1/24", "0x0a010100/24"])
def test_what_is_no_network_of_machines_is_refused(tmp_path: Path, subnet: str) -> None:
    [said] = said_of(tmp_path, CLUSTER.replace("10.1.1.0/24", subnet))

    assert said.startswith(f"3:21: 'subnet': '{subnet}' ")


def test_a_netmask_in_dots_is_refused_with_the_prefix_to_write(tmp_path: Path) -> None:
    _, [fault] = plan_of(tmp_path, CLUSTER.replace("10.1.1.0/24", "10.1.1.0/255.255.255.0"))

    assert fault.fix == "write it as 10.1.1.0/24"


def test_a_cluster_without_its_server_is_no_cluster(tmp_path: Path) -> None:
    cluster, [fault] = plan_of(tmp_path, CLUSTER.replace('server: "head"', 'server: "heat"'))

    assert cluster is None
    assert fault.what == "the server 'heat' is not among the hosts. Did you mean 'head'?"


def test_a_contradiction_leaves_a_cluster_for_further_checks(tmp_path: Path) -> None:
    cluster, [fault] = plan_of(tmp_path, CLUSTER.replace("cloud[0-2]", "cloud[0-9]"))

    assert cluster is not None
    assert fault.what == "10 worker names for 3 addresses in the VPN's pool 10.1.1.100-10.1.1.102"
    assert list(cluster.workers) == ["cloud0", "cloud1", "cloud2"]


def test_a_host_with_a_faulty_address_is_no_further_fault(tmp_path: Path) -> None:
    cluster, [fault] = plan_of(tmp_path, CLUSTER.replace("10.1.1.[55-58]", "10.1.1.[255-258]"))

    assert cluster is not None
    assert fault.what == "'private': '10.1.1.[255-258]' is no IPv4 address or range of them"
    assert cluster.nodes == ()


def test_many_hosts_share_one_fault(tmp_path: Path) -> None:
    text = CLUSTER.replace("10.1.1.[55-58]", "10.1.1.[98-101]")

    said = said_of(tmp_path, text)

    assert said == [
        "8:53: the address 10.1.1.99 is taken already, by 'head'",
        "8:53: the address 10.1.1.[100-101] lies in the VPN's pool 10.1.1.100-10.1.1.102",
    ]


def test_the_workers_cannot_have_the_name_of_the_loopback_address(tmp_path: Path) -> None:
    text = CLUSTER.replace("cloud[0-2]", "localhost").replace("100-10.1.1.102", "100-10.1.1.100")

    said = said_of(tmp_path, text)

    assert said == ["9:18: the name 'localhost' is taken already, by the loopback address"]


def test_without_any_role_the_fix_is_to_write_one(tmp_path: Path) -> None:
    _, faults = plan_of(tmp_path, CLUSTER, roles=())

    assert [fault.fix for fault in faults] == [
        "make recipes/server.yaml",
        "make recipes/node.yaml",
        "make recipes/worker.yaml",
    ]
