import shutil
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from imagebuilder.errors import UsageError
from imagebuilder.plan.check import Instance
from imagebuilder.rehearse.outcome import Attachment
from imagebuilder.rehearse.topology import Topology, make_topology
from imagebuilder.site import Site, load_site
from tests.machines import PROJECT, machine_of, shipped_site

PUBLIC = 'public:\n    subnet: "147.96.1.0/24"'
# The server has 147.96.1.100.
FOURTEEN_ADDRESSES = 'public:\n    subnet: "147.96.1.96/28"'
SIX_ADDRESSES = 'public:\n    subnet: "147.96.1.96/29"'


def topology_of(site: Site, *, hosts: Sequence[str] = ("oneserver", "local01"), workers: int = 3) -> Topology:
    return make_topology(site, [machine_of(site, name) for name in hosts], workers)


def site_in(directory: Path, *, public: str) -> Site:
    """The site of this project on another public network."""
    shutil.copytree(PROJECT / "recipes", directory / "recipes")
    recipe = directory / "recipes/cluster.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace(PUBLIC, public), encoding="utf-8")
    return load_site(directory)


def test_guests_are_the_hosts_and_then_the_workers_by_number() -> None:
    topology = topology_of(shipped_site())

    assert [guest.label for guest in topology.guests] == ["oneserver", "local01", "worker-1", "worker-2", "worker-3"]


def test_a_host_knows_who_it_is_and_a_worker_only_what_it_was_built_as() -> None:
    topology = topology_of(shipped_site())

    assert topology.hosts[1].instance == Instance(name="local01", address=IPv4Address("10.1.1.55"))
    assert topology.workers[0].instance == Instance(name="worker", address=None)


def test_interfaces_are_in_the_order_of_their_names_as_the_kernel_gives_them() -> None:
    server = topology_of(shipped_site()).hosts[0]

    assert [(one.device, one.network, one.address) for one in server.attachments] == [
        ("eth0", "private", "10.1.1.99"),
        ("eth1", "public", "147.96.1.100"),
    ]


def test_a_worker_is_on_the_public_network_only_and_asks_for_its_address() -> None:
    worker = topology_of(shipped_site()).workers[0]

    assert [(one.device, one.network, one.address) for one in worker.attachments] == [("eth0", "public", None)]


def test_memory_is_what_xen_would_give_and_a_gibibyte_for_a_worker() -> None:
    topology = topology_of(shipped_site())

    assert [guest.memory_mib for guest in topology.guests] == [1024] * 5


def test_no_two_interfaces_of_the_largest_rehearsal_have_the_same_mac_address() -> None:
    topology = topology_of(shipped_site(), workers=65)

    addresses = [one.mac for guest in topology.guests for one in guest.attachments]

    assert len(set(addresses)) == len(addresses) == 68


def test_mac_addresses_are_the_same_in_every_rehearsal() -> None:
    few, many = topology_of(shipped_site(), workers=1), topology_of(shipped_site(), workers=9)

    assert few.hosts == many.hosts
    assert few.workers == many.workers[:1]


def test_who_asks_is_given_an_address_from_the_end_of_the_public_network() -> None:
    topology = topology_of(shipped_site())

    assert [str(lease.address) for lease in topology.leases] == ["147.96.1.253", "147.96.1.252", "147.96.1.251"]
    assert [lease.mac for lease in topology.leases] == [worker.attachments[0].mac for worker in topology.workers]


def test_the_stranger_has_a_free_address_where_there_is_no_gateway() -> None:
    topology = topology_of(shipped_site())

    assert topology.stranger == IPv4Address("147.96.1.254")


def test_the_stranger_is_the_gateway_where_there_is_one(tmp_path: Path) -> None:
    site = site_in(tmp_path, public=f'{PUBLIC}\n    gateway: "147.96.1.1"')

    topology = topology_of(site)

    assert topology.stranger == IPv4Address("147.96.1.1")
    assert str(topology.leases[0].address) == "147.96.1.254"


def test_addresses_that_somebody_has_are_not_given_away(tmp_path: Path) -> None:
    site = site_in(tmp_path, public=f'{FOURTEEN_ADDRESSES}\n    gateway: "147.96.1.110"')

    topology = topology_of(site, workers=12)

    given = {str(lease.address) for lease in topology.leases}
    assert len(given) == 12
    assert given.isdisjoint({"147.96.1.96", "147.96.1.100", "147.96.1.110", "147.96.1.111"})


def test_a_public_network_that_is_too_small_is_wrong_usage_and_says_what_to_do(tmp_path: Path) -> None:
    site = site_in(tmp_path, public=SIX_ADDRESSES)

    with pytest.raises(UsageError) as raised:
        topology_of(site, workers=5)

    assert str(raised.value) == (
        "the public network 147.96.1.96/29 has no free address for 5 workers\n"
        "  fix: rehearse fewer with --workers, or widen networks.public.subnet in cluster.yaml"
    )


def test_an_address_is_a_guest_s_own_or_the_one_that_it_will_be_given() -> None:
    topology = topology_of(shipped_site())
    server, node, worker = topology.hosts[0], topology.hosts[1], topology.workers[0]

    addresses = [topology.public_address(guest) for guest in (server, node, worker)]

    assert addresses == ["147.96.1.100", None, "147.96.1.253"]


def test_a_lease_fills_in_the_address_and_nothing_else() -> None:
    topology = topology_of(shipped_site())
    [asked] = topology.workers[0].attachments

    given = topology.with_lease(asked)

    assert given == Attachment(device="eth0", network="public", mac=asked.mac, address="147.96.1.253")


def test_one_guest_can_be_all_alone() -> None:
    node, worker = (
        topology_of(shipped_site(), hosts=["local01"], workers=0),
        topology_of(shipped_site(), hosts=[], workers=1),
    )

    assert [guest.label for guest in node.guests] == ["local01"]
    assert [guest.label for guest in worker.guests] == ["worker-1"]
