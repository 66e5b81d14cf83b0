"""The report on an image that was inspected for EC2: what was looked at, with which outcome, signed by the site.

It is kept with what was made of the image, as `seal.json` and `seal.json.sig`. No secret is in it: those that the
image carries have a path and a fingerprint.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from imagebuilder.ec2.evidence import Evidence
from imagebuilder.ec2.seal import Audience, NamedSecret, boot_mode, findings_of, named_secrets, rules_for
from imagebuilder.errors import BuildError
from imagebuilder.image.store import Image
from imagebuilder.pki.signing import SigningKey, VerifyingKey
from imagebuilder.whole_files import write_whole

REPORT, SIGNATURE = "seal.json", "seal.json.sig"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class SealReport:
    """A report whose signature was checked: what `make_report` said, and about which image."""

    image_key: str
    disk_sha256: str
    audience: Audience
    passed: bool
    content: Mapping[str, object]


def make_report(
    image: Image, evidence: Evidence, *, audience: Audience, now: datetime, signer: VerifyingKey
) -> dict[str, object]:
    """What was found out about `image`, as plain values: the stable contract of `seal.json`.

    `rules` has every rule, in order, with an `outcome` of "passed" or "failed" and its `findings`; `secrets` what the
    image carries by plan. `disk.sha256` is that of the disk as a machine sees it, whatever the format of the file.
    `signed_by` is the fingerprint of the key that the signature beside the report is of.
    """
    rules = [(rule, findings_of(rule, evidence)) for rule in rules_for(audience)]
    return {
        "format": _FORMAT,
        "image": {
            "role": image.role,
            "name": image.name,
            "key": image.key,
            "base_digest": image.base_digest,
            "built_at": image.built_at,
        },
        "disk": {"size_bytes": evidence.size_bytes, "sha256": evidence.sha256},
        "inspected_at": now.isoformat(timespec="seconds"),
        "audience": audience,
        "boot_mode": boot_mode(evidence),
        "root_file_system": evidence.root.kind,
        "passed": not any(found for _, found in rules),
        "rules": [
            {
                "name": rule.name,
                "proves": rule.proves,
                "outcome": "failed" if found else "passed",
                "findings": [{"where": one.where, "what": one.what, "fix": one.fix} for one in found],
            }
            for rule, found in rules
        ],
        "secrets": [_describe(secret) for secret in named_secrets(evidence)],
        "signed_by": signer.fingerprint,
    }


def _describe(secret: NamedSecret) -> dict[str, object]:
    return {
        "path": str(secret.path),
        "kind": secret.kind,
        "mode": f"{secret.mode:04o}",
        "owner": f"{secret.uid}:{secret.gid}",
        "fingerprint": f"sha256:{secret.fingerprint}",
    }


def write_report(directory: Path, report: Mapping[str, object], key: SigningKey) -> Path:
    """Write `report` and its signature into `directory` and return the report's path; one that is there is replaced.

    The signature comes last: a report without one that fits counts as none.
    """
    content = (json.dumps(report, indent=2, ensure_ascii=True) + "\n").encode()
    write_whole(directory / REPORT, content)
    write_whole(directory / SIGNATURE, key.sign(content))
    return directory / REPORT


def read_report(directory: Path, key: VerifyingKey) -> SealReport:
    """The report in `directory`, if `key` has signed it. Raises BuildError if it is missing or was changed."""
    where, again = directory / REPORT, "inspect the image again"
    try:
        content, signature = where.read_bytes(), (directory / SIGNATURE).read_bytes()
    except OSError as error:
        raise BuildError(f"cannot be read: {error.strerror}", where=error.filename, fix=again) from error
    if not key.has_signed(content, signature):
        what = "is not what this site has signed: it was changed, or another site's key signed it"
        raise BuildError(what, where=where, fix=again)
    value = json.loads(content)
    if value["format"] != _FORMAT:
        raise BuildError(f"has format {value['format']}, and {_FORMAT} is known here", where=where, fix=again)
    return SealReport(
        image_key=value["image"]["key"],
        disk_sha256=value["disk"]["sha256"],
        audience=value["audience"],
        passed=value["passed"],
        content=value,
    )
