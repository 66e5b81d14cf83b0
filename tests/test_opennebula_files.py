"""The files for OpenNebula: golden sets of three generations, and what changes them."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.edits.interfaces import Interfaces
from imagebuilder.opennebula.guest import guest_template, image_template
from imagebuilder.opennebula.lint import guess_kind, lint_text
from imagebuilder.opennebula.networks import network_template
from imagebuilder.opennebula.parser import parse_template
from imagebuilder.opennebula.release import RELEASES, Generation
from imagebuilder.opennebula.template import Template, write_template
from imagebuilder.recipe.xen import XenDomain
from tests.machines import shipped_site
from tests.one_files import AMI, cluster_with, files_of, guest
from tests.update_golden import GOLDEN, read_tree

EACH_RELEASE = pytest.mark.parametrize("generation", list(RELEASES))


def read(text: str, generation: Generation) -> Template:
    template, _ = parse_template(text, Path("x.template"), RELEASES[generation].dialect)
    return template


@EACH_RELEASE
def test_a_release_gets_what_its_golden_files_have(generation: Generation) -> None:
    files = files_of(generation)

    # If this is meant to be so: `python -m tests.update_golden`, and read the difference.
    assert files == read_tree(GOLDEN / "opennebula" / generation)


@EACH_RELEASE
def test_the_linter_finds_nothing_in_what_is_written(generation: Generation) -> None:
    release = RELEASES[generation]
    templates = {name: text for name, text in files_of(generation).items() if name != "hosts.sh"}

    faults = [
        str(fault)
        for name, text in templates.items()
        for fault in lint_text(text, Path(name), kind=guess_kind(Path(name), Template(attributes=())), release=release)
    ]

    assert faults == []


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@EACH_RELEASE
def test_shellcheck_finds_nothing_in_the_script_for_the_hosts(generation: Generation) -> None:
    cluster = cluster_with(opennebula={"hosts": ("xen[01-02]",)}, ec2={"keypair": "my 'key'"})
    script = files_of(generation, cluster=cluster)["hosts.sh"]

    done = subprocess.run(["shellcheck", "-"], input=script, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_each_machine_asks_for_an_address_that_only_it_can_be_leased() -> None:
    files = files_of("7")

    ranges = read(files["squirrel-private.net"], "7").vectors("AR")
    nics = [read(files[f"{name}.template"], "7").vectors("NIC")[0] for name in ("oneserver", "local01")]
    assert [(one.get("IP"), one.get("SIZE")) for one in ranges] == [("10.1.1.99", "1"), ("10.1.1.55", "1")]
    assert [nic.get("IP") for nic in nics] == ["10.1.1.99", "10.1.1.55"]


def test_an_interface_that_asks_the_network_for_its_address_has_a_lease_by_its_mac_address() -> None:
    one = guest("local01")
    asks = Interfaces.model_validate({"devices": {"eth0": {"network": "public", "method": "dhcp"}}})
    asking = replace(one, interfaces=asks)
    recipe = shipped_site().cluster.recipe

    [leased] = network_template("public", recipe, [asking], RELEASES["7"]).vectors("AR")
    [nic] = guest_template(asking, RELEASES["7"]).vectors("NIC")

    assert (leased.get("TYPE"), leased.get("IP"), leased.get("MAC")) == ("ETHER", None, "00:16:3e:03:90:41")
    assert (nic.get("IP"), nic.get("MAC")) == (None, "00:16:3e:03:90:41")


def test_the_mac_addresses_are_those_of_the_xl_configuration() -> None:
    nics = read(files_of("1")["local01.template"], "1").vectors("NIC")

    assert [nic.get("MAC") for nic in nics] == ["00:16:3e:03:90:41"]


def test_the_ports_of_2008_are_written_for_the_tutorial_and_for_the_driver() -> None:
    [ec2] = read(files_of("1")["worker.template"], "1").vectors("EC2")

    assert (ec2.get("AMI"), ec2.get("AUTHORIZED_PORTS"), ec2.get("AUTHORIZEDPORTS")) == (AMI.ami, "22-25", "22-25")


def test_an_elastic_address_and_security_groups_are_written_if_the_cluster_has_them() -> None:
    cluster = cluster_with(ec2={"elastic_ip": "75.101.155.97", "security_groups": ("grid", "ssh")})

    [cloud] = read(files_of("5", cluster=cluster)["worker.template"], "5").vectors("PUBLIC_CLOUD")

    assert (cloud.get("ELASTICIP"), cloud.get("SECURITYGROUPS")) == ("75.101.155.97", "grid, ssh")


def test_workers_have_no_template_without_an_ami_while_they_are_instances() -> None:
    files = [files_of("1", ami=None), files_of("5", ami=None), files_of("7", ami=None)]

    assert ["worker.template" in one for one in files] == [False, False, True]


def test_an_ami_of_an_older_build_is_said_to_be_one() -> None:
    text = files_of("5", ami=replace(AMI, is_current=False))["worker.template"]

    assert "The workers' image was built anew since" in text


def test_a_cluster_without_a_key_pair_leaves_it_to_the_driver_and_says_so() -> None:
    text = files_of("1", cluster=cluster_with(ec2={"keypair": None}))["worker.template"]

    assert "KEYPAIR" not in text
    assert "names no key pair" in text


def test_a_thin_image_is_said_to_be_of_no_use_without_its_base() -> None:
    thin = guest("local01", format="qcow2").image

    text = write_template(image_template(thin, shipped_site().cluster.recipe, RELEASES["7"], persistent=False))

    assert "imgbuild build --format raw" in text
    assert 'FORMAT     = "qcow2"' in text


def test_only_the_servers_image_keeps_what_is_written_to_it() -> None:
    files = files_of("7")

    kept = {name: read(text, "7").get("PERSISTENT") for name, text in files.items() if name.endswith(".image")}

    assert kept == {"oneserver.image": "YES", "local01.image": "NO", "worker.image": "NO"}


def test_a_fully_virtual_guest_of_2008_boots_its_disk_by_itself() -> None:
    [boot] = guest_template(guest("local01", domain=XenDomain(type="hvm")), RELEASES["1"]).vectors("OS")

    assert (boot.get("BOOT"), boot.get("BOOTLOADER")) == ("hd", None)


def test_a_site_chooses_the_screens_the_hosts_the_datastore_and_the_key() -> None:
    key = "ssh-ed25519 " + "A" * 68
    own = {
        "screens": "none",
        "ssh_key": f"{key} ana@$home",
        "ec2_host": "amazon",
        "datastore": "fast",
        "hosts": ("kvm[1-2]",),
    }

    files = files_of("5", cluster=cluster_with(opennebula=own))

    local = read(_guest_text(own), "7")
    assert (local.vectors("GRAPHICS"), local.vectors("CONTEXT")[0].get("SSH_PUBLIC_KEY")) == ((), key)
    assert read(files["worker.template"], "5").get("SCHED_REQUIREMENTS") == 'NAME = "amazon"'
    assert "onehost create kvm2 --im kvm --vm kvm\n" in files["hosts.sh"]
    assert "oneimage create --datastore fast local01.image\n" in files["hosts.sh"]


def _guest_text(own: Mapping[str, object]) -> str:
    one = guest("local01")
    cluster = cluster_with(opennebula=own)
    return write_template(guest_template(replace(one, machine=replace(one.machine, cluster=cluster)), RELEASES["7"]))
