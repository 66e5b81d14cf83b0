import io
import json
import struct
import subprocess
import tarfile
import time
import uuid
from pathlib import Path

import pytest

from imagebuilder.errors import BuildError, HostError
from imagebuilder.image import grub
from imagebuilder.image.bootstrap import (
    BaseDescription,
    bootstrap,
    files_archive,
    mke2fs_command,
    mmdebstrap_command,
    mmdebstrap_error,
    partition_script,
    recipe_key,
)
from imagebuilder.image.namespace import namespace
from imagebuilder.programs import run_program

DISK_UUID = uuid.UUID("8986c917-7989-52eb-8878-302600d2d92c")


def description(
    *,
    packages: tuple[str, ...] = ("ifupdown", "openssh-server"),
    mirror: str | None = None,
    suite: str = "bookworm",
    disk_size_gib: int = 2,
    debconf: tuple[str, ...] = (),
    exclude_documentation: bool = True,
) -> BaseDescription:
    return BaseDescription(
        suite=suite,
        packages=packages,
        kernel="linux-image-cloud-amd64",
        disk_size_gib=disk_size_gib,
        label="root-disk",
        mirror=mirror,
        debconf=debconf,
        exclude_documentation=exclude_documentation,
    )


def mmdebstrap_words(base: BaseDescription, *, directory: str = "/scratch") -> list[str]:
    work = Path(directory)
    return mmdebstrap_command(base, tree=work / "tree", files=work / "files.tar", answers=work / "answers")


def members(archive: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read().decode() for member in tar}  # type: ignore[union-attr]


def boot_image(*, drive_check: int = 0xEB) -> bytes:
    image = bytearray(b"\xcc" * 512)
    image[0x66] = drive_check
    return bytes(image)


def core_image(*, sectors: int, listed: int) -> bytes:
    image = bytearray(b"\xcc" * (sectors * 512 - 100))
    struct.pack_into("<QHH", image, 0x1F4, 2, listed, 0x820)
    return bytes(image)


PARTITIONED = b"\xaa" * 510 + b"\x55\xaa"


# recipe key


def test_the_key_is_the_same_for_the_same_description() -> None:
    first, second = description(), description()

    keys = {recipe_key(first), recipe_key(second)}

    assert len(keys) == 1


def test_the_key_changes_with_any_part_of_the_description() -> None:
    changed = [
        description(),
        description(packages=("ifupdown",)),
        description(suite="trixie"),
        description(mirror="http://mirror.example/debian"),
        description(disk_size_gib=3),
        description(debconf=("a b boolean true",)),
        description(exclude_documentation=False),
    ]

    keys = {recipe_key(base) for base in changed}

    assert len(keys) == len(changed)


# packages


def test_what_a_base_needs_to_boot_is_installed_unasked() -> None:
    words = mmdebstrap_words(description(packages=("ifupdown", "udev")))

    needed = "systemd-sysv,initramfs-tools,zstd,e2fsprogs,grub-pc-bin,grub2-common,linux-image-cloud-amd64"
    assert f"--include=ifupdown,udev,{needed}" in words


def test_without_a_mirror_mmdebstrap_chooses_its_own() -> None:
    words = mmdebstrap_words(description())

    assert words[-2:] == ["bookworm", "/scratch/tree"]


def test_a_mirror_is_the_last_word_to_mmdebstrap() -> None:
    words = mmdebstrap_words(description(mirror="http://mirror.example/debian"))

    assert words[-1] == "http://mirror.example/debian"


def test_debconf_answers_come_before_the_packages_that_ask() -> None:
    words = mmdebstrap_words(description(debconf=("a b boolean true",)), directory="/my scratch")

    hooks = [word for word in words if word.startswith("--essential-hook=")]
    assert hooks[:2] == [
        "--essential-hook=upload '/my scratch/answers' /var/cache/debconf/answers",
        '--essential-hook=chroot "$1" debconf-set-selections /var/cache/debconf/answers',
    ]


def test_documentation_is_kept_on_request() -> None:
    words = mmdebstrap_words(description(exclude_documentation=False))

    assert [word for word in words if word.startswith("--dpkgopt")] == []


def test_what_no_machine_needs_does_not_start() -> None:
    hooks = [word for word in mmdebstrap_words(description()) if word.startswith("--customize-hook=")]

    (masked,) = (hook.split() for hook in hooks if "systemctl" in hook)
    assert {"apt-daily.timer", "modprobe@drm.service", "systemd-binfmt.service"} <= set(masked)


def test_what_every_machine_needs_starts() -> None:
    hooks = [word for word in mmdebstrap_words(description()) if word.startswith("--customize-hook=")]

    (masked,) = (set(hook.split()) for hook in hooks if "systemctl" in hook)
    assert not masked & {
        *("ssh.service", "getty@tty1.service", "serial-getty@ttyS0.service", "serial-getty@hvc0.service"),
        *("qemu-guest-agent.service", "systemd-logind.service", "systemd-timesyncd.service"),
    }


