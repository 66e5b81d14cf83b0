"""Names keys without giving them away: by the SHA-256 of their public half. Pure."""

import hashlib

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)


def fingerprint_of_key(pem: bytes) -> str | None:
    """The SHA-256, in hex, of the public key (SubjectPublicKeyInfo) that belongs to a private key.

    None if it is encrypted, damaged, or of a kind that is not known.
    """
    for load in (load_pem_private_key, load_ssh_private_key):
        try:
            return _fingerprint(load(pem, password=None).public_key())
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
    return None


def fingerprints_of_authorities(text: bytes) -> frozenset[str]:
    """The fingerprint of the key behind each certificate of a CA in `text`, one or more in PEM."""
    try:
        certificates = x509.load_pem_x509_certificates(text)
        return frozenset(_fingerprint(one.public_key()) for one in certificates if _is_authority(one))
    except (ValueError, UnsupportedAlgorithm):
        return frozenset()


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _fingerprint(key: PublicKeyTypes) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
