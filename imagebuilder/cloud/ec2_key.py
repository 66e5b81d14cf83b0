"""The key that stands for EC2's own: bundles are encrypted for its certificate, and opened with it."""

from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.x509.oid import NameOID

from imagebuilder.whole_files import write_whole

_KEY_FILE = "ec2-key.pem"
CERTIFICATE_FILE = "ec2-cert.pem"
_AES_BLOCK = 16


class Ec2Key:
    """The key of a cloud, made when it is first needed, and kept in its state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def ensure_certificate(self) -> Path:
        """The file with the certificate to encrypt bundles for."""
        path = self._directory / CERTIFICATE_FILE
        if not path.exists():
            write_whole(path, _certificate_of(self._key), survives="kill")
        return path

    def decrypt(self, cryptogram: bytes) -> bytes:
        """What was encrypted for the certificate. Raises ValueError if it was for another one."""
        return self._key.decrypt(cryptogram, padding.PKCS1v15())

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        path = self._directory / _KEY_FILE
        if not path.exists():
            new = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            write_whole(path, new.private_bytes(*formats), mode=0o600, survives="kill")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError(f"{path}: is no RSA key")
        return key


class BlockDecryptor:
    """AES-128 in CBC mode, with the padding of PKCS #7 at the end: how a bundle's parts are encrypted."""

    def __init__(self, key: bytes, start: bytes) -> None:
        self._decryptor = Cipher(algorithms.AES(key), modes.CBC(start)).decryptor()
        self._held = b""

    def update(self, piece: bytes) -> bytes:
        """What can be told so far; the last block is held back for `finish`."""
        plain = self._held + self._decryptor.update(piece)
        self._held = plain[-_AES_BLOCK:]
        return plain[:-_AES_BLOCK]

    def finish(self) -> bytes:
        """The end, without the padding. Raises ValueError if there is no such padding."""
        plain = self._held + self._decryptor.finalize()
        count = plain[-1] if plain else 0
        if not 1 <= count <= _AES_BLOCK or plain[-count:] != bytes([count]) * count:
            raise ValueError("the padding is wrong")
        return plain[:-count]


def _certificate_of(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "EC2 of a cloud on this machine")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
