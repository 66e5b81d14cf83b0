"""Runs a program of the host, the same way everywhere: no shell, no inherited input, nothing left behind."""

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from imagebuilder.errors import BuildError, HostError

DEBIAN_PACKAGE = {
    "cc": "gcc",
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "sfdisk": "fdisk",
    "mke2fs": "e2fsprogs",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "newuidmap": "uidmap",
    "rsync": "rsync",
    "guestfish": "libguestfs-tools",
    "virt-diff": "libguestfs-tools",
    "virt-customize": "libguestfs-tools",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "dnsmasq": "dnsmasq-base",
    "nmap": "nmap",
    "tcpdump": "tcpdump",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}


# Debian keeps sfdisk and mke2fs in /sbin, which is not on a plain user's PATH.
_ADMINISTRATOR_PATH = ("/usr/sbin", "/sbin")

_CHUNK_BYTES = 1 << 16
# A job is some 400 bytes in Grid Engine's XML: an answer of more is none, and must not fill the memory.
_MOST_ANSWER_BYTES = 64 << 20
_LONGEST_LINE_BYTES = 1024
_END_PAUSE_S = 1


def run_program(
    argv: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    timeout_s: float | None = None,
) -> str:
    """Run `argv` to its end and return its standard output.

    Both outputs are appended to `log` if given. The program runs in a process group of its own, which is ended
    with it: on an error, at the time limit, on Ctrl-C. Raises HostError if the program is not installed and
    BuildError, with the last lines it printed, if it fails or takes longer than `timeout_s` seconds.
    """
    name = Path(argv[0]).name
    answer = ask_program(argv, stdin=stdin, environment=environment, timeout_s=timeout_s)
    if log is not None:
        with log.open("ab") as stream:
            stream.write(f"$ {' '.join(map(str, argv))}\n".encode() + answer.output + answer.trouble)
    if answer.exit_code != 0:
        said = (answer.trouble or answer.output).decode(errors="replace").strip().splitlines()[-4:]
        where = f"{name} (exit {answer.exit_code})"
        raise BuildError("; ".join(said) or "no message", where=where, fix=f"read {log}" if log else None)
    return answer.output.decode(errors="replace")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a program ended with, and what it wrote to its standard output and its standard error."""

    exit_code: int
    output: bytes
    trouble: bytes


def ask_program(
    argv: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> Answer:
    """Run `argv` to its end, as `run_program` does; that it refuses what it was given is no error here.

    Raises HostError if the program is not installed and BuildError if it takes longer than `timeout_s` seconds.
    """
    name = Path(argv[0]).name
    try:
        process = subprocess.Popen(
            [os.fspath(word) for word in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(environment),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise _not_installed(name) from error
    try:
        output, trouble = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{name} took longer than {timeout_s:g} s and was ended") from error
    finally:
        _end_group(process)
    return Answer(exit_code=process.returncode, output=output, trouble=trouble)


class RunningProgram:
    """A program that runs beside this one, in a process group of its own; made by `start_program`."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @property
    def exit_code(self) -> int | None:
        """What it ended with, negative for a signal; None while it runs."""
        return self._process.poll()

    def read_line(self) -> str:
        """The next line that it prints, or an empty text if it closes its output."""
        return self._process.stdout.readline().decode(errors="replace").strip() if self._process.stdout else ""

    def tell(self, line: str) -> None:
        """Give it a line on its standard input, and no more after that."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.write(f"{line}\n".encode())
                self._process.stdin.close()

    def end(self) -> None:
        """End it, with all of its process group, and wait for that."""
        _end_group(self._process)


def start_program(
    argv: Sequence[str | Path], *, directory: Path, log: Path, environment: Mapping[str, str] | None = None
) -> RunningProgram:
    """Start `argv` in `directory` and return at once; what it says on standard error is appended to `log`.

    It can be told one line, and what it prints is read from it: see RunningProgram. The caller ends it. Raises
    HostError if the program is not installed.
    """
    with log.open("ab") as trouble:
        try:
            process = subprocess.Popen(
                [os.fspath(word) for word in argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=trouble,
                env=_environment(environment),
                cwd=directory,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise _not_installed(Path(argv[0]).name) from error
    return RunningProgram(process)


class Conversation:
    """A program that reads questions and prints answers for as long as it is asked; see `start_conversation`."""

    def __init__(self, process: "subprocess.Popen[bytes]", trouble: IO[bytes]) -> None:
        self._process = process
        self._trouble = trouble
        self._is_over = False

    def ask(self, question: str, *, last_line: str, within_s: float) -> str:
        """Give it `question`, and return what it prints, to the end of a line that begins with `last_line`.

        Raises TimeoutError if that does not come within so many seconds, and EOFError if the program ends before, or
        goes on for more than 64 MiB. It has to be ended then.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: S101, PT018 - see start_conversation
        deadline = time.monotonic() + within_s
        # One that has ended already has said why, and is found to have ended below.
        with suppress(BrokenPipeError):
            stdin.write(question.encode())
        answer = bytearray()
        while not _ends_with_line(answer, last_line.encode()):
            readable, _, _ = select.select([stdout], [], [], max(0, deadline - time.monotonic()))
            if not readable:
                raise TimeoutError
            chunk = os.read(stdout.fileno(), _CHUNK_BYTES)
            self._is_over = not chunk
            if not chunk or len(answer) > _MOST_ANSWER_BYTES:
                raise EOFError
            answer += chunk
        return answer.decode(errors="replace")

    def end(self) -> tuple[int, str]:
        """End it, with all of its process group, and wait for that.

        Returns its exit status, negative for a signal, and the last of what it said on standard error.
        """
        if self._is_over:
            # It is about to end by itself, and its status says why.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_PAUSE_S)
        _end_group(self._process)
        with self._trouble as trouble:
            trouble.seek(max(0, os.fstat(trouble.fileno()).st_size - _CHUNK_BYTES))
            said = trouble.read()
        return self._process.returncode, said.decode(errors="replace")


