"""Lets a command act as root on files, even if it is not, in namespaces of its own; cleans up after it."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from imagebuilder.errors import BuildError, HostError
from imagebuilder.programs import run_program


def namespace(*, log: Path) -> tuple[str, ...]:
    """The words before a command that let it act as root on files, and that end it whenever this process ends.

    For root a mount and a process namespace; for others also a user namespace, in which they are root and their
    subordinate ids are everyone else. So every mount and every process that mmdebstrap leaves behind goes with it.
    Raises HostError if the host has no namespaces for us.
    """
    enter = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]
    if os.geteuid() != 0:
        enter += ["--map-root-user", "--map-auto"]
    try:
        run_program([*enter, "true"], log=log)
    except BuildError as error:
        fix = namespace_fix(error.what, as_root=os.geteuid() == 0)
        raise HostError(f"cannot make namespaces ({error.what})", fix=fix) from error
    return tuple(enter)


def namespace_fix(said: str, *, as_root: bool) -> str:
    """How to mend that unshare(1) makes no namespaces, by what it said."""
    if as_root:
        return "run outside any container, or in one that has CAP_SYS_ADMIN"
    if "subuid" in said or "subgid" in said or "uidmap" in said or "gidmap" in said:
        return "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER, or run as root"
    return (
        "let users have user namespaces (sysctl user.max_user_namespaces=10000; on some hosts also "
        "kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0), or run as root"
    )


def remove(directory: Path, *, enter: Sequence[str], log: Path) -> None:
    """Remove `directory`, whosever its files are in the namespace.

    After an interruption the last processes of a namespace may write there for a moment: hence several tries.
    """
    for pause_s in (0.1, 0.5, 2.0):
        with suppress(BuildError):
            run_program([*enter, "rm", "-rf", "--one-file-system", directory], log=log)
            return
        time.sleep(pause_s)
    run_program([*enter, "rm", "-rf", "--one-file-system", directory], log=log)
