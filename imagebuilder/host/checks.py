"""Checks that this machine has what a build needs, each with what was found and how to mend it.

Every check really tries the thing, where that takes no more than a moment, within a time limit and off the network.
"""

import getpass
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imagebuilder.errors import BuildError, HostError
from imagebuilder.host.accelerator import Accelerator, appliance_environment, find_kernels
from imagebuilder.programs import run_program

State = Literal["ok", "warning", "failed"]

# The first build of all: a Debian tree and its packages (0.8 GB), the base (0.5), libguestfs's appliance (0.4), and
# as much again while they are made. Later builds need some megabytes.
_SPACE_WANTED = 3 << 30
# Below this not even the appliance and the images' overlays fit.
_SPACE_NEEDED = 512 << 20

# A program that says its version takes milliseconds, importing guestfs from a cold disk half a second.
_MOMENT_S = 10.0
# A launch takes 15 s under TCG on a quiet machine, 40 beside three other guests; building the appliance 5 more.
_LAUNCH_LIMIT_S = 120

# sfdisk, mke2fs: the disk; mmdebstrap: the tree; QEMU: libguestfs's appliance and the rehearsal.
_PROGRAMS = (
    ("qemu-system-x86_64", "--version"),
    ("qemu-img", "--version"),
    ("mmdebstrap", "--version"),
    ("sfdisk", "--version"),
    ("mke2fs", "-V"),
)

# Only a rehearsal needs these: addresses and scans on its networks, what was seen on them, and a login.
_REHEARSAL_PROGRAMS = (
    ("ip", "-V"),
    ("dnsmasq", "--version"),
    ("nmap", "--version"),
    ("tcpdump", "--version"),
    ("ssh", "-V"),
)
_REHEARSAL_NETWORK = b"link add private type bridge\ntuntap add dev tap0 mode tap\nlink set tap0 master private\n"

# Only `imgbuild xen --host` needs these.
_COPYING_PROGRAMS = (("rsync", "--version"), ("ssh", "-V"))

# Run in a child: a binding made for another Python can end its process, and only one module here imports guestfs.
_ASK_BINDING = """
import json, guestfs
g = guestfs.GuestFS(python_return_dict=True)
v = g.version()
print(json.dumps({
    "version": f"{v['major']}.{v['minor']}.{v['release']}",
    "appliance_path": g.get_path(),
    "cache_directory": g.get_cachedir(),
    "temporary_directory": g.get_tmpdir(),
}))
"""


@dataclass(frozen=True, kw_only=True)
class HostCheck:
    """One thing a build needs: what was found, and how to mend it unless it is well."""

    name: str
    state: State
    found: str
    fix: str | None = None


@dataclass(frozen=True, kw_only=True)
class Binding:
    """What the libguestfs of this Python says of itself."""

    version: str
    appliance_path: str
    cache_directory: str
    temporary_directory: str


def check_host(
    store: Path, accelerator: Accelerator, *, launch: Literal["skip", "try"] = "skip"
) -> tuple[HostCheck, ...]:
    """Everything a build needs, in the order in which it needs it.

    `launch="try"` also starts libguestfs's appliance, which takes up to `_LAUNCH_LIMIT_S` seconds.
    """
    python = HostCheck(name="Python", state="ok", found=f"{platform.python_version()}, {sys.executable}")
    binding = ask_binding()
    checks = [python, check_binding(binding), check_kernel(), check_appliance(binding)]
    if launch == "try":
        checks.append(check_launch(accelerator))
    checks += [check_accelerator(accelerator), *check_programs(), check_user_namespaces(os.geteuid())]
    checks += [check_rehearsal(os.geteuid()), check_copying()]
    directories = [store]
    if isinstance(binding, Binding):
        directories += [Path(binding.cache_directory), Path(binding.temporary_directory)]
    return (*checks, *check_space(directories))


def ask_binding() -> Binding | BuildError:
    """What libguestfs says of itself, or why it cannot be asked."""
    try:
        return Binding(**json.loads(run_program([sys.executable, "-c", _ASK_BINDING], timeout_s=_MOMENT_S)))
    except BuildError as error:
        return error


def check_binding(binding: Binding | BuildError) -> HostCheck:
    """Whether this Python can use libguestfs."""
    match binding:
        case Binding(version=version):
            return HostCheck(name="libguestfs", state="ok", found=version)
        case BuildError():
            return HostCheck(
                name="libguestfs",
                state="failed",
                found=f"{sys.executable} cannot use it: {binding.what}",
                fix="apt-get install python3-guestfs; a virtual environment must be one of /usr/bin/python3, made "
                "with --system-site-packages",
            )


