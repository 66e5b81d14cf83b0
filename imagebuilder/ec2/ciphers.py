"""The cryptography of a bundle: AES for the parts, RSA for its key and its signature.

SHA-1, PKCS #1 v1.5 and keys of 1024 bits are what the format of 2007 says: EC2 reads no other. Whoever can read
a bundle's bucket should not be taken to be kept out by them.
"""

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from imagebuilder.errors import BuildError, HostError
from imagebuilder.pki import read_private
from imagebuilder.secret import Secret

AES_BLOCK = 16

_HOW_TO_MAKE = (
    "make a pair by: openssl req -x509 -newkey rsa:2048 -nodes -keyout KEY -out CERTIFICATE -subj /CN=bundles"
)
_KEY_TEXT = re.compile(rb"[0-9a-fA-F]{32}")


@dataclass(frozen=True, kw_only=True)
class BundleKey:
    """Key and initialisation vector of one bundle, each as 32 lower-case hex digits.

    The text, not the sixteen bytes that it stands for, is what is encrypted for the user and for EC2.
    """

    key: Secret
    iv: Secret


def new_bundle_key() -> BundleKey:
    """A key and a vector by chance. No two bundles of different images may have the same."""
    return BundleKey(key=Secret(secrets.token_hex(AES_BLOCK)), iv=Secret(secrets.token_hex(AES_BLOCK)))


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """Whom a bundle is encrypted for, and who has signed it; as a certificate or the private key gives it."""

    rsa: rsa.RSAPublicKey

    def wrap(self, secret: Secret) -> str:
        """The text `secret` encrypted for the owner of this key, in hex; different each time."""
        return self.rsa.encrypt(secret.reveal(), padding.PKCS1v15()).hex()

    def has_signed(self, content: bytes, signature: bytes) -> bool:
        """Whether `signature` is that of `content` by the owner of this key."""
        try:
            self.rsa.verify(signature, content, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - see above
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, kw_only=True)
class PrivateKey:
    """The key of who makes and opens a bundle."""

    rsa: rsa.RSAPrivateKey

    @property
    def public(self) -> PublicKey:
        """The half that others may have."""
        return PublicKey(rsa=self.rsa.public_key())

    def sign(self, content: bytes) -> bytes:
        """The signature of `content`: the same each time."""
        return self.rsa.sign(content, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - see above

    def unwrap(self, *, key: str, iv: str) -> BundleKey:
        """What `PublicKey.wrap` has encrypted. Raises BuildError if it was for somebody else."""
        return BundleKey(key=self._unwrap(key), iv=self._unwrap(iv))

    def _unwrap(self, wrapped: str) -> Secret:
        try:
            text = self.rsa.decrypt(bytes.fromhex(wrapped), padding.PKCS1v15())
        except ValueError:
            text = b""
        # OpenSSL gives random bytes for a wrong key rather than an error, lest one could learn from asking often.
        if not _KEY_TEXT.fullmatch(text):
            raise BuildError("is encrypted for another key", fix="give the private key of who made the bundle")
        return Secret(text)


def read_certificate(path: Path) -> PublicKey:
    """The key in the X.509 certificate in PEM at `path`; its dates don't matter: those of EC2 have all expired.

    Raises HostError if it cannot be read, or is not one of an RSA key.
    """
    try:
        key = x509.load_pem_x509_certificate(path.read_bytes()).public_key()
    except OSError as error:
        raise HostError(error.strerror or "cannot be read", where=path) from error
    except ValueError as error:
        raise HostError("is not a certificate in PEM", where=path, fix="give an X.509 certificate") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise HostError("is not a certificate of an RSA key, which a bundle needs", where=path, fix=_HOW_TO_MAKE)
    return PublicKey(rsa=key)


def read_private_key(path: Path, passphrase: Secret | None = None) -> PrivateKey:
    """The RSA key in PEM at `path`, which only its owner may read. Raises HostError, which says nothing of it."""
    pem = read_private(path, if_missing="name the file of your private key")
    try:
        key = load_pem_private_key(pem.reveal(), None if passphrase is None else passphrase.reveal())
    except TypeError:  # encrypted without a passphrase, or the other way round
        wrong = "is encrypted" if passphrase is None else "is not encrypted, but a passphrase is given"
        fix = "name a file with its passphrase" if passphrase is None else "leave the passphrase out"
        raise HostError(wrong, where=path, fix=fix) from None
    except ValueError:
        what = "is not a private key in PEM" if passphrase is None else "is not a key that this passphrase opens"
        raise HostError(what, where=path, fix="give the .pem file of an RSA key") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise HostError("is not an RSA key, which a bundle needs", where=path, fix=_HOW_TO_MAKE)
    return PrivateKey(rsa=key)


def read_pair(*, certificate: Path, key: Path, passphrase: Secret | None = None) -> PrivateKey:
    """The private key at `key`. Raises HostError if it is not the one of `certificate`, or either is no good."""
    private = read_private_key(key, passphrase)
    if private.public.rsa != read_certificate(certificate).rsa:
        fix = "give the key that the certificate was made with"
        raise HostError(f"does not belong to the certificate {certificate}", where=key, fix=fix)
    return private


class Encryption:
    """AES-128-CBC with padding, straight into a buffer: `openssl enc -aes-128-cbc -K KEY -iv IV`."""

    def __init__(self, key: BundleKey) -> None:
        self._encryptor = _cipher(key).encryptor()
        self._taken_bytes = 0

    @property
    def pending_bytes(self) -> int:
        """How many bytes were taken and wait for the rest of their block of 16."""
        return self._taken_bytes % AES_BLOCK

    def encrypt_into(self, plain: memoryview, buffer: memoryview) -> int:
        """Encrypt `plain` and all that was pending; how many bytes of `buffer` were written.

        `buffer` must have room for 15 bytes more than `plain` has.
        """
        self._taken_bytes += len(plain)
        return self._encryptor.update_into(plain, buffer)

    def finish(self) -> bytes:
        """The last block, of 16 bytes: what was pending, and the padding."""
        count = AES_BLOCK - self.pending_bytes
        return self._encryptor.update(bytes([count]) * count) + self._encryptor.finalize()


def decrypt(pieces: Iterable[bytes], key: BundleKey) -> Iterator[bytes]:
    """What `Encryption` made `pieces` of. Raises BuildError at the end if the padding is wrong."""
    decryptor = _cipher(key).decryptor()
    held = b""  # the last that came out: it may be the padding
    for piece in pieces:
        if plain := decryptor.update(piece):
            if held:
                yield held
            held = plain
    try:
        decryptor.finalize()
    except ValueError as error:
        raise BuildError("is encrypted data of no whole number of blocks") from error
    count = held[-1] if held else 0
    if not 1 <= count <= AES_BLOCK or held[-count:] != bytes([count]) * count:
        raise BuildError("does not end as encrypted data does")
    yield held[:-count]


def _cipher(key: BundleKey) -> Cipher[modes.CBC]:
    texts = (secret.reveal().decode("ascii") for secret in (key.key, key.iv))
    key_bytes, iv_bytes = map(bytes.fromhex, texts)
    return Cipher(algorithms.AES(key_bytes), modes.CBC(iv_bytes))
