"""The real xl, asked whether it understands a configuration: `xl -N create FILE`, which creates nothing.

In a dom0 that is all. Elsewhere xl would give up for want of a hypervisor before it reads the file; a small library
(no_hypervisor.c) is put before it, which says that there is one.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from imagebuilder.errors import HostError
from imagebuilder.programs import ask_program, run_program

_SOURCE = Path(__file__).parent / "no_hypervisor.c"
_CAPABILITIES = Path("/proc/xen/capabilities")
_PROGRAMS = Path("/usr/lib")
# What xl says of every file; the second only where Xen is not set up.
_HARMLESS = ("Parsing config from ", "Failed to read config file: /etc/xen/xl.conf")
_TIME_LIMIT_S = 30
_PROBE = 'name = "probe"\nmemory = 64\nkernel = "/vmlinuz"\n'


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What xl made of a file: whether it took it, what it said, and the guest as JSON, empty if it did not."""

    accepted: bool
    messages: tuple[str, ...]
    json: str


@dataclass(frozen=True, kw_only=True)
class Xl:
    """An xl that can be asked; made by `find_xl`."""

    program: Path
    environment: Mapping[str, str]

    def read(self, configuration: Path) -> Reading:
        """Have it read a configuration. Raises BuildError if it does not answer in time."""
        argv: list[str | Path] = [self.program, "-N", "create", configuration.absolute()]
        answer = ask_program(argv, environment=self.environment, timeout_s=_TIME_LIMIT_S)
        lines = answer.trouble.decode(errors="replace").splitlines()
        return Reading(
            accepted=answer.exit_code == 0,
            messages=tuple(line for line in lines if line.strip() and not line.startswith(_HARMLESS)),
            json=answer.output.decode(errors="replace") if answer.exit_code == 0 else "",
        )


def is_dom0() -> bool:
    """Whether this machine is the one that runs Xen's guests."""
    try:
        return "control_d" in _CAPABILITIES.read_text(encoding="ascii")
    except OSError:
        return False


def find_xl(cache_directory: Path) -> Xl:
    """The xl of this machine. Outside of a dom0 a library for it is compiled, once, into `cache_directory`.

    Raises HostError if there is no xl, no compiler, or no right to use xl in a dom0.
    """
    # The newest of several; /usr/sbin/xl would choose by the running hypervisor.
    programs = sorted(_PROGRAMS.glob("xen-[0-9]*/bin/xl"))
    if not programs:
        raise HostError("there is no xl on this machine", fix="apt-get install xen-utils-4.17 gcc")
    if is_dom0():
        if os.geteuid() != 0:
            raise HostError("xl is for root only in a dom0", fix="run this as root")
        return Xl(program=programs[-1], environment={})
    library = _library(cache_directory)
    # By its name: a blank in a path would be the end of it in LD_PRELOAD.
    xl = Xl(program=programs[-1], environment={"LD_PRELOAD": library.name, "LD_LIBRARY_PATH": str(library.parent)})
    _prove(xl, cache_directory)
    return xl


def _library(cache_directory: Path) -> Path:
    """The compiled no_hypervisor.c."""
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    library = cache_directory / f"xl-no-hypervisor-{digest}.so"
    if not library.is_file():
        cache_directory.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache_directory) as folder:
            new = Path(folder, library.name)
            run_program(["cc", "-shared", "-fPIC", "-nostdlib", "-O", "-o", new, _SOURCE], timeout_s=60)
            new.replace(library)
    return library


def _prove(xl: Xl, cache_directory: Path) -> None:
    """Raise HostError if it refuses a sound file: an xl of another version may want more of its hypervisor."""
    with TemporaryDirectory(dir=cache_directory) as folder:
        file = Path(folder, "probe.cfg")
        file.write_text(_PROBE, encoding="ascii")
        reading = xl.read(file)
    if not reading.accepted or reading.messages:
        said = "; ".join(reading.messages) or "no message"
        what = f"{xl.program} reads no configuration without a hypervisor: {said}"
        raise HostError(what, fix="apt-get install xen-utils-4.17, or check the file in a dom0")
