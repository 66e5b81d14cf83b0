"""Each rule for an AMI finds the fault that it is for, and a sound image has none."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from imagebuilder.ec2.boot_sectors import EFI_SYSTEM, DiskLayout, Partition
from imagebuilder.ec2.evidence import Evidence, unchanged_files
from imagebuilder.ec2.marks import Mark, MarkKind
from imagebuilder.ec2.seal import AUDIENCE, RULES, Audience, boot_mode, findings, named_secrets
from imagebuilder.pki.fingerprints import fingerprint_of_key
from imagebuilder.secret import Secret
from tests.evidence import (
    AWS_SECRET,
    MENU,
    OTHER_PEM_KEY,
    PEM_KEY,
    VPN_KEY,
    sound_evidence,
    without_boot_loader,
)

MENU_FILE = "/boot/grub/grub.cfg"
SHADOW = "root:*:19675:0:99999:7:::\n"

# Rule, what is in the image instead, where the rule says it is.
PLANTED: tuple[tuple[str, Mapping[str, str], str], ...] = (
    ("kernel", {MENU_FILE: ""}, MENU_FILE),
    ("kernel", {MENU_FILE: MENU.replace("/vmlinuz", "/vmlinuz-6.1.0-0")}, MENU_FILE),
    ("kernel", {MENU_FILE: MENU.replace("\tinitrd /initrd.img\n", "")}, MENU_FILE),
    ("root", {MENU_FILE: MENU.replace("LABEL=cluster-root", "/dev/xvda1")}, MENU_FILE),
    ("root", {MENU_FILE: MENU.replace("LABEL=cluster-root", "LABEL=other")}, MENU_FILE),
    ("root", {MENU_FILE: MENU.replace("root=LABEL=cluster-root ", "")}, MENU_FILE),
    ("fstab", {"/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n"}, "/etc/fstab"),
    ("fstab", {"/etc/fstab": "UUID=1234 / ext4 defaults 0 1\n"}, "/etc/fstab"),
    ("fstab", {"/etc/fstab": "/dev/nvme1n1 /scratch ext4 defaults 0 2\n"}, "/etc/fstab"),
    ("serial-console", {MENU_FILE: MENU.replace(" console=ttyS0,115200", "")}, MENU_FILE),
    (
        "card-names",
        {"/etc/udev/rules.d/70-persistent-net.rules": "SUBSYSTEM…"},
        "/etc/udev/rules.d/70-persistent-net.rules",
    ),
    ("host-keys", {"/etc/ssh/ssh_host_rsa_key.pub": "ssh-rsa AAAA"}, "/etc/ssh/ssh_host_rsa_key.pub"),
    ("authorized-keys", {"/root/.ssh/authorized_keys": ""}, "/root/.ssh/authorized_keys"),
    ("authorized-keys", {"/home/admin/.ssh/authorized_keys2": "ssh-rsa"}, "/home/admin/.ssh/authorized_keys2"),
    ("machine-id", {"/etc/machine-id": "0123456789abcdef0123456789abcdef\n"}, "/etc/machine-id"),
    ("machine-id", {"/var/lib/dbus/machine-id": "0123456789abcdef\n"}, "/var/lib/dbus/machine-id"),
    ("random-seed", {"/var/lib/systemd/random-seed": "…"}, "/var/lib/systemd/random-seed"),
    ("history", {"/root/.bash_history": "passwd\n"}, "/root/.bash_history"),
    ("history", {"/home/admin/.viminfo": "…"}, "/home/admin/.viminfo"),
    ("history", {"/root/.ssh/known_hosts": "…"}, "/root/.ssh/known_hosts"),
    ("past-boots", {"/var/log/journal/0123/system.journal": "…"}, "/var/log/journal/0123/system.journal"),
    ("past-boots", {"/var/log/wtmp": "…"}, "/var/log/wtmp"),
    ("past-boots", {"/var/lib/dhcp/dhclient.eth0.leases": "lease {}\n"}, "/var/lib/dhcp/dhclient.eth0.leases"),
    ("cloud-init-state", {"/var/lib/cloud/data/instance-id": "i-1\n"}, "/var/lib/cloud/data/instance-id"),
    ("cloud-init-state", {"/var/log/cloud-init-output.log": "…"}, "/var/log/cloud-init-output.log"),
    ("datasource", {"/etc/cloud/cloud.cfg.d/90_ec2.cfg": "# nothing\n"}, "/etc/cloud/cloud.cfg"),
    (
        "datasource",
        {"/etc/cloud/cloud.cfg.d/99_more.cfg": "datasource_list: [Ec2, NoCloud]\n"},
        "/etc/cloud/cloud.cfg.d/99_more.cfg",
    ),
    ("cloud-credentials", {"/root/.aws/credentials": "[default]\n"}, "/root/.aws/credentials"),
    ("cloud-credentials", {"/opt/backup/run": AWS_SECRET}, "/opt/backup/run"),
    ("unplanned-key", {"/etc/ssl/private/web.pem": OTHER_PEM_KEY}, "/etc/ssl/private/web.pem"),
    ("unplanned-key", {VPN_KEY: OTHER_PEM_KEY}, VPN_KEY),
    ("root-locked", {"/etc/shadow": "root:$y$j9T$abc:19675:0:99999:7:::\n"}, "/etc/shadow"),
    ("root-locked", {"/etc/shadow": "sshd:!:19675::::::\n"}, "/etc/shadow"),
    ("user-passwords", {"/etc/shadow": f"{SHADOW}admin:$6$abc:19675:0:99999:7:::\n"}, "/etc/shadow"),
    ("user-passwords", {"/etc/shadow": f"{SHADOW}guest::19675:0:99999:7:::\n"}, "/etc/shadow"),
    ("user-passwords", {"/etc/passwd": "guest::1000:1000::/home/guest:/bin/sh\n"}, "/etc/passwd"),
    ("sshd", {"/etc/ssh/sshd_config.d/cloud.conf": ""}, "/etc/ssh/sshd_config"),
    ("sshd", {"/etc/ssh/sshd_config.d/a.conf": "PasswordAuthentication yes\n"}, "/etc/ssh/sshd_config.d/a.conf"),
    ("sshd", {"/etc/ssh/sshd_config.d/a.conf": "permitrootlogin yes\n"}, "/etc/ssh/sshd_config.d/a.conf"),
    (
        "sshd",
        {"/etc/ssh/sshd_config.d/a.conf": "ChallengeResponseAuthentication=yes\n"},
        "/etc/ssh/sshd_config.d/a.conf",
    ),
)


def found(evidence: Evidence, audience: Audience = "private") -> set[tuple[str, str]]:
    return {(finding.rule, finding.where) for finding in findings(evidence, audience)}


def test_a_sound_image_has_no_findings() -> None:
    evidence = sound_evidence()

    assert findings(evidence) == ()


@pytest.mark.parametrize(("rule", "files", "where"), PLANTED)
def test_a_planted_fault_is_found_by_its_rule(rule: str, files: Mapping[str, str], where: str) -> None:
    evidence = sound_evidence(files=files, modes={"/etc/ssl/private/web.pem": 0o600, "/opt/backup/run": 0o600})

    rows = {(name, place) for name, place in found(evidence) if name == rule}

    assert rows == {(rule, where)}


def test_each_rule_has_a_test_that_breaks_it() -> None:
    elsewhere = {"boot-loader", "drivers", "ca-key", "readable-secret", "deleted-data"}  # further down

    assert {rule for rule, _, _ in PLANTED} | elsewhere == {rule.name for rule in RULES}


def test_a_finding_says_where_what_and_how_to_mend_it() -> None:
    evidence = sound_evidence(files={"/etc/ssh/ssh_host_rsa_key": "…"}, modes={"/etc/ssh/ssh_host_rsa_key": 0o600})

    [finding] = findings(evidence)

    assert str(finding) == (
        "/etc/ssh/ssh_host_rsa_key: every instance would have this host key [host-keys]\n"
        "  fix: use the edit `identity`, which removes them"
    )


def test_a_disk_that_no_firmware_boots_is_found() -> None:
    evidence = without_boot_loader(sound_evidence())

    assert found(evidence) == {("boot-loader", "disk")}
    assert boot_mode(evidence) is None


@pytest.mark.parametrize("driver", ["ena", "xen-blkfront"])
def test_a_driver_that_the_initramfs_lacks_is_found(driver: str) -> None:
    others = frozenset(PurePosixPath(f"/kernel/{name}.ko") for name in {"ena", "xen-blkfront"} - {driver})
    evidence = sound_evidence(drivers=others)

    [finding] = findings(evidence)

    assert (finding.rule, finding.what) == ("drivers", f"the driver {driver} is neither in it nor in the kernel")


def test_a_driver_that_the_kernel_has_built_in_need_not_be_in_the_initramfs() -> None:
    nothing_built_in = {"/usr/lib/modules/6.1.0-1-cloud-amd64/modules.builtin": ""}
    evidence = sound_evidence(files=nothing_built_in)

    lacking = [finding.what.split()[2] for finding in findings(evidence)]

    assert lacking == ["nvme", "ext4"]


def test_a_machine_id_that_is_not_even_empty_is_found() -> None:
    evidence = sound_evidence(without=["/etc/machine-id"])

    assert found(evidence) == {("machine-id", "/etc/machine-id")}


def test_an_image_without_cloud_init_needs_no_datasource() -> None:
    evidence = sound_evidence(without=["/etc/cloud/cloud.cfg", "/etc/cloud/cloud.cfg.d/90_ec2.cfg"])

    assert findings(evidence) == ()


def test_the_key_of_the_authority_is_found_even_where_a_secret_is_planned() -> None:
    fingerprint = fingerprint_of_key(PEM_KEY.encode()) or "no key"
    evidence = replace(sound_evidence(), authorities=frozenset({fingerprint}))

    assert found(evidence) == {("ca-key", VPN_KEY)}


def test_the_key_of_another_authority_is_found_by_its_name() -> None:
    evidence = sound_evidence(files={"/root/pki/ca.key": OTHER_PEM_KEY}, modes={"/root/pki/ca.key": 0o600})

    assert found(evidence) == {("ca-key", "/root/pki/ca.key"), ("unplanned-key", "/root/pki/ca.key")}


@pytest.mark.parametrize("path", [VPN_KEY, "/etc/shadow"])
def test_a_secret_that_every_user_may_read_is_found(path: str) -> None:
    evidence = sound_evidence(modes={path: 0o644})

    assert found(evidence) == {("readable-secret", path)}


def test_a_secret_on_the_disk_that_is_in_no_file_is_found() -> None:
    stray = Mark(kind=MarkKind.PRIVATE_KEY, offset=123_456_789, body=Secret(OTHER_PEM_KEY))
    evidence = replace(sound_evidence(), strays=(stray,))

    assert found(evidence) == {("deleted-data", "byte 123456789 of the disk")}


def test_keys_in_the_files_of_a_debian_package_are_no_secrets() -> None:
    library = PurePosixPath("/usr/lib/libgnutls.so")
    evidence = sound_evidence(files={str(library): OTHER_PEM_KEY})

    as_packaged = replace(evidence, published=frozenset({library}))

    assert found(evidence) == {("unplanned-key", str(library)), ("readable-secret", str(library))}
    assert findings(as_packaged) == ()


def test_a_key_of_a_package_that_python_has_compiled_is_no_secret_either() -> None:
    indented = OTHER_PEM_KEY.replace("\n", "\n    ")
    files = {"/usr/lib/python3/cc_ssh.py": indented, "/usr/lib/python3/__pycache__/cc_ssh.pyc": OTHER_PEM_KEY}

    evidence = replace(sound_evidence(files=files), published=frozenset({PurePosixPath("/usr/lib/python3/cc_ssh.py")}))

    assert findings(evidence) == ()


def test_a_file_is_as_its_package_has_it_if_its_sum_is_and_by_its_real_path() -> None:
    evidence = sound_evidence(files={"/usr/lib/a.so": "hello\n", "/usr/lib/b.so": "changed\n"})
    sums = "b1946ac92492d2347c6235b4d2611184  lib/a.so\nb1946ac92492d2347c6235b4d2611184  usr/lib/b.so\n"
    contents = {PurePosixPath("/usr/lib/a.so"): b"hello\n", PurePosixPath("/usr/lib/b.so"): b"changed\n"}

    unchanged = unchanged_files(evidence.listing, [sums], contents)

    assert unchanged == {PurePosixPath("/usr/lib/a.so")}


@pytest.mark.parametrize("audience", ["shared", "public"])
def test_an_image_with_the_key_of_the_vpn_is_for_nobody_else(audience: Audience) -> None:
    evidence = sound_evidence()

    assert found(evidence, audience) == {(AUDIENCE.name, VPN_KEY)}


def test_an_image_without_secrets_may_be_public() -> None:
    evidence = replace(sound_evidence(without=[VPN_KEY]), planned_secrets={})

    assert findings(evidence, "public") == ()


def test_the_secrets_that_an_image_carries_are_named_but_not_told() -> None:
    [secret] = named_secrets(sound_evidence())

    assert (str(secret.path), secret.kind, secret.mode) == (VPN_KEY, "private key", 0o600)
    assert secret.fingerprint == fingerprint_of_key(PEM_KEY.encode())


@pytest.mark.parametrize(
    ("bios_trouble", "efi_files", "mode"),
    [
        (None, (), "legacy-bios"),
        ("no boot code", ("/EFI/BOOT/BOOTX64.EFI",), "uefi"),
        (None, ("/EFI/boot/bootx64.efi",), "uefi-preferred"),
        (None, ("/EFI/debian/grubx64.efi",), "legacy-bios"),
        ("no boot code", (), None),
    ],
)
def test_the_boot_mode_follows_from_the_boot_loaders(
    bios_trouble: str | None, efi_files: tuple[str, ...], mode: str | None
) -> None:
    esp = Partition(number=15, first_sector=4096, sectors=2048, kind=EFI_SYSTEM)
    layout = DiskLayout(table="gpt", partitions=(esp,), bios_trouble=bios_trouble)
    evidence = replace(sound_evidence(), layout=layout, efi_files=frozenset(map(PurePosixPath, efi_files)))

    assert boot_mode(evidence) == mode
