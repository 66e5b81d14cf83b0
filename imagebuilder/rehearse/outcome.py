"""What a rehearsal found: each check with its evidence, each guest with its times. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["passed", "failed", "skipped", "not reached"]
"""A check that is skipped needs something that is not here; one is not reached if what comes before it failed."""

NetworkName = Literal["private", "public"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One command and what came of it; `where` is the guest that it ran on, or `host` for the networks' own side."""

    where: str
    command: str
    output: str
    code: int = 0


@dataclass(frozen=True, kw_only=True)
class CheckOutcome:
    """One named check of a rehearsal."""

    name: str
    """Words with dots: the group, then what in it, as `jobs.spread` or `local01.nis_client.bound`."""
    proves: str
    verdict: Verdict
    reason: str = ""
    """Why it did not pass; empty if it did."""
    evidence: tuple[Evidence, ...] = ()
    at_s: float = 0
    """When it was decided, in seconds after the rehearsal's start."""
    took_s: float = 0
    """For how long it was tried."""


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """One network interface of a guest; the address is None if the guest is to ask for one."""

    device: str
    network: NetworkName
    mac: str
    address: str | None


@dataclass(frozen=True, kw_only=True)
class GuestOutcome:
    """One guest of a rehearsal: what it was started from, and how it came up."""

    name: str
    role: str
    image: str
    """The key of its image."""
    attachments: tuple[Attachment, ...]
    vpn_address: str | None = None
    """What the VPN gave it, if it came so far."""
    started_s: float = 0
    """When it was switched on, in seconds after the rehearsal's start."""
    prompt_s: float | None = None
    """From switching on to the login prompt on its serial console; None if it never came."""
    boot_time: str = ""
    """What systemd-analyze(1) says of its boot."""
    slowest_units: tuple[str, ...] = ()
    """The first lines of `systemd-analyze blame`."""
    serial_log: str = ""
    """All that its serial console said, without escape sequences."""


@dataclass(frozen=True, kw_only=True)
class NetworkOutcome:
    """One network of a rehearsal."""

    name: NetworkName
    subnet: str
    stranger: str | None = None
    """The address of the namespace itself on it, from which the checks of the isolation come."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a rehearsal found."""

    cluster: str
    started_at: str
    """ISO 8601, UTC."""
    took_s: float
    accelerator: Literal["kvm", "tcg"]
    imgbuild: str
    """The program's version."""
    networks: tuple[NetworkOutcome, ...]
    guests: tuple[GuestOutcome, ...]
    checks: tuple[CheckOutcome, ...]
    queue: str = ""
    """What `qstat -f` printed while a job ran on each machine."""

    @property
    def passed(self) -> bool:
        """Whether something was checked, and nothing failed or was not reached."""
        verdicts = {check.verdict for check in self.checks}
        return "passed" in verdicts and verdicts <= {"passed", "skipped"}

    def count(self, verdict: Verdict) -> int:
        """How many checks ended so."""
        return sum(check.verdict == verdict for check in self.checks)


def groups(checks: Sequence[CheckOutcome]) -> dict[str, list[CheckOutcome]]:
    """The checks by the first word of their names, in the order in which they were made."""
    found: dict[str, list[CheckOutcome]] = {}
    for check in checks:
        found.setdefault(check.name.partition(".")[0], []).append(check)
    return found
