import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagebuilder.errors import BuildError
from imagebuilder.host.accelerator import (
    Accelerator,
    appliance_environment,
    boot_test_guest,
    find_kernels,
    probe_accelerator,
    qemu_accelerator_options,
)

GOOD_GUEST = "echo 'Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)'"
KVM = Accelerator(name="kvm", reason="a test guest was up in 0.5 s")
TCG = Accelerator(name="tcg", reason="this machine has no /dev/kvm")


@dataclass(frozen=True, kw_only=True)
class FakeHost:
    """A machine with a device that opens, a kernel, and a QEMU that is a shell script."""

    directory: Path

    @property
    def device(self) -> Path:
        return self.directory / "kvm"

    @property
    def cache(self) -> Path:
        return self.directory / "cache"

    def install_qemu(self, script: str) -> None:
        program = self.directory / "bin" / "qemu-system-x86_64"
        program.write_text(f'#!/bin/sh\necho "$@" >>{self.directory}/started\n{script}\n')
        program.chmod(0o755)

    def started(self) -> list[str]:
        return (self.directory / "started").read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    (tmp_path / "bin").mkdir()
    (tmp_path / "kvm").touch()
    (tmp_path / "kernel").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("SUPERMIN_KERNEL", str(tmp_path / "kernel"))
    monkeypatch.delenv("LIBGUESTFS_PATH", raising=False)
    return FakeHost(directory=tmp_path)


def make_kernel(root: Path, version: str) -> Path:
    (root / "modules" / version).mkdir(parents=True)
    (root / "modules" / version / "modules.dep").touch()
    kernel = root / "boot" / f"vmlinuz-{version}"
    kernel.parent.mkdir(exist_ok=True)
    kernel.touch()
    return kernel


def test_kvm_is_chosen_when_a_guest_runs_in_it(host: FakeHost) -> None:
    host.install_qemu(GOOD_GUEST)

    accelerator = probe_accelerator(host.cache, device=host.device)

    assert (accelerator.name, accelerator.cached) == ("kvm", False)
    assert "-accel kvm" in host.started()[0]


def test_emulation_is_chosen_when_qemu_aborts_and_its_words_are_kept(host: FakeHost) -> None:
    host.install_qemu("echo 'error: failed to set MSR 0x10a to 0x69' >&2; exit 134")

    accelerator = probe_accelerator(host.cache, device=host.device)

    assert accelerator.name == "tcg"
    assert "failed to set MSR 0x10a" in accelerator.reason


def test_emulation_is_chosen_when_the_guest_resets_before_its_kernel_is_up(host: FakeHost) -> None:
    host.install_qemu("echo 'Probing EDD... ok'; exit 0")

    accelerator = probe_accelerator(host.cache, device=host.device)

    assert accelerator.name == "tcg"
    assert "reset before its kernel was up" in accelerator.reason


def test_a_guest_that_hangs_is_ended_within_the_limit_and_leaves_no_process(host: FakeHost) -> None:
    host.install_qemu(f"echo $$ >{host.directory}/pid; exec sleep 600")
    started = time.monotonic()

    accelerator = probe_accelerator(host.cache, device=host.device, limit_s=0.5)

    assert time.monotonic() - started < 3
    assert "not up after 0.5 s" in accelerator.reason
    with pytest.raises(ProcessLookupError):
        os.kill(int((host.directory / "pid").read_text()), 0)


def test_no_guest_is_tried_without_a_device(host: FakeHost) -> None:
    host.install_qemu(GOOD_GUEST)
    host.device.unlink()

    accelerator = probe_accelerator(host.cache, device=host.device)

    assert accelerator.name == "tcg"
    assert not (host.directory / "started").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open any device")
def test_a_device_that_one_may_not_use_comes_with_the_way_to_mend_it(host: FakeHost) -> None:
    host.device.chmod(0)

    accelerator = probe_accelerator(host.cache, device=host.device)

    assert accelerator.name == "tcg"
    assert accelerator.fix == 'sudo usermod -aG kvm "$USER", then log out and in again'


def test_emulation_is_chosen_without_qemu(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(host.directory / "bin"))

    accelerator = probe_accelerator(host.cache, device=host.device)

    assert accelerator.fix == "apt-get install qemu-system-x86"


def test_emulation_is_chosen_without_a_kernel_to_try(host: FakeHost) -> None:
    host.install_qemu(GOOD_GUEST)
    (host.directory / "kernel").unlink()

    accelerator = probe_accelerator(host.cache, device=host.device)

    assert accelerator.name == "tcg"
    assert "no readable kernel" in accelerator.reason


def test_the_answer_is_remembered(host: FakeHost) -> None:
    host.install_qemu(GOOD_GUEST)
    first = probe_accelerator(host.cache, device=host.device)

    second = probe_accelerator(host.cache, device=host.device)

    assert (second.name, second.probed_s, second.cached) == ("kvm", first.probed_s, True)
    assert len(host.started()) == 1


def test_the_memory_can_be_renewed(host: FakeHost) -> None:
    host.install_qemu("exit 1")
    probe_accelerator(host.cache, device=host.device)
    (host.directory / "started").unlink()

    again = probe_accelerator(host.cache, device=host.device, memory="renew")

    assert not again.cached
    assert len(host.started()) == 1


