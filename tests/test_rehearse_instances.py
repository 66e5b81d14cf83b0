"""What makes the workers of a rehearsal instances of EC2."""

from pathlib import Path

import pytest

from imagebuilder.rehearse.instances import (
    LOGIN_KEY,
    firmware_options,
    identity_of,
    metadata,
    prepare_instances,
)
from imagebuilder.rehearse.metadata_service import lookup
from imagebuilder.rehearse.topology import Topology, make_topology
from tests.machines import shipped_site

KEY = "ssh-ed25519 AAAA of-the-account"


@pytest.fixture
def topology() -> Topology:
    site = shipped_site()
    hosts = [machine for machine in site.machines() if machine.host is not None]
    return make_topology(site, hosts, workers=2)


def test_the_firmware_of_a_worker_says_that_it_is_an_instance(topology: Topology) -> None:
    options = list(firmware_options(topology.workers[0]))

    identity = identity_of("worker-1")
    assert identity.uuid.startswith("ec2")
    assert options == [
        "-smbios",
        f"type=1,manufacturer=Amazon EC2,product=t3.small,uuid={identity.uuid},serial={identity.uuid}",
        "-smbios",
        f"type=2,manufacturer=Amazon EC2,asset={identity.instance_id}",
    ]


def test_the_firmware_of_a_host_says_nothing_of_the_kind(topology: Topology) -> None:
    assert list(firmware_options(topology.hosts[0])) == []


def test_each_launch_of_each_worker_is_another_instance() -> None:
    identities = {identity_of("worker-1"), identity_of("worker-2"), identity_of("worker-1", "again")}

    assert len({one.instance_id for one in identities}) == 3
    assert identity_of("worker-1") in identities


def test_each_worker_is_told_who_it_is_and_the_key_of_the_account(topology: Topology) -> None:
    told = metadata(topology, KEY)

    addresses = [topology.public_address(plan) for plan in topology.workers]
    assert list(told) == addresses
    assert lookup(told["147.96.1.253"], ["meta-data", "instance-id"]) == identity_of("worker-1").instance_id
    assert lookup(told["147.96.1.252"], ["meta-data", "instance-id"]) == identity_of("worker-2").instance_id
    assert lookup(told["147.96.1.252"], ["meta-data", "public-keys", "0", "openssh-key"]) == KEY


def test_the_key_pair_is_new_and_for_its_owner_only(topology: Topology, tmp_path: Path) -> None:
    prepare_instances(topology, tmp_path, log=tmp_path / "log")

    assert (tmp_path / LOGIN_KEY).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / f"{LOGIN_KEY}.pub").read_text().split()[1] in (tmp_path / "metadata.json").read_text()
