"""Certificates that the VPN server must refuse, to see whether it does. They are never written to a file here."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from imagebuilder.pki.authority import Authority
from imagebuilder.pki.certificates import (
    certify,
    certify_authority,
    key_to_pem,
    make_revocation_list,
    revocation_number,
    revocations,
)
from imagebuilder.pki.credentials import read_revocation_list, to_pem
from imagebuilder.secret import Secret

_DAY = timedelta(days=1)
_MONTH = 30 * _DAY


@dataclass(frozen=True, kw_only=True)
class Impostor:
    """A client's certificate with this name in its subject, in PEM, and its key; the serial number is the CA's."""

    name: str
    certificate: str
    key: Secret
    serial_number: int


def make_foreigner(cluster: str, now: datetime) -> Impostor:
    """A client whose certificate is sound, but of another CA that has the same name."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = certify_authority(key, cluster, now=now, not_after=now + _MONTH)
    return _certified("impostor-foreign", issuer, key, now=now, not_after=now + _DAY)


def make_expired(authority: Authority, now: datetime) -> Impostor:
    """A client whose certificate the CA did sign, but which ended yesterday. Raises HostError without the CA's key."""
    return _certified(
        "impostor-expired", authority.certificate, authority.signing_key(), now=now - _MONTH, not_after=now - _DAY
    )


def make_revoked(authority: Authority, now: datetime) -> tuple[Impostor, str]:
    """A client whose certificate the CA signed and revoked, and the revocation list in PEM that says so.

    The list is the CA's own with this one more; it is not kept. Raises HostError without the CA's key.
    """
    issuer, issuer_key = authority.certificate, authority.signing_key()
    impostor = _certified("impostor-revoked", issuer, issuer_key, now=now, not_after=now + _DAY)
    crl = read_revocation_list(authority.directory, issuer)
    newer = make_revocation_list(
        revocations(crl) | {impostor.serial_number: now},
        number=revocation_number(crl) + 1,
        now=now,
        issuer=issuer,
        issuer_key=issuer_key,
    )
    return impostor, to_pem(newer)


def _certified(
    name: str, issuer: x509.Certificate, issuer_key: ec.EllipticCurvePrivateKey, *, now: datetime, not_after: datetime
) -> Impostor:
    key = ec.generate_private_key(issuer_key.curve)
    certificate = certify(
        key.public_key(), name, "client", now=now, not_after=not_after, issuer=issuer, issuer_key=issuer_key
    )
    return Impostor(
        name=name, certificate=to_pem(certificate), key=key_to_pem(key), serial_number=certificate.serial_number
    )
