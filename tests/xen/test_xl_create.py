"""Xen itself: `xl create` on what `imgbuild` made, in a machine that QEMU emulates."""

import asyncio
import re
from pathlib import Path

import pytest

from imagebuilder.image.store import Image, Store
from tests.command import imgbuild
from tests.machines import PROJECT
from tests.xen.boot import boot
from tests.xen.conftest import BUILD
from tests.xen.dom0 import Dom0, take_boot_files
from tests.xen.job_disk import DIRECTORY, Job

pytestmark = pytest.mark.xen

BRIDGES = {"xenbr0": "10.1.1.1/24", "xenbr1": "147.96.1.1/24"}


def image_of(store: Store, role: str, name: str) -> Image:
    image = store.current(role, name)
    assert image is not None
    return image


def configuration_of(store: Store, name: str) -> str:
    """What `imgbuild xen` prints."""
    return imgbuild(PROJECT, "xen", name, store=store.root).out


def transcript(name: str) -> Path:
    return BUILD / f"{name}.transcript"


def test_the_node_starts_with_the_configuration_that_imgbuild_wrote(dom0: Dom0, store: Store, tmp_path: Path) -> None:
    job = Job(
        image=image_of(store, "node", "local01"),
        configuration=configuration_of(store, "local01"),
        bridges=BRIDGES,
        addresses={"xenbr0": "10.1.1.55"},
    )

    seen = asyncio.run(boot(dom0, job, store, scratch=tmp_path, transcript=transcript("local01")))

    assert "'mac=00:16:3e:03:90:41,bridge=xenbr0'" in job.configuration
    assert seen.prompt == "local01 login:"
    assert seen.neighbours == {("10.1.1.55", "xenbr0", "00:16:3e:03:90:41")}


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_an_exported_folder_starts_its_machine_with_the_kernel_beside_its_disk(
    dom0: Dom0, store: Store, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "exports"
    options = ("--type", kind, "--boot", "kernel", "--export", str(folder))
    exported = imgbuild(PROJECT, "xen", "local01", *options, store=store.root)
    job = Job(
        image=image_of(store, "node", "local01"),
        configuration="",
        bridges=BRIDGES,
        addresses={"xenbr0": "10.1.1.55"},
        folder=folder / "local01",
    )

    seen = asyncio.run(boot(dom0, job, store, scratch=tmp_path, transcript=transcript(f"local01-exported-{kind}")))

    assert exported.code == 0
    assert seen.prompt == "local01 login:"
    assert seen.neighbours == {("10.1.1.55", "xenbr0", "00:16:3e:03:90:41")}


def test_interfaces_have_their_names_though_the_kernel_options_leave_them_to_udev(
    dom0: Dom0, store: Store, tmp_path: Path
) -> None:
    image = image_of(store, "server", "oneserver")
    base = store.base(image.base_digest)
    assert base is not None
    guest = take_boot_files(base.disk, tmp_path)
    own_way = f"""\
kernel = "{DIRECTORY}/vmlinuz"
ramdisk = "{DIRECTORY}/initrd.img"
root = "LABEL=cluster-root ro"
extra = "console=hvc0"
"""
    # In the other order, too: the one that is to be eth1 comes first.
    others_first = "vif = [ 'mac=00:16:3e:9d:8f:de,bridge=xenbr1', 'mac=00:16:3e:89:18:0b,bridge=xenbr0' ]"
    configuration = configuration_of(store, "oneserver").replace('bootloader = "pygrub"\n', own_way)
    job = Job(
        image=image,
        configuration=re.sub("^vif = .*", others_first, configuration, flags=re.MULTILINE),
        bridges=BRIDGES,
        addresses={"xenbr0": "10.1.1.99", "xenbr1": "147.96.1.100"},
        files={"vmlinuz": guest.kernel, "initrd.img": guest.initrd},
    )

    seen = asyncio.run(boot(dom0, job, store, scratch=tmp_path, transcript=transcript("oneserver-named-by-udev")))

    assert "enX0: renamed from eth0" in seen.guest_says
    assert seen.prompt == "oneserver login:"
    assert seen.neighbours == {
        ("10.1.1.99", "xenbr0", "00:16:3e:89:18:0b"),
        ("147.96.1.100", "xenbr1", "00:16:3e:9d:8f:de"),
    }