def check_kernel(*, boot: Path = Path("/boot"), modules: Path = Path("/lib/modules")) -> HostCheck:
    """Whether the kernel that the appliance would be built with can be read (Ubuntu installs it for root only)."""
    kernel = next(find_kernels(boot=boot, modules=modules), None)
    if kernel is None:
        return HostCheck(
            name="kernel",
            state="failed",
            found=f"libguestfs needs one to boot: none in {boot} that has its modules in {modules}",
            fix="apt-get install linux-image-cloud-amd64",
        )
    if os.access(kernel, os.R_OK):
        return HostCheck(name="kernel", state="ok", found=str(kernel))
    if kernel.exists():
        fix = f"sudo dpkg-statoverride --update --add root root 0644 {kernel}"
    else:
        fix = "set SUPERMIN_KERNEL to a kernel, or unset it"
    return HostCheck(name="kernel", state="failed", found=f"you cannot read {kernel}", fix=fix)


def check_appliance(binding: Binding | BuildError) -> HostCheck:
    """Whether libguestfs has its appliance, or can build it."""
    name = "appliance"
    if isinstance(binding, BuildError):
        return HostCheck(name=name, state="failed", found="no libguestfs to ask", fix="mend libguestfs first")
    parts = [Path(part) for part in binding.appliance_path.split(":") if part]
    for part in parts:
        if (part / "README.fixed").exists():
            return HostCheck(name=name, state="ok", found=f"ready-made, in {part}")
    if not any((part / "supermin.d").is_dir() for part in parts) or shutil.which("supermin") is None:
        found = f"supermin or its input is missing (looked in {binding.appliance_path})"
        return HostCheck(name=name, state="failed", found=found, fix="apt-get install libguestfs0 supermin")
    built = Path(binding.cache_directory, f".guestfs-{os.geteuid()}", "appliance.d")
    if (built / "root").exists():
        return HostCheck(name=name, state="ok", found=f"built, in {built}")
    return HostCheck(name=name, state="ok", found="not built yet: the first launch does it, in some seconds")


def check_launch(accelerator: Accelerator) -> HostCheck:
    """Whether the appliance starts and answers, tried by libguestfs's own test."""
    name = "launch"
    started = time.monotonic()
    try:
        run_program(["libguestfs-test-tool"], environment=appliance_environment(accelerator), timeout_s=_LAUNCH_LIMIT_S)
    except HostError as error:
        return HostCheck(name=name, state="warning", found=error.what, fix="apt-get install libguestfs-tools")
    except BuildError as error:
        return HostCheck(name=name, state="failed", found=error.what, fix="read what libguestfs-test-tool prints")
    return HostCheck(name=name, state="ok", found=f"the appliance was up in {time.monotonic() - started:.0f} s")


def check_accelerator(accelerator: Accelerator) -> HostCheck:
    """What the probe of KVM found; TCG is slower but enough."""
    remembered = ", remembered from an earlier trial" if accelerator.cached else ""
    if accelerator.name == "kvm":
        return HostCheck(name="KVM", state="ok", found=accelerator.reason + remembered)
    found = f"{accelerator.reason}{remembered}; guests are emulated (TCG)"
    return HostCheck(name="KVM", state="warning", found=found, fix=accelerator.fix)


def check_programs() -> Iterator[HostCheck]:
    """Whether each program that is run is there and starts."""
    for program, version in _PROGRAMS:
        try:
            said = run_program([program, version], timeout_s=_MOMENT_S).splitlines()
        except HostError as error:
            yield HostCheck(name=program, state="failed", found="not installed", fix=error.fix)
        except BuildError as error:
            yield HostCheck(name=program, state="failed", found=error.what, fix="install its package again")
        else:
            yield HostCheck(name=program, state="ok", found=said[0] if said else "starts")


def check_user_namespaces(user_id: int) -> HostCheck:
    """Whether mmdebstrap can make a tree with many owners: as root with mounts of its own, else with 65536 ids."""
    name = "namespaces"
    if user_id == 0:
        return _try_namespaces_of_root(name)
    try:
        run_program(["newuidmap", "--help"], timeout_s=_MOMENT_S)
    except HostError as error:
        return HostCheck(name=name, state="failed", found=error.what, fix=error.fix)
    except BuildError:
        pass  # it has no option that succeeds; that it starts is enough
    return _try_user_namespaces(name)


