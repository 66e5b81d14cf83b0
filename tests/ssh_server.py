"""A real ssh server on the loopback that runs commands in a directory of the test; nobody else can log in."""

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import asyncssh

_CHUNK = 32768

Result = TypeVar("Result")


@dataclass
class SshServer:
    """What it does and what it has seen; `config` is what `ssh -F` takes, in which it is called dom0.

    After `cut_after` bytes of one command's input the connection is cut off.
    """

    home: Path
    config: Path
    cut_after: int | None = None
    path: str = ""
    commands: list[str] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    """The bytes of input of each command."""
    lost: threading.Event = field(default_factory=threading.Event)
    """Set when a connection has gone before its command had ended."""

    @property
    def copied(self) -> list[int]:
        """The bytes that each rsync has received."""
        return [
            count for command, count in zip(self.commands, self.received, strict=True) if command.startswith("rsync")
        ]


@contextmanager
def ssh_server(root: Path) -> Iterator[SshServer]:
    """A server whose users work in `root`/home, whoever they say they are, with `root`/home/bin first on PATH."""
    home = root / "home"
    (home / "bin").mkdir(parents=True)
    server = SshServer(home=home, config=root / "ssh_config", path=f"{home / 'bin'}:/usr/bin:/bin")
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    write_user_key(root)
    (root / "key.pub").rename(root / "authorized_keys")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        acceptor = _in(loop, _listen(server, host_key, root / "authorized_keys"))
        _write_config(root, acceptor.get_port(), host_key)
        yield server
        _in(loop, _close(acceptor))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def write_user_key(root: Path) -> None:
    """Make the key of the user, another than before."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    (root / "key").touch(mode=0o600)  # ssh takes no other
    key.write_private_key(root / "key")
    key.write_public_key(root / "key.pub")


def _write_config(root: Path, port: int, host_key: asyncssh.SSHKey) -> None:
    public = host_key.export_public_key().decode()
    (root / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    lines = [
        "Host dom0",
        "HostName 127.0.0.1",
        f"Port {port}",
        "User root",
        f"IdentityFile {root / 'key'}",
        "IdentitiesOnly yes",
        "IdentityAgent none",
        f"UserKnownHostsFile {root / 'known_hosts'}",
        "GlobalKnownHostsFile none",
    ]
    (root / "ssh_config").write_text("\n".join(lines) + "\n")


def _in(loop: asyncio.AbstractEventLoop, work: Coroutine[object, None, Result]) -> Result:
    return asyncio.run_coroutine_threadsafe(work, loop).result(30)


async def _listen(server: SshServer, host_key: asyncssh.SSHKey, user_key: Path) -> asyncssh.SSHAcceptor:
    return await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=str(user_key),
        process_factory=lambda process: _serve(server, process),
        encoding=None,
    )


async def _close(acceptor: asyncssh.SSHAcceptor) -> None:
    acceptor.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _serve(server: SshServer, process: "asyncssh.SSHServerProcess[bytes]") -> None:
    command = process.command or ""
    number = len(server.commands)
    server.commands.append(command)
    server.received.append(0)
    child = await asyncio.create_subprocess_shell(
        command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=server.home,
        env={"HOME": str(server.home), "PATH": server.path, "LC_ALL": "C"},
        start_new_session=True,
    )
    feeding = asyncio.create_task(_feed(server, number, process, child))
    try:
        await asyncio.gather(_copy(child.stdout, process.stdout), _copy(child.stderr, process.stderr))
        code = await child.wait()
    finally:
        feeding.cancel()  # a client may wait for the end before it closes the command's input
        await asyncio.wait([feeding])
        await _end(child)
    if process.is_closing():
        server.lost.set()
    process.exit(code)


async def _end(child: asyncio.subprocess.Process) -> None:
    """End a command, with all that it has started, and close its pipes."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    await child.communicate()


async def _feed(
    server: SshServer, number: int, process: "asyncssh.SSHServerProcess[bytes]", child: asyncio.subprocess.Process
) -> None:
    assert child.stdin is not None
    # The client may have gone, or the command have read enough.
    with suppress(asyncssh.Error, OSError):
        while chunk := await process.stdin.read(_CHUNK):
            server.received[number] += len(chunk)
            if server.cut_after is not None and server.received[number] > server.cut_after:
                process.channel.get_connection().abort()
                break
            child.stdin.write(chunk)
            await child.stdin.drain()
    child.stdin.close()


async def _copy(source: asyncio.StreamReader | None, target: "asyncssh.SSHWriter[bytes]") -> None:
    assert source is not None
    while chunk := await source.read(_CHUNK):
        with suppress(asyncssh.Error, OSError):
            target.write(chunk)
            await target.drain()
