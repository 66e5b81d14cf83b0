"""Finds out whether KVM really runs a guest on this machine, and what QEMU and libguestfs are told accordingly.

A /dev/kvm that opens proves nothing: under some nested hypervisors it opens, QEMU starts, and the guest aborts,
hangs, or crawls for minutes; `accel=kvm:tcg` then neither fails nor falls back. So the probe boots a kernel, the
one libguestfs would boot, without any disk; KVM works if that kernel comes to its natural end in time: the panic
for want of a root file system. TCG takes about two seconds for it, and a KVM that needs more than twice as long
is of no use even if it would get there.

Why no hand-made guest of a few instructions, which needs no kernel: one was tried on a machine whose KVM cannot
boot Linux. It reached long mode and ended with success in 1.5 s; only with a `lock cmpxchg16b` in it did it fail.
Such a guest tests what its author thought of, a kernel what kernels do: timers, MSRs, page tables, decompression.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from imagebuilder.errors import BuildError
from imagebuilder.programs import DEBIAN_PACKAGE, run_program

QEMU = "qemu-system-x86_64"

# Over twice what TCG needs, many times what a working KVM does: room for a busy machine, and no long wait.
PROBE_LIMIT_S = 5.0

# libguestfs asks for this model under both accelerators, so one probe speaks for its appliance and for our guests.
# Under KVM `max` is `host`.
_CPU = ("-cpu", "max,la57=off")

_OPTIONS = {
    "kvm": ("-accel", "kvm", *_CPU),
    "tcg": ("-accel", "tcg,thread=multi", *_CPU),
}

# The kernel's last words when it found all its devices but no root file system.
_KERNEL_IS_UP = "Unable to mount root fs"

_KVM_DEVICE = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

AcceleratorName = Literal["kvm", "tcg"]


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """How guests run on this machine, with one sentence that says why and, if it is not KVM, how to get there."""

    name: AcceleratorName
    reason: str
    fix: str | None = None
    probed_s: float = 0.0  # what the trial took, also when it is remembered; 0 if none was needed
    cached: bool = False


def probe_accelerator(
    cache_directory: Path,
    *,
    memory: Literal["use", "renew"] = "use",
    device: Path = _KVM_DEVICE,
    limit_s: float = PROBE_LIMIT_S,
) -> Accelerator:
    """KVM if a guest really runs in it, else TCG; answers within `limit_s` seconds, or at once from its memory.

    A trial's outcome is kept in `cache_directory` and holds for this boot of the machine, this /dev/kvm, this QEMU
    and this kernel; `memory="renew"` tries again. Never raises for what it finds: without KVM, TCG does.
    """
    if trouble := _trouble_with_device(device):
        return trouble
    qemu = shutil.which(QEMU)
    if qemu is None:
        return _emulation(f"{QEMU} is not installed", fix=f"apt-get install {DEBIAN_PACKAGE[QEMU]}")
    kernel = next((path for path in find_kernels() if os.access(path, os.R_OK)), None)
    if kernel is None:
        return _emulation("there is no readable kernel to try KVM with", fix="mend what the check of the kernel says")
    question = {
        "boot": _BOOT_ID.read_text().strip(),
        "device": device.stat().st_ino,  # a new one each time the module is loaded
        "qemu": _fingerprint(Path(qemu)),
        "kernel": _fingerprint(kernel),
    }
    store = cache_directory / "accelerator.json"
    if memory == "use" and (known := _recall(store, question)):
        return known
    accelerator = _try_kvm(kernel, limit_s)
    _remember(store, question, accelerator)
    return accelerator


def boot_test_guest(name: AcceleratorName, kernel: Path, *, limit_s: float) -> float:
    """Boot `kernel` with no disk to its end and return the seconds it took.

    Raises BuildError if it does not get there within `limit_s` seconds. The guest has no network, writes nothing,
    and ends with this process, even if that is killed.
    """
    started = time.monotonic()
    try:
        printed = run_program(
            ["setpriv", "--pdeathsig", "KILL", QEMU, *_OPTIONS[name], *_test_guest(kernel)], timeout_s=limit_s
        )
    except BuildError as error:
        if time.monotonic() - started >= limit_s:
            raise BuildError(f"a test guest was not up after {limit_s:g} s") from error
        raise BuildError(f"QEMU gave up on a test guest: {error.what}") from error
    if _KERNEL_IS_UP not in printed:
        raise BuildError("a test guest was reset before its kernel was up")
    return time.monotonic() - started


def find_kernels(*, boot: Path = Path("/boot"), modules: Path = Path("/lib/modules")) -> Iterator[Path]:
    """Kernels in the order in which libguestfs (supermin 5.2) prefers them, readable or not.

    A ready-made appliance in LIBGUESTFS_PATH comes first, SUPERMIN_KERNEL next; of the others the newest that has
    its modules. supermin takes its first choice and fails if it cannot read it.
    """
    for directory in os.environ.get("LIBGUESTFS_PATH", "").split(":"):
        if directory and (fixed := Path(directory, "kernel")).exists():
            yield fixed
    if chosen := os.environ.get("SUPERMIN_KERNEL"):
        yield Path(chosen)
        return
    yield from sorted(modules.glob("*/vmlinuz"), key=lambda path: _version(path.parent.name), reverse=True)
    for path in sorted(boot.glob("vmlinu[xz]-*"), key=lambda path: _version(path.name), reverse=True):
        if "xen" not in path.name and (modules / path.name[len("vmlinuz-") :] / "modules.dep").exists():
            yield path


def appliance_environment(accelerator: Accelerator) -> dict[str, str]:
    """The variables libguestfs is to be started with; what the user set stays as it is.

    The direct backend, because Debian's libvirt one needs a daemon; `force_tcg` is added where KVM does not work
    and the user's own settings do not say which accelerator to force.
    """
    settings = [word for word in os.environ.get("LIBGUESTFS_BACKEND_SETTINGS", "").split(":") if word]
    if accelerator.name == "tcg" and not {"force_tcg", "force_kvm"} & set(settings):
        settings.append("force_tcg")
    environment = {"LIBGUESTFS_BACKEND": os.environ.get("LIBGUESTFS_BACKEND", "direct")}
    if settings:
        environment["LIBGUESTFS_BACKEND_SETTINGS"] = ":".join(settings)
    return environment


def qemu_accelerator_options(accelerator: Accelerator) -> list[str]:
    """The options that make QEMU run a guest this way."""
    return list(_OPTIONS[accelerator.name])


def _emulation(reason: str, *, fix: str) -> Accelerator:
    return Accelerator(name="tcg", reason=reason, fix=fix)


def _trouble_with_device(device: Path) -> Accelerator | None:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return _emulation(
            f"this machine has no {device}",
            fix="enable virtualisation in the firmware (a virtual machine: nested virtualisation on its host), "
            "then modprobe kvm_intel or kvm_amd",
        )
    except PermissionError:
        return _emulation(f"you may not use {device}", fix='sudo usermod -aG kvm "$USER", then log out and in again')
    except OSError as error:
        return _emulation(f"{device} does not open: {error.strerror}", fix="modprobe kvm_intel or kvm_amd")
    return None


def _try_kvm(kernel: Path, limit_s: float) -> Accelerator:
    started = time.monotonic()
    try:
        took_s = boot_test_guest("kvm", kernel, limit_s=limit_s)
    except BuildError as error:
        return Accelerator(
            name="tcg",
            reason=f"KVM is there but does not run guests: {error.what}",
            fix="none is needed, emulation is only slower; if this is a virtual machine, nested virtualisation is "
            "for its host to mend: then imgbuild doctor --launch",
            probed_s=round(time.monotonic() - started, 2),
        )
    return Accelerator(name="kvm", reason=f"a test guest was up in {took_s:.1f} s", probed_s=round(took_s, 2))


def _test_guest(kernel: Path) -> tuple[str, ...]:
    return (
        *("-nodefaults", "-no-user-config", "-machine", "pc", "-m", "256", "-display", "none", "-serial", "stdio"),
        *("-no-reboot", "-kernel", str(kernel)),
        # panic=-1: restart at once, which -no-reboot turns into an exit; quiet: each character is an exit to QEMU
        *("-append", "console=ttyS0 panic=-1 quiet"),
    )


def _version(name: str) -> list[tuple[int, str]]:
    """A key that sorts 6.1.0-9 before 6.1.0-56."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in re.findall(r"\d+|\D+", name)]


def _fingerprint(path: Path) -> list[str | int]:
    status = path.stat()
    return [str(path), status.st_mtime_ns, status.st_size]


def _recall(store: Path, question: dict[str, object]) -> Accelerator | None:
    with suppress(OSError, ValueError, TypeError, KeyError):  # an unreadable memory is no memory
        kept = json.loads(store.read_text())
        if kept["question"] == question:
            return replace(Accelerator(**kept["answer"]), cached=True)
    return None


def _remember(store: Path, question: dict[str, object], accelerator: Accelerator) -> None:
    unfinished = store.with_suffix(f".{os.getpid()}")
    with suppress(OSError):  # a cache that cannot be written costs another trial, no more
        store.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps({"question": question, "answer": asdict(accelerator)}, indent=1))
        unfinished.replace(store)
