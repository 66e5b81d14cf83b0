"""An ssh server on the loopback device whose shell is a cluster's server, as far as a status goes."""

import asyncio
import os
import shlex
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

USER = "clouduser"
_NOTES = "/run/imgbuild"


@dataclass(kw_only=True)
class ClusterServer:
    """The server: its programs and what its VPN has noted are in `directory`."""

    directory: Path
    port: int = 0
    logins: int = 0
    """How many sessions were opened."""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _listener: asyncssh.SSHAcceptor | None = None
    _connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)
    _shells: dict["asyncio.Task[Any]", asyncio.subprocess.Process] = field(default_factory=dict)

    def install(self, name: str, script: str) -> None:
        """Have a program `name` that is this shell script."""
        program = self.directory / "programs" / name
        program.parent.mkdir(exist_ok=True)
        # Whole at once: a shell may be about to run it.
        new = program.with_name(".new")
        new.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        new.chmod(0o755)
        new.replace(program)

    def note(self, path: str, text: str) -> None:
        """Have a file in the VPN server's directory of notes."""
        file = self.directory / "notes" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n", encoding="utf-8")

    async def hang_up(self) -> None:
        """End every connection, and the shells behind them."""
        for connection in self._connections:
            connection.close()
            await connection.wait_closed()
        self._connections.clear()
        for shell in self._shells.values():
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
        await asyncio.gather(*self._shells)

    async def _serve(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        self.logins += 1
        there, here = shlex.quote(_NOTES), shlex.quote(str(self.directory / "notes"))
        line = f"sed -u 's#'{there}'#'{here}'#g' | {process.command} | sed -u 's#'{here}'#'{there}'#g'"
        shell = await asyncio.create_subprocess_exec(
            *("sh", "-c", line),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={"PATH": f"{self.directory / 'programs'}:/usr/bin:/bin"},
        )
        assert shell.stdin is not None
        assert shell.stdout is not None
        task = asyncio.current_task()
        assert task is not None
        self._shells[task] = shell
        await asyncio.gather(_copy(process.stdin, shell.stdin), _copy(shell.stdout, process.stdout))
        process.exit(await shell.wait())
        del self._shells[task]

    async def start(self, keys: Path) -> None:
        """Listen, with the key of the host and the keys that may log in in `keys`."""

        class Doorman(asyncssh.SSHServer):
            def connection_made(_self, connection: asyncssh.SSHServerConnection) -> None:  # noqa: N805
                self._connections.add(connection)

        self._listener = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Doorman,
            server_host_keys=[str(keys / "host")],
            authorized_client_keys=str(keys / "authorized_keys"),
            process_factory=self._serve,
            encoding=None,
        )
        self.port = self._listener.get_port()

    async def stop(self) -> None:
        """Listen no more, and end what is open."""
        assert self._listener is not None
        self._listener.close()
        await self.hang_up()
        await self._listener.wait_closed()

    def call(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the server's event loop."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


async def _copy(reader: Any, writer: Any) -> None:
    """Copy what there is to read, as it comes, and its end."""
    # A connection that is lost ends a shell's input just as one that is closed.
    with suppress(asyncssh.Error, OSError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    with suppress(asyncssh.Error, OSError):
        writer.write_eof()


@contextmanager
def cluster_server(directory: Path) -> Iterator[ClusterServer]:
    """A server that listens while the block runs; `directory` has the client's side, too: see `ssh_program`."""
    for name in ("host", "identity", "stranger"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(str(directory / name))
        (directory / name).chmod(0o600)
        key.write_public_key(str(directory / f"{name}.pub"))
    (directory / "authorized_keys").write_bytes((directory / "identity.pub").read_bytes())
    server = ClusterServer(directory=directory)
    thread = threading.Thread(target=server._loop.run_forever, daemon=True)
    thread.start()
    try:
        server.call(server.start(directory))
        yield server
        server.call(server.stop())
    finally:
        server._loop.call_soon_threadsafe(server._loop.stop)
        thread.join(30)
        server._loop.close()


def ssh_program(server: ClusterServer, *, identity: str = "identity", host_key: str = "host") -> Path:
    """A directory for PATH with an `ssh` whose user has a configuration that leads to the server.

    The server's addresses in the example cluster lead there, too. The program notes its process ids in `ssh.pids`.
    """
    directory = server.directory / "client"
    directory.mkdir(exist_ok=True)
    key = (server.directory / f"{host_key}.pub").read_text(encoding="utf-8")
    (directory / "known_hosts").write_text(f"the-server {key}", encoding="utf-8")
    (directory / "config").write_text(
        f"""Host oneserver 10.1.1.99 147.96.1.100
  HostName 127.0.0.1
  Port {server.port}
  User {USER}
  HostKeyAlias the-server
  UserKnownHostsFile {directory}/known_hosts
  IdentityFile {server.directory}/{identity}
  IdentitiesOnly yes
  LocalForward {server.port} 127.0.0.1:{server.port}
  RemoteCommand echo not for a program
Host nowhere
  HostName 127.0.0.1
  Port 1
""",
        encoding="utf-8",
    )
    program = directory / "ssh"
    program.write_text(f'#!/bin/sh\necho $$ >>{directory}/ssh.pids\nexec /usr/bin/ssh -F {directory}/config "$@"\n')
    program.chmod(0o755)
    return directory
