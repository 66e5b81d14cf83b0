"""The two ends that a rehearsal talks to, as Unix sockets in a test: a QEMU's monitor, and the agent in its guest.

They speak as QEMU's docs/interop/qmp-spec.rst and qga/qapi-schema.json say, and answer what they are told to.
"""

import asyncio
import json
from asyncio import StreamReader, StreamWriter
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from imagebuilder.rehearse.qmp import socket_path

# What QEMU 7.2 of Debian 12 says when somebody connects.
GREETING = {
    "QMP": {
        "version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2+dfsg-7+deb12u18"},
        "capabilities": ["oob"],
    }
}


class Trouble(Enum):
    """No answer at all."""

    SILENCE = "the question is read, and nothing comes"
    HANG_UP = "the connection ends"


@dataclass(frozen=True)
class Refusal:
    """An answer that says that the command has failed."""

    description: str


@dataclass(frozen=True)
class Late:
    """An answer that comes when the next question has been asked, before the answer to that."""

    value: object


Answer = Mapping[str, object] | int | Trouble | Refusal | Late


class FakeAgent:
    """Answers each command with the next of its answers, and keeps what it was asked.

    A guest-sync without an answer of its own is answered rightly, and not kept.
    """

    def __init__(self, **answers: Sequence[Answer]) -> None:
        self._answers = {name.replace("_", "-"): list(them) for name, them in answers.items()}
        self._late: list[bytes] = []
        self.questions: list[dict[str, Any]] = []

    @property
    def asked(self) -> list[tuple[str, dict[str, Any]]]:
        """The commands and their arguments, in order."""
        return [(one["execute"], one["arguments"]) for one in self.questions]

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Speak with one client."""
        async for question in _questions(reader):
            name = question["execute"]
            if name == "guest-sync" and not self._answers.get(name):
                writer.write(_reply({"return": question["arguments"]["id"]}, question))
                continue
            self.questions.append(question)
            match self._answers[name].pop(0):
                case Trouble.SILENCE:
                    continue
                case Trouble.HANG_UP:
                    break
                case Late(value):
                    self._late.append(_reply({"return": value}, question))
                    continue
                case Refusal(description):
                    reply: dict[str, object] = {"error": {"class": "GenericError", "desc": description}}
                case value:
                    reply = {"return": value}
            writer.write(b"".join(self._late) + _reply(reply, question))
            self._late.clear()


class FakeMonitor:
    """Does what it is ordered to, but for what it refuses; says what it is told to say."""

    def __init__(self, **refusals: str) -> None:
        self._refusals = refusals
        self._writer: StreamWriter | None = None
        self.orders: list[tuple[str, dict[str, Any]]] = []

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Speak with one client."""
        self._writer = writer
        writer.write(_line(GREETING))
        async for question in _questions(reader):
            name = question["execute"]
            self.orders.append((name, question.get("arguments", {})))
            refusal = self._refusals.get(name)
            error = {"error": {"class": "GenericError", "desc": refusal}}
            writer.write(_reply({"return": {}} if refusal is None else error, question))
            if name == "quit":
                break

    def tell(self, event: str, **detail: object) -> None:
        """Tell the client of an event."""
        assert self._writer is not None
        timestamp = {"seconds": 1764043200, "microseconds": 0}
        self._writer.write(_line({"event": event, "data": detail, "timestamp": timestamp}))

    def hang_up(self) -> None:
        """End the connection, as a QEMU does that has been killed."""
        assert self._writer is not None
        self._writer.close()


class FakeConsole:
    """A serial console that says what it is told to say, and hears nothing."""

    def __init__(self) -> None:
        self._writer: StreamWriter | None = None

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Speak with one client."""
        self._writer = writer
        while await reader.read(1 << 16):
            pass

    def say(self, text: bytes) -> None:
        """Let the client read this."""
        assert self._writer is not None
        self._writer.write(text)


def ended(code: int = 0, output: str = "", trouble: str = "") -> dict[str, object]:
    """What guest-exec-status says of a command that has ended by itself."""
    texts = {"out-data": output, "err-data": trouble}
    encoded = {name: b64encode(text.encode()).decode() for name, text in texts.items() if text}
    return {"exited": True, "exitcode": code, **encoded}


@asynccontextmanager
async def serving(
    directory: Path, name: str, conversation: Callable[[StreamReader, StreamWriter], Awaitable[None]]
) -> AsyncIterator[None]:
    """Have `conversation` held with each who connects to the socket `name` in `directory`, while the block runs."""
    talks: list[asyncio.Task[None] | None] = []

    async def hold(reader: StreamReader, writer: StreamWriter) -> None:
        talks.append(asyncio.current_task())
        with suppress(OSError):
            await conversation(reader, writer)
            writer.close()
            await writer.wait_closed()

    async with socket_path(directory, name) as path:
        server = await asyncio.start_unix_server(hold, path)
    async with server:
        yield
    # Whoever does not let go of a connection is found out.
    async with asyncio.timeout(2):
        await asyncio.gather(*filter(None, talks))


async def _questions(reader: StreamReader) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects that come; nothing need be between them."""
    text = ""
    while chunk := await reader.read(1 << 16):
        text += chunk.decode()
        while text:
            try:
                question, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                break
            text = text[end:].lstrip()
            yield question


def _reply(answer: Mapping[str, object], question: Mapping[str, object]) -> bytes:
    return _line({**answer, **{name: value for name, value in question.items() if name == "id"}})


def _line(message: Mapping[str, object]) -> bytes:
    return json.dumps(message).encode() + b"\n"