def _ends_with_line(text: bytearray, beginning: bytes) -> bool:
    """Whether the last line of `text` is whole, and begins so."""
    last = bytes(text[-_LONGEST_LINE_BYTES:])
    return last.endswith(b"\n") and last[:-1].rpartition(b"\n")[2].startswith(beginning)


def start_conversation(argv: Sequence[str | Path]) -> Conversation:
    """Start `argv`, which waits for questions on its standard input. The caller ends it.

    Raises HostError if the program is not installed.
    """
    trouble = tempfile.TemporaryFile()  # noqa: SIM115 - Conversation.end closes it
    try:
        process = subprocess.Popen(
            [os.fspath(word) for word in argv],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=trouble,
            env=_environment(None),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        trouble.close()
        raise _not_installed(Path(argv[0]).name) from error
    return Conversation(process, trouble)


class Daemon:
    """A program that goes on when this one ends; made by `start_daemon`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._status: int | None = None

    @property
    def exit_code(self) -> int | None:
        """What it ended with, negative for a signal; None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status


def start_daemon(argv: Sequence[str | Path], *, log: Path) -> Daemon:
    """Start `argv`, by its full path, in a session of its own, and leave it running; what it says goes to `log`."""
    words = [os.fspath(word) for word in argv]
    to_log = (os.POSIX_SPAWN_OPEN, 2, os.fspath(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1)]
    pid = os.posix_spawn(words[0], words, _environment(None), file_actions=[*nothing, to_log], setsid=True)
    return Daemon(pid)


def require_programs(*names: str) -> None:
    """Raise HostError if one of these is not installed. For those that another program is to start, such as nsenter."""
    path = _environment(None)["PATH"]
    for name in names:
        if shutil.which(name, path=path) is None:
            raise _not_installed(name)


def _not_installed(name: str) -> HostError:
    package = DEBIAN_PACKAGE.get(name)
    fix = f"apt-get install {package}" if package else f"put {name} on PATH"
    return HostError(f"the program {name} is not installed", fix=fix)


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path += [directory for directory in _ADMINISTRATOR_PATH if directory not in path]
    return {**os.environ, "LC_ALL": "C.UTF-8", **(extra or {}), "PATH": os.pathsep.join(path)}


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