def check_rehearsal(user_id: int) -> HostCheck:
    """Whether `imgbuild rehearse` can make its networks; a build does without."""
    name = "rehearsal"
    own = [] if user_id == 0 else ["--user", "--map-root-user"]
    try:
        for program, version in _REHEARSAL_PROGRAMS:
            run_program([program, version], timeout_s=_MOMENT_S)
        run_program(["unshare", *own, "--net", "ip", "-batch", "-"], stdin=_REHEARSAL_NETWORK, timeout_s=_MOMENT_S)
    except HostError as error:
        return HostCheck(name=name, state="warning", found=f"not possible: {error.what}", fix=error.fix)
    except BuildError as error:
        fix = "sudo modprobe bridge tun; let users have network namespaces and /dev/net/tun, or run as root"
        return HostCheck(name=name, state="warning", found=f"no bridge in a network namespace: {error.what}", fix=fix)
    return HostCheck(name=name, state="ok", found="bridges and tap devices in a namespace of their own")


def check_copying() -> HostCheck:
    """Whether `imgbuild xen --host` can copy to a dom0; a build does without."""
    name = "copies"
    try:
        said = [run_program([program, version], timeout_s=_MOMENT_S) for program, version in _COPYING_PROGRAMS]
    except (HostError, BuildError) as error:
        return HostCheck(name=name, state="warning", found=f"none to a dom0: {error.what}", fix=error.fix)
    return HostCheck(name=name, state="ok", found=f"{' '.join(said[0].split()[:3])}, over ssh")


def check_space(directories: list[Path]) -> Iterator[HostCheck]:
    """Whether the file systems of `directories` have room for a first build; one check each."""
    by_device: dict[int, list[Path]] = {}
    for directory in dict.fromkeys(directories):
        by_device.setdefault(_existing(directory).stat().st_dev, []).append(directory)
    for together in by_device.values():
        names = ", ".join(map(str, together))
        free = min(shutil.disk_usage(_existing(directory)).free for directory in together)
        barred = [directory for directory in together if not os.access(_existing(directory), os.W_OK | os.X_OK)]
        found = f"{free / (1 << 30):.1f} GiB free for {names}"
        if barred:
            fix = "choose a directory of yours: --store DIR, TMPDIR for the others"
            yield HostCheck(name="disk", state="failed", found=f"you cannot write to {barred[0]}", fix=fix)
        elif free >= _SPACE_WANTED:
            yield HostCheck(name="disk", state="ok", found=found)
        else:
            state: State = "warning" if free >= _SPACE_NEEDED else "failed"
            fix = "a first build wants 3 GiB: imgbuild clean, or --store DIR, or TMPDIR on a larger disk"
            yield HostCheck(name="disk", state=state, found=found, fix=fix)


def _try_namespaces_of_root(name: str) -> HostCheck:
    try:
        run_program(["unshare", "--mount", "--pid", "--fork", "true"], timeout_s=_MOMENT_S)
    except BuildError as error:
        fix = "run outside any container or chroot, or in a container that has CAP_SYS_ADMIN"
        return HostCheck(name=name, state="failed", found=f"root gets none: {error.what}", fix=fix)
    return HostCheck(name=name, state="ok", found="root has what mmdebstrap needs")


def _try_user_namespaces(name: str) -> HostCheck:
    user = getpass.getuser()
    attempts = (
        (
            ["--user", "--map-root-user", "true"],
            "the kernel refuses them",
            "sudo sysctl user.max_user_namespaces=10000 (Ubuntu: kernel.apparmor_restrict_unprivileged_userns=0)",
        ),
        (
            ["--user", "--map-root-user", "--map-auto", "true"],
            f"{user} has no range of ids of its own in /etc/subuid and /etc/subgid",
            f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
        ),
    )
    for options, found, fix in attempts:
        try:
            run_program(["unshare", *options], timeout_s=_MOMENT_S)
        except BuildError as error:
            return HostCheck(name=name, state="failed", found=f"{found} ({error.what})", fix=fix)
    return HostCheck(name=name, state="ok", found=f"{user} can make them and has ids to map")


def _existing(directory: Path) -> Path:
    """`directory`, or the nearest of its parents that is there yet."""
    path = directory.absolute()
    while not path.exists():
        path = path.parent
    return path
