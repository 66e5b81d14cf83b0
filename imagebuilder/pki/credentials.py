"""What a build reads of a PKI directory, each part checked against the others; never the key of the CA."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from imagebuilder.edits.edit import VpnCredentials
from imagebuilder.errors import HostError
from imagebuilder.pki.certificates import is_for, is_issued_by, is_tls_crypt_key, key_from_pem, key_to_pem
from imagebuilder.pki.directory import CA_CERTIFICATE, INDEX, REVOCATION_LIST, TLS_CRYPT_KEY, PkiDirectory
from imagebuilder.pki.index import IssuedCertificate, serial_text

RESTORE = "restore it from a backup"


def read_authority_certificate(directory: PkiDirectory) -> x509.Certificate:
    """The certificate of the CA; HostError if there is no CA."""
    where = directory.path / CA_CERTIFICATE
    text = directory.read(CA_CERTIFICATE, if_missing="imgbuild pki init")
    certificate = _parse_certificate(text, where, RESTORE)
    if not is_issued_by(certificate, certificate):
        raise HostError("is not the certificate of a CA", where=where, fix=RESTORE)
    return certificate


def read_revocation_list(directory: PkiDirectory, authority: x509.Certificate) -> x509.CertificateRevocationList:
    """The current revocation list; HostError if `authority` did not sign it."""
    where = directory.path / REVOCATION_LIST
    text = directory.read(REVOCATION_LIST, if_missing=RESTORE)
    try:
        crl = x509.load_pem_x509_crl(text)
    except ValueError as error:
        raise HostError("is not a revocation list", where=where, fix=RESTORE) from error
    key = authority.public_key()
    # OpenVPN only warns of a list by another issuer, and lets the revoked in.
    signed = isinstance(key, ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)
    if crl.issuer != authority.subject or not signed:
        raise HostError(f"was not signed by the CA in {CA_CERTIFICATE}", where=where, fix=RESTORE)
    return crl


def read_certificate(
    directory: PkiDirectory, entry: IssuedCertificate, authority: x509.Certificate
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The certificate of `entry` and its key; HostError if they do not belong together or to `authority`."""
    fix = f"imgbuild pki renew {entry.name}"
    where, key_where = directory.path / entry.certificate_file, directory.path / entry.key_file
    certificate = _parse_certificate(directory.read(entry.certificate_file, if_missing=fix), where, fix)
    try:
        key = key_from_pem(directory.read_secret(entry.key_file, if_missing=fix))
    except (TypeError, ValueError) as error:
        raise HostError("is not a private key", where=key_where, fix=fix) from error
    if serial_text(certificate.serial_number) != entry.serial:
        raise HostError(f"is not the certificate that {INDEX} lists", where=where, fix=fix)
    if not is_issued_by(certificate, authority):
        raise HostError(f"was not issued by the CA in {CA_CERTIFICATE}", where=where, fix=fix)
    if not is_for(certificate, entry.purpose):
        raise HostError(f"is not a certificate for a {entry.purpose}", where=where, fix=fix)
    if key.public_key() != certificate.public_key():
        raise HostError(f"does not belong to {where.name}", where=key_where, fix=fix)
    return certificate, key


def read_vpn_credentials(
    directory: PkiDirectory, entry: IssuedCertificate, authority: x509.Certificate
) -> VpnCredentials:
    """All that the host of `entry` needs, revoked or not."""
    certificate, key = read_certificate(directory, entry, authority)
    tls_crypt = directory.read_secret(TLS_CRYPT_KEY, if_missing=RESTORE)
    if not is_tls_crypt_key(tls_crypt):
        raise HostError("is not an OpenVPN static key", where=directory.path / TLS_CRYPT_KEY, fix=RESTORE)
    return VpnCredentials(
        ca=to_pem(authority),
        certificate=to_pem(certificate),
        key=key_to_pem(key),
        tls_crypt=tls_crypt,
        crl=to_pem(read_revocation_list(directory, authority)),
    )


def to_pem(signed: x509.Certificate | x509.CertificateRevocationList) -> str:
    """`signed` in PEM and nothing else: no text that somebody may have added to the file."""
    return signed.public_bytes(Encoding.PEM).decode()


def _parse_certificate(text: bytes, where: Path, fix: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(text)
    except ValueError as error:
        raise HostError("is not a certificate", where=where, fix=fix) from error