def test_another_qemu_is_tried_anew(host: FakeHost) -> None:
    host.install_qemu("exit 1")
    probe_accelerator(host.cache, device=host.device)
    host.install_qemu(GOOD_GUEST)

    accelerator = probe_accelerator(host.cache, device=host.device)

    assert accelerator.name == "kvm"


def test_a_device_made_anew_is_tried_anew(host: FakeHost) -> None:
    host.install_qemu(GOOD_GUEST)
    probe_accelerator(host.cache, device=host.device)
    (host.directory / "other").touch()
    (host.directory / "other").rename(host.device)

    accelerator = probe_accelerator(host.cache, device=host.device)

    assert not accelerator.cached


def test_a_restart_of_the_machine_is_tried_anew(host: FakeHost) -> None:
    host.install_qemu(GOOD_GUEST)
    probe_accelerator(host.cache, device=host.device)
    memory = host.cache / "accelerator.json"
    kept = json.loads(memory.read_text())
    memory.write_text(json.dumps({**kept, "question": {**kept["question"], "boot": "an earlier one"}}))

    accelerator = probe_accelerator(host.cache, device=host.device)

    assert not accelerator.cached


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"question": 1}', '{"question": {}, "answer": {}}'])
def test_a_damaged_memory_is_replaced(host: FakeHost, damage: str) -> None:
    host.install_qemu(GOOD_GUEST)
    host.cache.mkdir()
    (host.cache / "accelerator.json").write_text(damage)

    probe_accelerator(host.cache, device=host.device)

    assert probe_accelerator(host.cache, device=host.device).cached
    assert [path.name for path in host.cache.iterdir()] == ["accelerator.json"]


def test_a_cache_that_cannot_be_written_does_not_stop_the_probe(host: FakeHost) -> None:
    host.install_qemu(GOOD_GUEST)
    host.cache.touch()

    accelerator = probe_accelerator(host.cache, device=host.device)

    assert accelerator.name == "kvm"


def test_the_newest_kernel_with_modules_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPERMIN_KERNEL", raising=False)
    monkeypatch.delenv("LIBGUESTFS_PATH", raising=False)
    older, newer = make_kernel(tmp_path, "6.1.0-9-amd64"), make_kernel(tmp_path, "6.1.0-56-amd64")
    (tmp_path / "boot" / "vmlinuz-6.12.0-1-amd64").touch()

    kernels = list(find_kernels(boot=tmp_path / "boot", modules=tmp_path / "modules"))

    assert kernels == [newer, older]


def test_the_kernel_of_a_ready_made_appliance_comes_before_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernel").touch()
    monkeypatch.setenv("LIBGUESTFS_PATH", f"/nowhere:{tmp_path}")
    monkeypatch.setenv("SUPERMIN_KERNEL", "/boot/mine")

    kernels = list(find_kernels())

    assert kernels == [tmp_path / "kernel", Path("/boot/mine")]


@pytest.mark.parametrize(
    ("accelerator", "set_by_user", "settings"),
    [
        (KVM, "", None),
        (KVM, "network_bridge=br0", "network_bridge=br0"),
        (TCG, "", "force_tcg"),
        (TCG, "network_bridge=br0", "network_bridge=br0:force_tcg"),
        (TCG, "force_tcg", "force_tcg"),
        (TCG, "force_kvm", "force_kvm"),
    ],
)
def test_the_users_backend_settings_are_kept(
    accelerator: Accelerator, set_by_user: str, settings: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBGUESTFS_BACKEND_SETTINGS", set_by_user)

    environment = appliance_environment(accelerator)

    assert environment.get("LIBGUESTFS_BACKEND_SETTINGS") == settings


def test_the_backend_is_direct_unless_the_user_chose_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIBGUESTFS_BACKEND", raising=False)
    unset = appliance_environment(TCG)
    monkeypatch.setenv("LIBGUESTFS_BACKEND", "libvirt")

    chosen = appliance_environment(TCG)

    assert (unset["LIBGUESTFS_BACKEND"], chosen["LIBGUESTFS_BACKEND"]) == ("direct", "libvirt")


def test_qemu_is_told_the_accelerator_and_the_model_that_was_probed() -> None:
    assert qemu_accelerator_options(KVM) == ["-accel", "kvm", "-cpu", "max,la57=off"]
    assert qemu_accelerator_options(TCG) == ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"]


@pytest.mark.appliance
def test_the_test_guest_comes_up_under_emulation() -> None:
    kernel = next(find_kernels())

    took_s = boot_test_guest("tcg", kernel, limit_s=60)

    assert 0 < took_s < 60


@pytest.mark.appliance
def test_a_file_that_is_no_kernel_does_not_pass_for_a_guest(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"\xeb\xfe" * 512)

    with pytest.raises(BuildError, match="test guest"):
        boot_test_guest("tcg", tmp_path / "kernel", limit_s=2)


@pytest.mark.appliance
def test_the_real_probe_answers_in_time_and_remembers(tmp_path: Path) -> None:
    started = time.monotonic()
    first = probe_accelerator(tmp_path)
    took_s = time.monotonic() - started

    second = probe_accelerator(tmp_path)

    assert took_s < 8
    assert (first.name, first.reason) == (second.name, second.reason)