def test_the_initramfs_is_made_anew_once_its_settings_are_there() -> None:
    hooks = [word for word in mmdebstrap_words(description()) if word.startswith("--customize-hook=")]

    assert hooks[0].startswith("--customize-hook=tar-in ")
    assert any(hook.endswith("update-initramfs -u -k all") for hook in hooks[1:])


# files


def test_the_archive_of_files_is_the_same_each_time() -> None:
    first = files_archive(description(), disk_uuid=DISK_UUID)
    second = files_archive(description(), disk_uuid=DISK_UUID)

    assert first == second


def test_the_image_has_no_identity_of_its_own() -> None:
    files = members(files_archive(description(), disk_uuid=DISK_UUID))

    assert (files["etc/machine-id"], files["etc/resolv.conf"], files["etc/hostname"]) == ("", "", "localhost\n")


def test_root_is_found_by_label_and_the_menu_by_uuid() -> None:
    files = members(files_archive(description(), disk_uuid=DISK_UUID))

    assert files["etc/fstab"] == "LABEL=root-disk / ext4 defaults,errors=remount-ro 0 1\n"
    assert f"search --no-floppy --fs-uuid --set=root {DISK_UUID}\n" in files["boot/grub/grub.cfg"]
    assert "linux /vmlinuz root=LABEL=root-disk ro net.ifnames=0" in files["boot/grub/grub.cfg"]


def test_update_grub_keeps_the_kernel_options() -> None:
    files = members(files_archive(description(), disk_uuid=DISK_UUID))

    options = "net.ifnames=0 biosdevname=0 cryptomgr.notests console=tty0 console=hvc0 console=ttyS0,115200"
    assert f'GRUB_CMDLINE_LINUX="{options}"\n' in files["etc/default/grub"]
    assert f" ro {options}\n" in files["boot/grub/grub.cfg"]


def test_the_initramfs_has_the_disks_and_network_cards_of_qemu_xen_and_ec2() -> None:
    files = members(files_archive(description(), disk_uuid=DISK_UUID))

    assert "\nMODULES=list\n" in files["etc/initramfs-tools/conf.d/modules"]
    hook = files["etc/initramfs-tools/hooks/drivers"]
    words = [line.split() for line in hook.splitlines() if line.startswith(("auto_add_modules", "manual_add_modules"))]
    assert {"ext4", "block", "scsi", "virtio_pci", "virtio_net", "xen-netfront", "ena"} <= {
        word for line in words for word in line
    }


def test_what_runs_in_the_image_can_be_run() -> None:
    with tarfile.open(fileobj=io.BytesIO(files_archive(description(), disk_uuid=DISK_UUID))) as tar:
        modes = {member.name: member.mode for member in tar}

    assert modes["etc/initramfs-tools/hooks/drivers"] == 0o755
    assert modes["usr/local/lib/wait-for-nics"] == 0o755
    assert modes["etc/modprobe.d/no-guests.conf"] == 0o644


# disk


def test_root_is_the_first_partition_and_the_last_on_the_disk() -> None:
    script = partition_script(description(disk_size_gib=2), disk_uuid=DISK_UUID)

    assert "14: start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649" in script
    assert f"1: start=4096, size={2 * 2**30 // 512 - 4096 - 2048}, type=0FC63DAF" in script


def test_the_file_system_ends_where_its_partition_ends() -> None:
    words = mke2fs_command(description(disk_size_gib=2), tree=Path("/t"), disk=Path("/d"), disk_uuid=DISK_UUID)

    assert words[-3:] == ["/t", "/d", f"{(2 * 2**30 - 3 * 2**20) // 1024}k"]
    assert f"offset=2097152,hash_seed={DISK_UUID}" in words[words.index("-E") + 1]


# boot loader


def test_the_boot_sector_points_at_core_img_and_keeps_the_partition_table() -> None:
    sector = grub.boot_sector(boot_image(), present=PARTITIONED, core_sector=2048)

    assert struct.unpack_from("<Q", sector, 0x5C) == (2048,)
    assert sector[0x64:0x68] == b"\xff\xcc\x90\x90"
    assert sector[0x1B8:] == PARTITIONED[0x1B8:]
    assert sector[0x5A:0x5C] + sector[0x68:0x1B8] == b"\xcc" * (2 + 0x1B8 - 0x68)


def test_an_unknown_boot_img_is_refused() -> None:
    strange = boot_image(drive_check=0x74)

    with pytest.raises(BuildError, match=r"boot\.img: not a boot\.img that this program knows"):
        grub.boot_sector(strange, present=PARTITIONED, core_sector=2048)


