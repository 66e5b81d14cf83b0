"""The site's signing key: signs what is said of an image, so that nobody can change it unnoticed afterwards.

It is not the CA's key, which may be kept offline, and which signs certificates and nothing else (its certificate
says so). Outsiders check a signature with `seal.pub`:
`openssl pkeyutl -verify -rawin -pubin -inkey seal.pub -sigfile FILE.sig -in FILE`
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from imagebuilder.errors import HostError
from imagebuilder.pki.authority import open_authority
from imagebuilder.pki.directory import PkiDirectory
from imagebuilder.secret import Secret

SIGNING_KEY = "seal.key"
VERIFYING_KEY = "seal.pub"

_RESTORE = "restore it from a backup; or remove seal.key and seal.pub, and seal every image again"


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A site's key for signing; made by `ensure_signing_key`."""

    _key: Ed25519PrivateKey

    def sign(self, content: bytes) -> bytes:
        """The detached signature (Ed25519, 64 bytes)."""
        return self._key.sign(content)

    @property
    def verifying(self) -> "VerifyingKey":
        """The half that anybody may have."""
        return VerifyingKey(_key=self._key.public_key())


@dataclass(frozen=True, kw_only=True)
class VerifyingKey:
    """The public half of a site's key for signing."""

    _key: Ed25519PublicKey

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key (SubjectPublicKeyInfo), in hex."""
        return hashlib.sha256(self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    def has_signed(self, content: bytes, signature: bytes) -> bool:
        """Whether `signature` is the key's, and of just this content."""
        try:
            self._key.verify(signature, content)
        except InvalidSignature:
            return False
        return True

    def to_pem(self) -> bytes:
        """The key as `seal.pub` has it."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def ensure_signing_key(directory: Path) -> SigningKey:
    """The signing key in a PKI directory, made if there is none yet. Raises HostError if there is no CA."""
    place = open_authority(directory).directory
    with place.lock():
        if not (place.path / SIGNING_KEY).exists():
            key = Ed25519PrivateKey.generate()
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            public = SigningKey(_key=key).verifying.to_pem()
            place.write({VERIFYING_KEY: public, SIGNING_KEY: Secret(pem)})
    return SigningKey(_key=_private_key(place))


def read_verifying_key(directory: Path) -> VerifyingKey:
    """The public half of the signing key in a PKI directory. Raises HostError if nothing was signed here yet."""
    place = PkiDirectory(path=directory.absolute())
    pem = place.read(VERIFYING_KEY, if_missing="verify where it was signed, or copy seal.pub from there")
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise HostError("is no public key", where=place.path / VERIFYING_KEY, fix=_RESTORE) from error
    if not isinstance(key, Ed25519PublicKey):
        raise HostError("is no Ed25519 key", where=place.path / VERIFYING_KEY, fix=_RESTORE)
    return VerifyingKey(_key=key)


def _private_key(place: PkiDirectory) -> Ed25519PrivateKey:
    pem = place.read_secret(SIGNING_KEY, if_missing=_RESTORE).reveal()
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise HostError("is no private key", where=place.path / SIGNING_KEY, fix=_RESTORE) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise HostError("is no Ed25519 key", where=place.path / SIGNING_KEY, fix=_RESTORE)
    return key
