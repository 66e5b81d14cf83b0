"""Brings an exported folder into a dom0, over ssh: rsync copies it, its sums are checked there, ./start starts it.

How to log in is a matter of the user's ssh: names, ports, keys and known hosts stand in ~/.ssh/config, and no
question is ever asked (BatchMode). The folder is copied as NAME.part, which stays when the connection breaks, so that
the next copy sends only the rest; it gets its name when sha256sum has found it whole.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imagebuilder.errors import CheckError, RemoteError, UsageError
from imagebuilder.programs import Answer, ask_program
from imagebuilder.xen.export import SUMS, Export, allocated_bytes, file_digest, was_used

DEFAULT_DIRECTORY = "imgbuild"

_RECEIVE = Path(__file__).parent / "scripts" / "receive.sh"

# Instead of these, a connection that died would be noticed after hours or never: 20 s to connect, a minute of silence.
# A connection that is shared (ControlPath) is used, but none is made for others: it would outlive this program.
_SSH_OPTIONS = (
    *("BatchMode=yes", "ControlMaster=no"),
    *("ConnectTimeout=20", "ServerAliveInterval=15", "ServerAliveCountMax=4"),
)

# What ssh ends with if it is at fault itself: see EXIT STATUS in ssh(1).
_SSH_FAILED = 255
# What receive.sh ends with.
_FOREIGN, _RUNNING, _BARRED, _LACKING, _FULL, _DIFFERENT, _NOT_STARTED = range(41, 48)
_SAID = "imgbuild: "

# --inplace keeps what has come when the copy is cut off, --sparse leaves holes (together: rsync 3.1.3 of 2018, on both
# sides); --secluded-args, once --protect-args, spares the remote shell the names.
_RSYNC = ("rsync", "-s", "-rlpt", "--delete", "--inplace", "--sparse", "--compress")

_DESTINATION = re.compile(
    r"(?P<user>[^@:/\s-][^@:/\s]*@)?(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^@:/\s\[\]-][^@:/\s\[\]]*)(?::(?P<directory>(?!:).*))?"
)


@dataclass(frozen=True, kw_only=True)
class Dom0:
    """A host to copy to: what ssh calls it, and the directory there, relative to the login directory or absolute."""

    user: str
    host: str
    directory: str
    ssh_config: Path | None = None

    @property
    def login(self) -> str:
        """USER@HOST, as ssh takes it."""
        return f"{self.user}{self.host.strip('[]')}"

    def __str__(self) -> str:
        return f"{self.user}{self.host}:{self.directory}"


def parse_dom0(text: str, ssh_config: Path | None = None) -> Dom0:
    """What `[USER@]HOST[:DIRECTORY]` means; an IPv6 address stands in brackets. Raises UsageError."""
    match = _DESTINATION.fullmatch(text)
    if match is None:
        raise UsageError(f"'{text}' is no host", fix="write USER@HOST or USER@HOST:DIRECTORY")
    directory = (match["directory"] or DEFAULT_DIRECTORY).removeprefix("~/").rstrip("/") or "/"
    if directory.startswith("~"):
        fix = "write it absolute, or relative to the login directory"
        raise UsageError(f"'{directory}' is a directory that only a shell there would find", fix=fix)
    return Dom0(user=match["user"] or "", host=match["host"], directory=directory, ssh_config=ssh_config)


@dataclass(frozen=True, kw_only=True)
class Copied:
    """A whole folder in a dom0; `kept` is the name of an earlier one there that the machine has run on."""

    folder: str
    outcome: Literal["copied", "unchanged"]
    kept: str | None = None


def copy_to_dom0(export: Export, dom0: Dom0) -> Copied:
    """Bring the folder of a machine into `dom0`, unless the same is there already, and have its sums checked there.

    A folder that was there gives way, as in `export`. Raises CheckError if a machine has run on the disk here, and
    RemoteError if the host cannot be reached or lacks something, if its disk is full, if the machine runs there, and
    if the copy is twice not what it should be. What was copied stays, as NAME.part, only where the next copy can go
    on with it.
    """
    if was_used(export.folder):
        fix = "export into another directory"
        raise CheckError("a machine has run on its disk, which is not what was exported", where=export.folder, fix=fix)
    folder = f"{dom0.directory}/{export.name}"
    needed_kib = allocated_bytes(export.folder) // 1024
    said = _receive("look", export.name, dom0, file_digest(export.folder / SUMS), str(needed_kib))
    if said == "present":
        return Copied(folder=folder, outcome="unchanged")
    _send(export, dom0)
    try:
        kept = _receive("place", export.name, dom0)
    except DifferentError:
        # What it finds different by its content it sends again, not only what differs in size or time.
        _send(export, dom0, "--checksum")
        kept = _place_or_discard(export, dom0)
    return Copied(folder=folder, outcome="copied", kept=f"{dom0.directory}/{kept}" if kept else None)


def start_in_dom0(name: str, dom0: Dom0) -> str:
    """Start a machine whose folder is in `dom0`; what ./start says there. Raises RemoteError if it does not start."""
    return _receive("start", name, dom0)


class DifferentError(RemoteError):
    """What has arrived is not what was sent."""


def _place_or_discard(export: Export, dom0: Dom0) -> str:
    try:
        return _receive("place", export.name, dom0)
    except DifferentError:
        _receive("discard", export.name, dom0)
        raise


def _send(export: Export, dom0: Dom0, *options: str) -> None:
    target = f"{dom0.user}{dom0.host}:{dom0.directory}/{export.name}.part/"
    shell = " ".join(_quoted_for_rsync(word) for word in _ssh(dom0))
    answer = ask_program([*_RSYNC, *options, "-e", shell, "--", f"{export.folder}/", target])
    if answer.exit_code == 0:
        return
    said = _lines(answer)
    if any("No space left" in line or "quota exceeded" in line for line in said):
        _receive("discard", export.name, dom0)
        what = "its disk is full; what was copied is removed again"
        raise RemoteError(what, where=dom0, fix="make room there, or name another directory")
    what = f"the copy of {export.name} was cut off: {'; '.join(said[-4:])}"
    fix = f"run the command again: it goes on where it stopped ({export.name}.part there)"
    raise RemoteError(what, where=dom0, fix=fix)


def _receive(task: str, name: str, dom0: Dom0, *arguments: str) -> str:
    """What receive.sh prints when it does `task` in `dom0`. Raises RemoteError if it does not succeed."""
    words = " ".join(shlex.quote(word) for word in (task, dom0.directory, name, *arguments))
    script = f"set -- {words}\n{_RECEIVE.read_text(encoding='utf-8')}"
    # The words are in the script, not in argv: the login shell there may be any.
    answer = ask_program([*_ssh(dom0), dom0.login, "sh", "-s"], stdin=script.encode())
    if answer.exit_code != 0:
        raise _refusal(answer, name, dom0)
    return answer.output.decode(errors="replace").strip()


def _ssh(dom0: Dom0) -> list[str]:
    config = ["-F", str(dom0.ssh_config)] if dom0.ssh_config else []
    return ["ssh", "-T", *config, *(word for option in _SSH_OPTIONS for word in ("-o", option))]


def _quoted_for_rsync(word: str) -> str:
    """`word` as rsync takes it in -e: it knows quotes, and two of them within quotes for one."""
    return "'" + word.replace("'", "''") + "'"


def _lines(answer: Answer) -> list[str]:
    return answer.trouble.decode(errors="replace").strip().splitlines()


def _refusal(answer: Answer, name: str, dom0: Dom0) -> RemoteError:
    """What it means that ssh or receive.sh failed."""
    lines = _lines(answer)
    own = [line.removeprefix(_SAID) for line in lines if line.startswith(_SAID)]
    said = "; ".join(own or lines[-4:])
    if answer.exit_code == _SSH_FAILED:
        return RemoteError(f"ssh failed: {said}", where=dom0.login, fix=_login_fix(said, dom0))
    what, fix = _MEANINGS.get(answer.exit_code, ("it failed there: {said}", "log in by ssh and look"))
    words = {"said": said, "name": name, "folder": f"{dom0.directory}/{name}"}
    kind = DifferentError if answer.exit_code == _DIFFERENT else RemoteError
    return kind(what.format_map(words), where=dom0, fix=fix.format_map(words))


_MEANINGS: Mapping[int, tuple[str, str]] = {
    _FOREIGN: ("{said} is there, and is no export of {name}", "name another directory: USER@HOST:DIRECTORY"),
    _RUNNING: (
        "{name} runs there, maybe on the disk that would be replaced",
        "end it there by `xl shutdown -w {name}`, or name another directory",
    ),
    _BARRED: ("{said}", "name a directory that the user may write to: USER@HOST:DIRECTORY"),
    _LACKING: ("{said} is not installed there", "apt-get install rsync coreutils, in dom0"),
    _FULL: ("there is no room for {name}: {said} KiB are free", "make room there, or name another directory"),
    _DIFFERENT: (
        "{name} is not there as it was sent: {said}",
        "run the command again, and look after that host's disk and memory",
    ),
    _NOT_STARTED: ("{name} was not started: {said}", "log in there, and run {folder}/start"),
}


def _login_fix(said: str, dom0: Dom0) -> str:
    if "Host key verification failed" in said or "host key" in said:
        return f"log in by hand once, `ssh {dom0.login}`, and compare the host's key"
    if "Permission denied" in said:
        return "let ssh log in without a question: a key in authorized_keys there, ssh-agent or IdentityFile here"
    return f"try `ssh {dom0.login} true`; addresses, ports and keys stand in ~/.ssh/config"
