"""Every fault that an AMI may have, planted in one image at once: the inspection of the disk finds each."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest

from imagebuilder.ec2.boot_sectors import BIOS_BOOT, EFI_SYSTEM
from imagebuilder.ec2.evidence import Evidence
from imagebuilder.ec2.inspect_image import inspect_image
from imagebuilder.ec2.seal import RULES, boot_mode, findings
from imagebuilder.host.accelerator import appliance_environment, probe_accelerator
from imagebuilder.image.bases import Bench
from imagebuilder.image.store import Image, Store
from imagebuilder.pki import init_authority
from imagebuilder.programs import run_program
from tests.evidence import AWS_SECRET, OTHER_PEM_KEY
from tests.test_ec2_initramfs import archive

pytestmark = pytest.mark.appliance

MIB = 1 << 20
ROOT_OFFSET, ROOT_MIB, DISK_MIB = 3 * MIB, 24, 32
# A free part of the root file system: the files below need less than a tenth of it.
DELETED_AT = ROOT_OFFSET + (ROOT_MIB - 2) * MIB + 4096

PARTITIONS = (
    f"label: gpt\n14: start=2048, size=2048, type={BIOS_BOOT}\n15: start=4096, size=2048, type={EFI_SYSTEM}\n"
    f"1: start=6144, size={ROOT_MIB * 2048}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n"
)
MENU = """\
menuentry "Linux" {
	linux /boot/vmlinuz-1 root=/dev/xvda1 ro
	initrd /boot/initrd.img-1
}
"""
FILES = {
    "boot/grub/grub.cfg": MENU,
    "etc/cloud/cloud.cfg": "users: [default]\n",
    "etc/fstab": "/dev/xvda1 / ext4 defaults 0 1\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "etc/shadow": "root:$y$j9T$abc:19675:0:99999:7:::\nguest::19675:0:99999:7:::\n",
    "etc/ssh/ssh_host_ed25519_key.pub": "ssh-ed25519 AAAA\n",
    "etc/ssh/sshd_config": "PermitRootLogin yes\n",
    "etc/udev/rules.d/70-persistent-net.rules": 'SUBSYSTEM=="net"\n',
    "home/admin/.ssh/authorized_keys": "ssh-ed25519 AAAA admin\n",
    "root/.aws/credentials": f"[default]\n{AWS_SECRET}",
    "root/.bash_history": "passwd\n",
    "var/lib/cloud/data/instance-id": "i-0123456789abcdef0\n",
    "var/lib/systemd/random-seed": "seed",
    "var/log/wtmp": "somebody",
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    directory = tmp_path_factory.mktemp("planted")
    tree = directory / "tree"
    for name, text in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tree / "boot/initrd.img-1").write_bytes(archive("init"))
    init_authority(directory / "pki", "squirrel", now=datetime.now(UTC))
    (tree / "etc/openvpn").mkdir()
    for name in ("ca.crt", "ca.key"):
        shutil.copy(directory / "pki" / name, tree / "etc/openvpn" / name)
    (tree / "etc/openvpn/ca.key").chmod(0o644)
    disk = directory / "disk.raw"
    with disk.open("wb") as stream:
        stream.truncate(DISK_MIB * MIB)
    run_program(["sfdisk", "--quiet", disk], stdin=PARTITIONS.encode())
    run_program(["mke2fs", "-q", "-t", "ext4", "-d", tree, "-E", f"offset={ROOT_OFFSET}", disk, f"{ROOT_MIB}m"])
    with disk.open("r+b") as stream:
        stream.seek(DELETED_AT)
        stream.write(OTHER_PEM_KEY.encode())
    (directory / "plan.json").write_text("[]")
    image = Image(
        role="worker",
        name="worker",
        key="k" * 64,
        format="raw",
        directory=directory,
        base_digest="b" * 64,
        built_at="2026-11-25T07:21:01+00:00",
        inputs={},
    )
    bench = Bench(
        store=Store(root=directory),
        environment=lambda: {**os.environ, **appliance_environment(probe_accelerator(directory))},
        log=directory / "log",
        on_step=lambda _: None,
    )
    return inspect_image(image, bench)


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_each_rule_finds_its_fault_on_a_real_disk(planted: Evidence, rule: str) -> None:
    names = {finding.rule for finding in findings(planted)}

    assert rule in names


def test_the_key_in_a_deleted_file_is_found_where_it_was(planted: Evidence) -> None:
    [stray] = planted.strays

    assert stray.offset == DELETED_AT


def test_the_key_of_the_authority_is_known_by_its_certificate(planted: Evidence) -> None:
    places = {finding.where for finding in findings(planted) if finding.rule == "ca-key"}

    assert places == {"/etc/openvpn/ca.key"}
    assert len(planted.authorities) == 1


def test_no_firmware_boots_it(planted: Evidence) -> None:
    assert boot_mode(planted) is None


def test_the_initramfs_that_the_menu_loads_is_read(planted: Evidence) -> None:
    names = planted.initramfs[PurePosixPath("/boot/initrd.img-1")]

    assert PurePosixPath("/init") in names


def test_the_sum_is_that_of_the_whole_disk(planted: Evidence) -> None:
    assert (planted.size_bytes, len(planted.sha256)) == (DISK_MIB * MIB, 64)
