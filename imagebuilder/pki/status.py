"""How the certificates stand at a moment, and what of it somebody should know. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cryptography import x509

from imagebuilder.pki.certificates import Purpose, revocation_number
from imagebuilder.pki.index import Index, serial_text

State = Literal["valid", "expiring", "expired", "revoked", "not yet valid"]

# Time enough to make a new certificate, build the images and replace the machines that run from the old ones.
WARNING_DAYS = 60

NEW_AUTHORITY = "move the PKI directory away, run imgbuild pki init and build every image again"


@dataclass(frozen=True, kw_only=True)
class CertificateStatus:
    """How one certificate, or the list of the revoked, stands.

    `serial` is hexadecimal, for the list its number. `days_left` counts whole days and is negative once it expired.
    A superseded one has a successor of the same name; machines built before may still use it.
    """

    name: str
    purpose: Purpose | Literal["authority", "revocation list"]
    serial: str
    not_before: datetime
    not_after: datetime
    days_left: int
    state: State
    superseded: bool = False


def days_until(end: datetime, now: datetime) -> int:
    """Whole days from `now` to `end`, rounded down."""
    return (end - now).days


def status_of_authority(certificate: x509.Certificate, now: datetime, *, warning_days: int) -> CertificateStatus:
    """How the CA's own certificate stands."""
    end = certificate.not_valid_after_utc
    return CertificateStatus(
        name="ca",
        purpose="authority",
        serial=serial_text(certificate.serial_number),
        not_before=certificate.not_valid_before_utc,
        not_after=end,
        days_left=days_until(end, now),
        state=_state(now, certificate.not_valid_before_utc, end, warning_days),
    )


def status_of_revocation_list(
    crl: x509.CertificateRevocationList, authority: x509.Certificate, now: datetime, *, warning_days: int
) -> CertificateStatus:
    """How the list stands; one that names no end lasts as long as the CA."""
    end = crl.next_update_utc or authority.not_valid_after_utc
    return CertificateStatus(
        name="crl",
        purpose="revocation list",
        serial=f"{revocation_number(crl):x}",
        not_before=crl.last_update_utc,
        not_after=end,
        days_left=days_until(end, now),
        state=_state(now, crl.last_update_utc, end, warning_days),
    )


def status_of_issued(
    index: Index, revoked: Collection[int], now: datetime, *, warning_days: int
) -> tuple[CertificateStatus, ...]:
    """How all that was issued stands, by name, the newest first; `revoked` are serials."""
    superseded = index.superseded()
    return tuple(
        CertificateStatus(
            name=entry.name,
            purpose=entry.purpose,
            serial=entry.serial,
            not_before=entry.not_before,
            not_after=entry.not_after,
            days_left=days_until(entry.not_after, now),
            state="revoked"
            if entry.serial_number in revoked
            else _state(now, entry.not_before, entry.not_after, warning_days),
            superseded=entry in superseded,
        )
        for entry in sorted(index.issued, key=lambda entry: (entry.name, -entry.generation))
    )


def list_troubles(statuses: Iterable[CertificateStatus], *, needed: Collection[str] = ()) -> tuple[str, ...]:
    """What somebody should act on, each "name: what" and a line with the fix; empty if all is well.

    A superseded certificate is nobody's trouble. A revoked one is only if its name is in `needed`: the others were
    retired on purpose. A name in `needed` without a certificate is a trouble too.
    """
    current = [status for status in statuses if not status.superseded]
    missing = sorted(set(needed) - {status.name for status in current if status.purpose in ("server", "client")})
    return (
        *(
            f"{status.name}: the {_NOUN[status.purpose]} {what}\n  fix: {_fix(status)}"
            for status in current
            if (what := _what_is_wrong(status, needed)) is not None
        ),
        *(f"{name}: has no certificate\n  fix: imgbuild pki issue {name} --for server|client" for name in missing),
    )


_NOUN = {
    "authority": "certificate of the CA",
    "revocation list": "revocation list",
    "server": "server certificate",
    "client": "client certificate",
}


def _state(now: datetime, not_before: datetime, not_after: datetime, warning_days: int) -> State:
    if now < not_before:
        return "not yet valid"
    if now > not_after:
        return "expired"
    return "expiring" if days_until(not_after, now) < warning_days else "valid"


def _what_is_wrong(status: CertificateStatus, needed: Collection[str]) -> str | None:
    match status.state:
        case "valid":
            return None
        case "expiring":
            return f"expires in {status.days_left} days ({status.not_after:%Y-%m-%d})"
        case "expired":
            return f"expired on {status.not_after:%Y-%m-%d}: the VPN refuses it"
        case "not yet valid":
            return f"is not valid before {status.not_before:%Y-%m-%d}"
        case "revoked":
            return "is revoked: the VPN refuses it" if status.name in needed else None


def _fix(status: CertificateStatus) -> str:
    if status.state == "not yet valid":
        return "set the clock of this machine"
    if status.purpose in ("server", "client"):
        return f"imgbuild pki renew {status.name}, then imgbuild build"
    return NEW_AUTHORITY
