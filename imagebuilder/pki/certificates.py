"""X.509 as OpenVPN wants it: what stands in a CA, a certificate and a revocation list; and the tls-crypt key."""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from imagebuilder.secret import Secret

Purpose = Literal["server", "client"]
Curve = Literal["P-256", "P-384"]

# A guest may boot with a clock behind the one that signed, and no time server answers before the VPN is up. OpenVPN
# refuses a certificate, and everybody if it is the revocation list, that is not valid yet.
BACKDATED = timedelta(days=2)

CURVES: Mapping[Curve, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
_HASH: Mapping[str, hashes.SHA256 | hashes.SHA384] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384()}

# `remote-cert-tls` tells the two ends apart by this alone: with both in one certificate a worker could pose as the
# server.
_EXTENDED_USAGE: Mapping[Purpose, x509.ObjectIdentifier] = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}

_TLS_CRYPT_BYTES = 256  # "2048 bit OpenVPN static key", what `openvpn --genkey` makes
_TLS_CRYPT_BEGIN = "-----BEGIN OpenVPN Static key V1-----"
_TLS_CRYPT_END = "-----END OpenVPN Static key V1-----"


def key_to_pem(key: ec.EllipticCurvePrivateKey, passphrase: Secret | None = None) -> Secret:
    """`key` as PKCS #8 in PEM, encrypted if a passphrase is given."""
    encryption: KeySerializationEncryption = (
        NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase.reveal())
    )
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


def key_from_pem(pem: Secret, passphrase: Secret | None = None) -> ec.EllipticCurvePrivateKey:
    """The private key in `pem`.

    Raises TypeError if the passphrase is missing or of no use, ValueError if it is wrong or `pem` holds no
    elliptic curve key.
    """
    key = load_pem_private_key(pem.reveal(), None if passphrase is None else passphrase.reveal())
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")  # noqa: TRY004 - a TypeError is about the passphrase
    return key


def certify_authority(
    key: ec.EllipticCurvePrivateKey, cluster: str, *, now: datetime, not_after: datetime
) -> x509.Certificate:
    """The self-signed certificate of the CA of `cluster`; it may sign certificates and lists, but no further CA."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{cluster} VPN CA"),
        ]
    )
    return (
        _certificate(name, name, key.public_key(), now=now, not_after=not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("sign certificates"), critical=True)
        .sign(key, _HASH[key.curve.name])
    )


def certify(  # noqa: PLR0913 - what a certificate says, and who says it
    key: ec.EllipticCurvePublicKey,
    name: str,
    purpose: Purpose,
    *,
    now: datetime,
    not_after: datetime,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    """The certificate of one end of the VPN: `name` as subject and DNS name, `purpose` as its only use."""
    organization = issuer.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    subject = x509.Name([*organization, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        _certificate(subject, issuer.subject, key, now=now, not_after=not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage("sign handshakes"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_EXTENDED_USAGE[purpose]]), critical=False)
        .add_extension(_authority_key_identifier(issuer_key), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(issuer_key, _HASH[issuer_key.curve.name])
    )


def make_revocation_list(
    revoked: Mapping[int, datetime],
    *,
    number: int,
    now: datetime,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateRevocationList:
    """The list that refuses the serials in `revoked`, each with when it was revoked.

    It is good for as long as the CA: a list past its end makes OpenVPN refuse everybody, and protects from nothing
    here, since it reaches the server only with an image or by hand.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - BACKDATED)
        .next_update(issuer.not_valid_after_utc)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_key_identifier(issuer_key), critical=False)
    )
    for serial, when in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer_key, _HASH[issuer_key.curve.name])


def revocations(crl: x509.CertificateRevocationList) -> dict[int, datetime]:
    """The serials that `crl` refuses, each with when it was revoked."""
    return {entry.serial_number: entry.revocation_date_utc for entry in crl}


def revocation_number(crl: x509.CertificateRevocationList) -> int:
    """The number of `crl`: of two lists of one CA the greater is the newer."""
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` signed `certificate` and is named in it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def is_for(certificate: x509.Certificate, purpose: Purpose) -> bool:
    """Whether `certificate` is good for `purpose` and for nothing else."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return list(usage) == [_EXTENDED_USAGE[purpose]]


def make_tls_crypt_key() -> Secret:
    """A new key for `tls-crypt`: who lacks it gets no answer at all from the server, not even a refusal."""
    digits = secrets.token_hex(_TLS_CRYPT_BYTES)
    lines = [digits[start : start + 32] for start in range(0, len(digits), 32)]
    return Secret("\n".join([_TLS_CRYPT_BEGIN, *lines, _TLS_CRYPT_END, ""]))


def is_tls_crypt_key(text: Secret) -> bool:
    """Whether `text` is a whole key as `make_tls_crypt_key` or `openvpn --genkey` makes it."""
    _, begin, rest = text.reveal().decode(errors="replace").partition(f"{_TLS_CRYPT_BEGIN}\n")
    digits, end, _ = rest.partition(_TLS_CRYPT_END)
    try:
        return bool(begin and end) and len(bytes.fromhex(digits)) == _TLS_CRYPT_BYTES
    except ValueError:
        return False


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    now: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority_key_identifier(issuer_key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())


def _key_usage(usage: Literal["sign certificates", "sign handshakes"]) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=usage == "sign handshakes",
        key_cert_sign=usage == "sign certificates",
        crl_sign=usage == "sign certificates",
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
