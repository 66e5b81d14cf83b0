"""A shell on a guest of a rehearsal that runs on by itself: through its agent, as root."""

import asyncio

from imagebuilder.errors import RemoteError
from imagebuilder.rehearse.leavings import KeptRehearsal
from imagebuilder.rehearse.qmp import Agent, GuestError


class GuestShell:
    """Runs scripts in the guest `label` of a kept rehearsal; each has a connection of its own."""

    def __init__(self, kept: KeptRehearsal, label: str, *, timeout_s: float) -> None:
        self._kept = kept
        self._label = label
        self._timeout_s = timeout_s

    def run(self, script: str, last_line: str) -> str:  # noqa: ARG002 - the shell ends with its script
        """What the script prints. Raises RemoteError if the guest's agent does not answer in time."""
        try:
            return asyncio.run(self._run(script))
        except GuestError as error:
            fix = "see its console, or `imgbuild rehearse --down` and rehearse again"
            raise RemoteError(error.what, where=f"{self._label} in {self._kept.directory}", fix=fix) from error

    async def _run(self, script: str) -> str:
        agent = await Agent.connect(self._kept.directory, f"{self._label}.agent", call_limit_s=self._timeout_s)
        try:
            await agent.synchronize()
            ran = await agent.run(["sh"], stdin=script.encode(), limit_s=self._timeout_s)
            return ran.output
        finally:
            await agent.close()
