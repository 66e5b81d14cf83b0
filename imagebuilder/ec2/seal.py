"""Judges whether an image may become an AMI: every rule applied to what is known of the image. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from imagebuilder.ec2 import rules_boot, rules_secrets, rules_traces
from imagebuilder.ec2.ami import BootMode
from imagebuilder.ec2.evidence import Evidence
from imagebuilder.ec2.rule import Rule

Audience = Literal["private", "shared", "public"]
"""Who may start the AMI: its account alone, some others, or everybody."""

RULES: tuple[Rule, ...] = (*rules_boot.RULES, *rules_traces.RULES, *rules_secrets.RULES)

AUDIENCE = Rule(
    name="audience",
    proves="what is shared or public carries no secret",
    fix="keep the AMI private; for others build an image without the VPN's key",
    troubles=lambda evidence: (
        (str(secret.path), f"the image carries a secret ({secret.kind})") for secret in named_secrets(evidence)
    ),
)


@dataclass(frozen=True, kw_only=True, order=True)
class Finding:
    """One thing that speaks against an image: the rule's name, where it is, what is wrong, how to mend it."""

    rule: str
    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} [{self.rule}]\n  fix: {self.fix}"


@dataclass(frozen=True, kw_only=True)
class NamedSecret:
    """A secret that an image carries because it was built to; the fingerprint is the public key's, or the file's."""

    path: PurePosixPath
    kind: str
    mode: int
    uid: int
    gid: int
    fingerprint: str


def rules_for(audience: Audience) -> tuple[Rule, ...]:
    """The rules that an AMI for `audience` must keep."""
    return RULES if audience == "private" else (*RULES, AUDIENCE)


def findings(evidence: Evidence, audience: Audience = "private") -> tuple[Finding, ...]:
    """All that speaks against registering the image for `audience`, in the order of the rules."""
    return tuple(finding for rule in rules_for(audience) for finding in findings_of(rule, evidence))


def findings_of(rule: Rule, evidence: Evidence) -> tuple[Finding, ...]:
    """What one rule finds."""
    return tuple(
        Finding(rule=rule.name, where=where, what=what, fix=rule.fix) for where, what in rule.troubles(evidence)
    )


def named_secrets(evidence: Evidence) -> tuple[NamedSecret, ...]:
    """The secrets that the image carries by plan, by path; the fingerprint does not give them away."""
    return tuple(_named(evidence))


def _named(evidence: Evidence) -> Iterator[NamedSecret]:
    for path, digest in sorted(evidence.planned_secrets.items()):
        entry = evidence.listing.get(path)
        if entry is None:
            continue
        marks = [one for one in evidence.marks if one.path == path]
        kind = marks[0].mark.kind.value if marks else "secret file"
        fingerprint = next((one.fingerprint for one in marks if one.fingerprint), digest)
        yield NamedSecret(path=path, kind=kind, mode=entry.mode, uid=entry.uid, gid=entry.gid, fingerprint=fingerprint)


def boot_mode(evidence: Evidence) -> BootMode | None:
    """The BootMode to register the image with: by which firmware it boots; None if by none.

    `uefi-preferred` has old instance types boot it by BIOS, so it needs both.
    """
    by_bios, by_uefi = evidence.layout.bios_trouble is None, rules_boot.has_efi_loader(evidence)
    match by_bios, by_uefi:
        case True, True:
            return "uefi-preferred"
        case False, True:
            return "uefi"
        case True, False:
            return "legacy-bios"
        case _:
            return None
