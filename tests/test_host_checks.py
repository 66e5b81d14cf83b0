import os
from pathlib import Path

import pytest

from imagebuilder.errors import BuildError
from imagebuilder.host.accelerator import Accelerator
from imagebuilder.host.checks import (
    Binding,
    HostCheck,
    ask_binding,
    check_accelerator,
    check_appliance,
    check_binding,
    check_copying,
    check_host,
    check_kernel,
    check_launch,
    check_programs,
    check_space,
    check_user_namespaces,
)

TCG = Accelerator(name="tcg", reason="this machine has no /dev/kvm", fix="load the module")
NO_BINDING = BuildError("ModuleNotFoundError: No module named 'guestfs'")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH but for what every system has."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return directory


def install(directory: Path, name: str, script: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def binding_at(directory: Path) -> Binding:
    return Binding(
        version="1.48.6",
        appliance_path=str(directory / "guestfs"),
        cache_directory=str(directory),
        temporary_directory=str(directory),
    )


def test_a_binding_that_cannot_be_imported_comes_with_its_package() -> None:
    check = check_binding(NO_BINDING)

    assert check.state == "failed"
    assert "No module named 'guestfs'" in check.found
    assert "apt-get install python3-guestfs" in (check.fix or "")


def test_a_kernel_that_can_be_read_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vmlinuz").touch()
    monkeypatch.setenv("SUPERMIN_KERNEL", str(tmp_path / "vmlinuz"))

    assert check_kernel() == HostCheck(name="kernel", state="ok", found=str(tmp_path / "vmlinuz"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_a_kernel_only_for_root_comes_with_the_command_that_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vmlinuz").touch(mode=0)
    monkeypatch.setenv("SUPERMIN_KERNEL", str(tmp_path / "vmlinuz"))

    check = check_kernel()

    assert check.state == "failed"
    assert check.fix == f"sudo dpkg-statoverride --update --add root root 0644 {tmp_path}/vmlinuz"


def test_a_chosen_kernel_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERMIN_KERNEL", "/nowhere/vmlinuz")

    check = check_kernel()

    assert check.state == "failed"
    assert check.fix == "set SUPERMIN_KERNEL to a kernel, or unset it"


def test_a_machine_without_kernel_is_told_which_package_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUPERMIN_KERNEL", raising=False)
    monkeypatch.delenv("LIBGUESTFS_PATH", raising=False)

    check = check_kernel(boot=tmp_path, modules=tmp_path)

    assert check.state == "failed"
    assert check.fix == "apt-get install linux-image-cloud-amd64"


def test_an_appliance_not_built_yet_is_well_if_supermin_can_build_it(tmp_path: Path, programs: Path) -> None:
    install(programs, "supermin", "exit 0")
    (tmp_path / "guestfs" / "supermin.d").mkdir(parents=True)

    check = check_appliance(binding_at(tmp_path))

    assert check.state == "ok"
    assert "not built yet" in check.found


def test_a_built_appliance_is_named(tmp_path: Path, programs: Path) -> None:
    install(programs, "supermin", "exit 0")
    (tmp_path / "guestfs" / "supermin.d").mkdir(parents=True)
    built = tmp_path / f".guestfs-{os.geteuid()}" / "appliance.d"
    built.mkdir(parents=True)
    (built / "root").touch()

    assert check_appliance(binding_at(tmp_path)).found == f"built, in {built}"


def test_a_ready_made_appliance_needs_no_supermin(tmp_path: Path) -> None:
    (tmp_path / "guestfs").mkdir()
    (tmp_path / "guestfs" / "README.fixed").touch()

    assert check_appliance(binding_at(tmp_path)).found == f"ready-made, in {tmp_path}/guestfs"


def test_missing_input_of_supermin_comes_with_its_package(tmp_path: Path) -> None:
    check = check_appliance(binding_at(tmp_path))

    assert check.state == "failed"
    assert check.fix == "apt-get install libguestfs0 supermin"


def test_a_launch_uses_the_accelerator_that_works(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIBGUESTFS_BACKEND_SETTINGS", raising=False)
    install(programs, "libguestfs-test-tool", 'test "$LIBGUESTFS_BACKEND_SETTINGS" = force_tcg')

    assert check_launch(TCG).state == "ok"


def test_a_launch_that_fails_keeps_its_last_words(programs: Path) -> None:
    install(programs, "libguestfs-test-tool", "echo 'supermin: failed' >&2; exit 1")

    check = check_launch(TCG)

    assert check.state == "failed"
    assert check.found == "supermin: failed"


def test_emulation_is_a_warning_that_says_why() -> None:
    check = check_accelerator(TCG)

    assert check == HostCheck(
        name="KVM",
        state="warning",
        found="this machine has no /dev/kvm; guests are emulated (TCG)",
        fix="load the module",
    )


def test_a_missing_program_comes_with_its_package(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs))
    for name in ("qemu-system-x86_64", "mmdebstrap", "sfdisk", "mke2fs"):
        install(programs, name, "echo version 1")

    checks = {check.name: check for check in check_programs()}

    assert checks["mmdebstrap"].found == "version 1"
    assert checks["qemu-img"] == HostCheck(
        name="qemu-img", state="failed", found="not installed", fix="apt-get install qemu-utils"
    )


def test_a_program_that_does_not_start_is_failed(programs: Path) -> None:
    install(programs, "sfdisk", "echo 'libfdisk.so.1: cannot open shared object file' >&2; exit 127")

    checks = {check.name: check for check in check_programs()}

    assert checks["sfdisk"].state == "failed"
    assert "libfdisk.so.1" in checks["sfdisk"].found


def test_copies_to_a_dom0_go_by_rsync(programs: Path) -> None:
    install(programs, "rsync", "echo 'rsync  version 3.2.7  protocol version 31'")

    check = check_copying()

    assert (check.state, check.found) == ("ok", "rsync version 3.2.7, over ssh")


def test_without_rsync_only_copies_are_not_possible(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs))

    check = check_copying()

    assert check.state == "warning"
    assert check.found == "none to a dom0: the program rsync is not installed"
    assert check.fix == "apt-get install rsync"


def test_root_needs_no_user_namespace_but_mounts_of_its_own(programs: Path) -> None:
    install(programs, "unshare", "exit 0")
    allowed = check_user_namespaces(0)
    install(programs, "unshare", "echo 'unshare: Operation not permitted' >&2; exit 1")
    refused = check_user_namespaces(0)

    assert (allowed.state, refused.state) == ("ok", "failed")
    assert "Operation not permitted" in refused.found
    assert "CAP_SYS_ADMIN" in str(refused.fix)


def test_a_kernel_that_refuses_user_namespaces_comes_with_the_switch(programs: Path) -> None:
    install(programs, "newuidmap", "exit 1")
    install(programs, "unshare", "echo 'unshare failed: Operation not permitted' >&2; exit 1")

    check = check_user_namespaces(1000)

    assert check.state == "failed"
    assert "the kernel refuses them (unshare failed: Operation not permitted)" in check.found
    assert "sudo sysctl" in (check.fix or "")


def test_a_user_without_a_range_of_ids_comes_with_the_command_that_gives_one(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    install(programs, "newuidmap", "exit 1")
    install(programs, "unshare", 'case "$*" in *--map-auto*) exit 1;; esac')

    check = check_user_namespaces(1000)

    assert check.state == "failed"
    assert check.fix == "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ada"


def test_a_store_that_is_not_there_yet_is_measured_where_it_will_be(tmp_path: Path) -> None:
    (check,) = check_space([tmp_path / "not" / "yet", tmp_path])

    assert check.name == "disk"
    assert f"free for {tmp_path}/not/yet, {tmp_path}" in check.found


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_cannot_be_written_is_failed(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    (check,) = check_space([tmp_path / "store"])

    assert check.state == "failed"
    assert "you cannot write" in check.found


def test_all_checks_are_made_and_each_that_is_not_well_says_how_to_mend_it(tmp_path: Path, programs: Path) -> None:
    install(programs, "mmdebstrap", "exit 3")

    checks = check_host(tmp_path, TCG)

    assert [check.name for check in checks][:5] == ["Python", "libguestfs", "kernel", "appliance", "KVM"]
    assert [check.name for check in checks if check.state != "ok" and not check.fix] == []


@pytest.mark.appliance
def test_the_real_binding_says_its_version() -> None:
    binding = ask_binding()

    assert check_binding(binding).state == "ok"
