"""Talks to a QEMU and to the agent in its guest. The only importer of qemu.qmp.

Both speak JSON over a Unix socket. A socket's path has 107 characters at the most (unix(7)), which a store deep in a
home directory may exceed: so sockets are named relative to an open directory, as /proc/self/fd/N/NAME.
"""

import asyncio
import logging
import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, QMPClient, QMPError
from qemu.qmp.events import EventListener

from imagebuilder.errors import ImgbuildError

# It logs each lost connection as an error; who needs to know of one learns it from the call that failed.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())
logging.getLogger("qemu.qmp").propagate = False

# How often the agent is asked whether a command has ended; it cannot be told to say so by itself.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.05, 0.5
# A call of the agent itself takes milliseconds; a guest that is emulated and busy with its boot takes seconds.
_CALL_LIMIT_S = 90.0


class GuestError(ImgbuildError):
    """A guest does not do what it is asked: its agent does not answer, its QEMU has gone, a command does not end."""

    exit_code = 1


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A command that ran in a guest: its exit status, and what it said on both outputs."""

    code: int
    output: str
    """What it printed on standard output."""
    trouble: str
    """What it printed on standard error."""

    @property
    def said(self) -> str:
        """Both outputs, one after the other."""
        return "\n".join(text for text in (self.output.rstrip(), self.trouble.rstrip()) if text)


@asynccontextmanager
async def socket_path(directory: Path, name: str) -> AsyncIterator[str]:
    """A short name for the socket `name` in `directory`, good while the block runs."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


class Monitor:
    """QEMU's own monitor: what the machine does, and orders to it."""

    def __init__(self, client: QMPClient, listener: EventListener) -> None:
        self._client = client
        self._listener = listener

    @classmethod
    async def connect(cls, directory: Path, name: str) -> Self:
        """Connect to the socket `name` in `directory`. Raises GuestError if no QEMU answers there."""
        client = QMPClient(name)
        # Before connecting: no event is missed.
        listener = EventListener()
        client.register_listener(listener)
        await _connect(client, directory, name)
        return cls(client, listener)

    async def events(self) -> AsyncIterator[tuple[str, Mapping[str, object]]]:
        """The name and the data of each event, until QEMU goes."""
        async for event in self._listener:
            detail = event.get("data")
            yield str(event["event"]), detail if isinstance(detail, Mapping) else {}

    async def order(self, command: str, **arguments: object) -> None:
        """Have QEMU execute `command`. Raises GuestError if it refuses, or has gone."""
        try:
            await self._client.execute(command, {name.replace("_", "-"): value for name, value in arguments.items()})
        except (QMPError, ExecInterruptedError) as error:
            raise GuestError(f"QEMU does not execute {command}: {error}") from error

    async def gone(self) -> None:
        """Return when QEMU has gone."""
        while self._client.runstate.name == "RUNNING":
            await self._client.runstate_changed()

    async def close(self) -> None:
        """Let go of the socket, and forgive a QEMU that has gone already."""
        await _disconnect(self._client)


class Agent:
    """The agent in a guest, which runs commands there as root."""

    def __init__(self, client: QMPClient, call_limit_s: float) -> None:
        self._client = client
        self._call_limit_s = call_limit_s
        self._turn = asyncio.Lock()

    @classmethod
    async def connect(cls, directory: Path, name: str, *, call_limit_s: float = _CALL_LIMIT_S) -> Self:
        """Connect to the socket `name` in `directory`; an agent need not be there yet.

        One that leaves a question unanswered for `call_limit_s` seconds is given up.
        """
        client = QMPClient(name)
        client.await_greeting = client.negotiate = False
        await _connect(client, directory, name)
        return cls(client, call_limit_s)

    async def synchronize(self) -> None:
        """Make sure that the agent, which has just come up, answers what it is asked and nothing older."""
        token = secrets.randbelow(1 << 30)
        answer = await self._call("guest-sync", {"id": token})
        if answer != token:
            raise GuestError(f"the agent answers {answer!r} to a guest-sync of {token}")

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", limit_s: float = 60) -> Ran:
        """Run `argv` in the guest as root, without a shell, to its end.

        Raises GuestError if the agent does not answer, or if the command runs for more than `limit_s` seconds.
        """
        async with self._turn:
            arguments = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
            if stdin:
                arguments["input-data"] = b64encode(stdin).decode()
            started = await self._call("guest-exec", arguments)
            pid = started["pid"]
            try:
                return await asyncio.wait_for(self._ended(pid), limit_s)
            except TimeoutError as error:
                raise GuestError(f"{argv[0]} did not end within {limit_s:g} s") from error

    async def _ended(self, pid: int) -> Ran:
        pause_s = _FIRST_PAUSE_S
        while True:
            status = await self._call("guest-exec-status", {"pid": pid})
            if status["exited"]:
                return Ran(
                    # A command that a signal ended, as a shell reports it.
                    code=status.get("exitcode", 128 + status.get("signal", 0)),
                    output=b64decode(status.get("out-data", "")).decode(errors="replace"),
                    trouble=b64decode(status.get("err-data", "")).decode(errors="replace"),
                )
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LAST_PAUSE_S)

    async def _call(self, command: str, arguments: dict[str, object]) -> Any:
        try:
            return await asyncio.wait_for(self._client.execute(command, arguments), self._call_limit_s)
        except TimeoutError as error:
            raise GuestError(f"its agent does not answer within {self._call_limit_s:g} s") from error
        except ExecuteError as error:
            raise GuestError(f"its agent refuses {command}: {error}") from error
        except (QMPError, ExecInterruptedError) as error:
            raise GuestError(f"its agent has gone: {error}") from error

    async def close(self) -> None:
        """Let go of the socket."""
        await _disconnect(self._client)


async def _connect(client: QMPClient, directory: Path, name: str) -> None:
    async with socket_path(directory, name) as path:
        try:
            await client.connect(path)
        except ConnectError as error:
            raise GuestError(f"cannot be reached by {name}: {error}") from error


async def _disconnect(client: QMPClient) -> None:
    # Whatever went wrong with a connection has been told by the call that used it.
    with suppress(QMPError, EOFError, OSError):
        await client.disconnect()
