from pathlib import Path

import pytest

from imagebuilder.edits.edit import Machine
from imagebuilder.edits.interfaces import Interfaces
from imagebuilder.recipe.cluster import Cluster, Host
from imagebuilder.recipe.xen import XenDomain
from imagebuilder.xen.configuration import configuration_text
from imagebuilder.xen.domain import BootFiles, make_domain, network_interfaces
from tests.machines import machine_of, shipped_site

DISK = Path("/srv/store/images/node/local01/key/disk.qcow2")
ONE = Interfaces.model_validate({"devices": {"eth0": {"network": "private"}}})
BOOT_FILES = BootFiles(
    kernel=Path("/boot/vmlinuz"), ramdisk=Path("/boot/initrd.img"), options=("root=LABEL=root", "ro", "console=ttyS0")
)
TWO = Interfaces.model_validate(
    {"devices": {"eth1": {"network": "public"}, "eth0": {"network": "private", "bridge": "br0"}}}
)


def machine(name: str = "local01", *, cluster_name: str = "squirrel") -> Machine:
    known = machine_of(shipped_site(), "local01").cluster
    recipe = known.recipe.model_copy(update={"name": cluster_name})
    cluster = Cluster(recipe=recipe, hosts=known.hosts, workers=known.workers)
    return Machine(name=name, role="node", cluster=cluster, host=Host(name=name, role="node", addresses={}))


def configuration(
    *, domain: XenDomain | None = None, interfaces: Interfaces | None = ONE, disk: Path = DISK
) -> list[str]:
    made = make_domain(
        machine(), domain or XenDomain(), interfaces, disk=disk, disk_format="qcow2", boot_files=BOOT_FILES
    )
    return configuration_text(made).splitlines()


def test_a_paravirtual_guest_boots_by_pygrub_from_its_image() -> None:
    domain = make_domain(machine(), XenDomain(memory_mib=1700), ONE, disk=DISK, disk_format="qcow2")

    assert configuration_text(domain) == (
        "# local01, role node, of the cluster squirrel; xl.cfg(5)\n"
        'name = "local01"\n'
        'uuid = "7eb11117-5c1f-5749-9e66-67c52a950287"\n'
        'type = "pv"\n'
        "vcpus = 1\n"
        "memory = 1700\n"
        "maxmem = 1700\n"
        'bootloader = "pygrub"\n'
        "disk = [ 'format=qcow2,vdev=xvda,access=rw,target=/srv/store/images/node/local01/key/disk.qcow2' ]\n"
        "vif = [ 'mac=00:16:3e:03:90:41,bridge=xenbr0' ]\n"
        'on_poweroff = "destroy"\n'
        'on_reboot = "restart"\n'
        'on_crash = "destroy"\n'
    )


@pytest.mark.parametrize(
    ("domain", "lines"),
    [
        pytest.param(XenDomain(type="pvh"), ['type = "pvh"', 'bootloader = "pygrub"'], id="pvh by pygrub"),
        pytest.param(
            XenDomain(type="pv", boot="pvgrub"),
            ['type = "pv"', 'kernel = "/usr/lib/grub-xen/grub-x86_64-xen.bin"'],
            id="pv by pvgrub",
        ),
        pytest.param(
            XenDomain(type="pvh", boot="pvgrub"),
            ['type = "pvh"', 'kernel = "/usr/lib/grub-xen/grub-i386-xen_pvh.bin"'],
            id="pvh by pvgrub",
        ),
        pytest.param(
            XenDomain(type="pv", boot="pygrub", extra="quiet fsck.mode=skip"),
            ['type = "pv"', 'bootloader = "pygrub"', 'extra = "quiet fsck.mode=skip"'],
            id="pygrub with options",
        ),
        pytest.param(
            XenDomain(type="pvh", boot="kernel", extra="quiet"),
            [
                'type = "pvh"',
                'kernel = "/boot/vmlinuz"',
                'ramdisk = "/boot/initrd.img"',
                'cmdline = "root=LABEL=root ro console=ttyS0 console=hvc0 quiet"',
            ],
            id="a kernel of dom0",
        ),
        pytest.param(
            XenDomain(type="hvm"),
            ['type = "hvm"', 'boot = "c"', 'serial = "pty"', "vnc = 1", 'vnclisten = "127.0.0.1"'],
            id="hvm",
        ),
        pytest.param(
            XenDomain(type="hvm", boot="kernel", vnc=False),
            [
                'type = "hvm"',
                'kernel = "/boot/vmlinuz"',
                'ramdisk = "/boot/initrd.img"',
                'cmdline = "root=LABEL=root ro console=ttyS0"',
                'serial = "pty"',
                "vnc = 0",
            ],
            id="hvm with a kernel of dom0 and without a screen",
        ),
    ],
)
def test_each_type_of_guest_boots_in_its_own_way(domain: XenDomain, lines: list[str]) -> None:
    ways = ("type", "bootloader", "kernel", "ramdisk", "cmdline", "extra", "boot ", "serial", "vnc")

    found = [line for line in configuration(domain=domain) if line.startswith(ways)]

    assert found == lines


def test_interfaces_come_in_the_order_of_their_names_each_on_the_bridge_of_its_network() -> None:
    found = network_interfaces(machine(), TWO)

    assert [interface.bridge for interface in found] == ["xenbr0", "xenbr1"]
    assert len({interface.mac for interface in found}) == 2


def test_a_fully_virtual_guest_sees_each_interface_once() -> None:
    [line] = [line for line in configuration(domain=XenDomain(type="hvm"), interfaces=TWO) if line.startswith("vif")]

    assert line.count(",type=vif'") == 2


def test_the_disk_of_a_fully_virtual_guest_is_one_that_its_bios_sees() -> None:
    [line] = [line for line in configuration(domain=XenDomain(type="hvm")) if line.startswith("disk")]

    assert "vdev=hda," in line


def test_memory_may_grow_and_a_crash_may_have_its_own_end() -> None:
    lines = configuration(domain=XenDomain(memory_mib=512, maxmem_mib=2048, on_crash="preserve"))

    assert [line for line in lines if line.startswith(("mem", "maxmem", "on_crash"))] == [
        "memory = 512",
        "maxmem = 2048",
        'on_crash = "preserve"',
    ]


def test_a_guest_without_interfaces_has_none() -> None:
    lines = configuration(interfaces=None)

    assert "vif = [  ]" in lines


def test_the_same_machine_always_has_the_same_identity() -> None:
    assert configuration() == configuration()


@pytest.mark.parametrize(
    "other", [machine("local02"), machine(cluster_name="chipmunk")], ids=["another name", "another cluster"]
)
def test_another_machine_has_another_identity(other: Machine) -> None:
    [own_mac, other_mac] = [network_interfaces(one, ONE)[0].mac for one in (machine(), other)]
    [own, another] = [make_domain(one, XenDomain(), ONE, disk=DISK, disk_format="raw") for one in (machine(), other)]

    assert own_mac != other_mac
    assert own.uuid != another.uuid


def test_addresses_of_interfaces_are_of_xen_s_own_block() -> None:
    macs = [interface.mac for interface in network_interfaces(machine(), TWO)]

    assert all(mac.startswith("00:16:3e:") for mac in macs)
    assert all(len(mac) == 17 for mac in macs)


def test_a_store_with_blanks_and_quotes_in_its_path_can_be_used() -> None:
    [line] = [line for line in configuration(disk=Path("/srv/o'neill, b\\c/disk.raw")) if line.startswith("disk")]

    assert line == r"disk = [ 'format=qcow2,vdev=xvda,access=rw,target=/srv/o\'neill, b\\c/disk.raw' ]"
