"""The log of all calls: a line of JSON each, with nothing secret in it."""

import json
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path

_KEPT = 100_000


class RequestLog:
    """Appends to a file, and keeps the last lines for who asks."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()
        self._lines: deque[Mapping[str, object]] = deque(maxlen=_KEPT)

    def write(self, entry: Mapping[str, object]) -> None:
        """Append one call."""
        line = json.dumps(entry) + "\n"
        with self._lock:
            self._lines.append(entry)
            self._stream.write(line)

    def since(self, number: int) -> list[Mapping[str, object]]:
        """The calls of this run after the first `number`."""
        with self._lock:
            return list(self._lines)[number:]

    def close(self) -> None:
        """Write no more."""
        self._stream.close()