def test_a_disk_without_a_partition_table_is_refused() -> None:
    with pytest.raises(BuildError, match="no partition table"):
        grub.boot_sector(boot_image(), present=bytes(512), core_sector=2048)


def test_core_img_points_at_its_own_second_sector() -> None:
    image = core_image(sectors=3, listed=2)

    embedded = grub.embedded_core(image, core_sector=2048, room_sectors=2048)

    assert struct.unpack_from("<QHH", embedded, 0x1F4) == (2049, 2, 0x820)
    assert embedded[:0x1F4] + embedded[0x200:] == image[:0x1F4] + image[0x200:] + bytes(100)


def test_a_core_img_that_lists_other_sectors_is_refused() -> None:
    image = core_image(sectors=3, listed=5)

    with pytest.raises(BuildError, match="does not list the others"):
        grub.embedded_core(image, core_sector=2048, room_sectors=2048)


def test_a_core_img_larger_than_its_partition_is_refused() -> None:
    image = core_image(sectors=3, listed=2)

    with pytest.raises(BuildError, match="needs 3 sectors, the BIOS boot partition has 2"):
        grub.embedded_core(image, core_sector=2048, room_sectors=2)


# the host


def test_a_package_that_does_not_exist_is_named(tmp_path: Path) -> None:
    said = (
        "E: Unable to locate package gridengin; E: setup failed: E: apt-get --yes install gridengin failed; "
        "I: main() received signal PIPE: waiting for setup...; E: mmdebstrap failed to run"
    )

    error = mmdebstrap_error(BuildError(said, where="setpriv (exit 25)"), log=tmp_path)

    assert str(error) == (
        "mmdebstrap: Unable to locate package gridengin\n"
        f"  fix: check suite, mirror, components and packages; all that was said is in {tmp_path}"
    )


def test_a_missing_program_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    disk = tmp_path / "disk.raw"

    with pytest.raises(HostError) as caught:
        bootstrap(description(), disk=disk, log=tmp_path / "log", scratch=tmp_path, on_step=print)

    assert str(caught.value) == "the program mmdebstrap is not installed\n  fix: apt-get install mmdebstrap"
    assert not disk.exists()


def test_a_host_that_refuses_namespaces_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = tmp_path / "unshare"
    refusal.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusal.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    with pytest.raises(HostError, match=r"cannot make namespaces \(unshare: .* not permitted\)\n  fix: ."):
        namespace(log=tmp_path / "log")


# the real thing


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    small = description(packages=("ifupdown", "openssh-server"), disk_size_gib=1)
    bootstrap(small, disk=directory / "disk", log=directory / "log", scratch=directory, on_step=print)
    assert sorted(path.name for path in directory.iterdir()) == ["disk", "log"]
    return directory / "disk"


def in_image(disk: Path, request: str) -> str:
    return run_program(["debugfs", "-R", request, f"{disk}?offset=2097152"])


@pytest.mark.whole
def test_a_base_is_a_partitioned_sparse_disk_with_a_clean_file_system(disk: Path) -> None:
    table = json.loads(run_program(["sfdisk", "--json", disk]))["partitiontable"]

    check = run_program(["e2fsck", "-fn", f"{disk}?offset=2097152"])

    assert [(part["start"], part["node"].removeprefix(str(disk))) for part in table["partitions"]] == [
        (4096, "1"),
        (2048, "14"),
    ]
    assert disk.stat().st_blocks * 512 < disk.stat().st_size * 0.7
    assert "root-disk: " in check


@pytest.mark.whole
def test_a_base_carries_nothing_of_its_build(disk: Path) -> None:
    machine_id, resolver = in_image(disk, "cat /etc/machine-id"), in_image(disk, "cat /etc/resolv.conf")

    keys, state, devices = (in_image(disk, f"ls -p {path}") for path in ("/etc/ssh", "/var/lib/systemd", "/dev"))

    assert (machine_id, resolver) == ("", "")
    assert "ssh_host" not in keys
    assert "random-seed" not in state
    assert "null" not in devices
    assert "\nroot:*:" in "\n" + in_image(disk, "cat /etc/shadow")


@pytest.mark.whole
def test_a_base_boots_to_its_login_prompt(disk: Path, tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    machine = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1024", "-snapshot"]
    machine += ["-nic", "none", "-display", "none", "-serial", f"file:{serial}"]
    machine += ["-drive", f"file={disk},format=raw,if=virtio"]

    with subprocess.Popen(machine) as process:
        said = wait_for("login: ", serial, timeout_s=300)
        process.terminate()

    assert "localhost login: " in said


def wait_for(text: str, file: Path, *, timeout_s: float) -> str:
    end = time.monotonic() + timeout_s
    said = ""
    while text not in said and time.monotonic() < end:
        time.sleep(1)
        said = file.read_text(errors="replace") if file.exists() else ""
    return said
