"""A boot of one guest by `xl create`, from power on of the machine to the guest's login prompt."""

import re
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.image.store import Store
from tests.xen.dom0 import Dom0
from tests.xen.job_disk import Job, make_job_disk
from tests.xen.xen_machine import XenError, XenMachine, running_xen

# Seen on two processors: dom0 after 15 to 40 s, the prompt after 70 to 130. A busy machine takes several times that.
_DOM0_LIMIT_S, _GUEST_LIMIT_S = 180.0, 600.0


@dataclass(frozen=True, kw_only=True)
class Boot:
    """What one saw of a guest that has come up."""

    prompt: str
    """The line of its login prompt on Xen's console."""
    neighbours: frozenset[tuple[str, str, str]]
    """Address, bridge and MAC address of what answered dom0, ARP and ping."""
    guest_says: str
    """All that came on its console."""


async def boot(dom0: Dom0, job: Job, store: Store, *, scratch: Path, transcript: Path) -> Boot:
    """Boot the guest; what was said is in `transcript` in any case.

    A dom0 that does not come up is started once more: that is QEMU's emulation of the machine, not the guest.
    Raises XenError if the guest does not come to its prompt and answers at its addresses.
    """
    disk = make_job_disk(job, store, scratch=scratch)
    try:
        return await _boot_once(dom0, disk, job, transcript)
    except Dom0Error:
        return await _boot_once(dom0, disk, job, transcript)


class Dom0Error(XenError):
    """dom0 did not come up."""


async def _boot_once(dom0: Dom0, disk: Path, job: Job, transcript: Path) -> Boot:
    async with running_xen(dom0, disk, guest_name=job.image.name, directory=disk.parent) as machine:
        try:
            return await _follow(machine)
        finally:
            transcript.parent.mkdir(parents=True, exist_ok=True)
            transcript.write_text("".join(f"{line}\n" for line in machine.transcript()), encoding="utf-8")


async def _follow(machine: XenMachine) -> Boot:
    try:
        await machine.wait_for(machine.dom0, r"^dom0: Xen is ready", limit_s=_DOM0_LIMIT_S)
    except XenError as error:
        raise Dom0Error(str(error)) from error
    prompt = await machine.wait_for(machine.guest, r"^\S+ login: ", limit_s=_GUEST_LIMIT_S)
    await machine.wait_for(machine.dom0, r"^dom0: every address has answered", limit_s=_GUEST_LIMIT_S)
    answers = re.findall(r"^dom0: (\S+) on (\S+) is (\S+), which", machine.dom0.console.text, re.MULTILINE)
    return Boot(
        prompt=prompt.group().strip(),
        neighbours=frozenset((address, bridge, mac.lower()) for address, bridge, mac in answers),
        guest_says=machine.guest.console.text,
    )
