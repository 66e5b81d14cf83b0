"""Asks a cluster's server for its status, whatever way leads there."""

import secrets
from typing import Protocol

from imagebuilder.operate.reading import Reading, last_line, parse_answer, question


class Shell(Protocol):
    """A shell on the server, which runs as somebody who may ask Grid Engine."""

    def run(self, script: str, last_line: str) -> str:
        """What the script prints, to a line that begins so. Raises RemoteError if the server cannot be reached."""


def read_status(shell: Shell) -> Reading:
    """What the server says now. Raises RemoteError if it cannot be reached, or if Grid Engine does not answer there."""
    mark = secrets.token_hex(16)
    return parse_answer(shell.run(question(mark), last_line(mark)), mark)
