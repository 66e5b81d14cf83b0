"""RegisterImage of an instance-store bundle: the manifest and all that it names must be in S3, and be an image."""

import io
import os
import re
import tarfile
import zlib
from dataclasses import dataclass
from hashlib import sha1
from itertools import count
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.cloud.clients import Clients, refused

PART_BYTES = 10_485_760
NUMBERS = count()

Acl = Literal["aws-exec-read", "private"]


@dataclass(frozen=True)
class Bundle:
    """A manifest and its parts, as they lie in a bucket."""

    manifest: str
    parts: dict[str, bytes]


def rsa_hex(key: rsa.RSAPublicKey, text: str) -> str:
    return key.encrypt(text.encode(), padding.PKCS1v15()).hex()


def sha1_hex(content: bytes) -> str:
    return sha1(content, usedforsecurity=False).hexdigest()


def archive_of(image: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        member = tarfile.TarInfo("image")
        member.size = len(image)
        tar.addfile(member, io.BytesIO(image))
    return stream.getvalue()


def make_bundle(image: bytes, ec2: rsa.RSAPublicKey) -> Bundle:
    """What ec2-bundle-image makes, but for the signature and the user's keys, which EC2 cannot look into."""
    key, start = os.urandom(16), os.urandom(16)
    archive = archive_of(image)
    packer = zlib.compressobj(1, wbits=31)
    packed = packer.compress(archive) + packer.flush()
    fill = 16 - len(packed) % 16
    encryptor = Cipher(algorithms.AES(key), modes.CBC(start)).encryptor()
    sealed = encryptor.update(packed + bytes([fill]) * fill) + encryptor.finalize()
    pieces = [sealed[at : at + PART_BYTES] for at in range(0, len(sealed), PART_BYTES)]
    parts = {f"image.part.{number}": piece for number, piece in enumerate(pieces)}
    listed = "".join(
        f"<part index='{number}'><filename>{name}</filename><digest algorithm='SHA1'>{sha1_hex(piece)}</digest></part>"
        for number, (name, piece) in enumerate(parts.items())
    )
    manifest = (
        "<?xml version='1.0'?><manifest><version>2007-10-10</version>"
        "<machine_configuration><architecture>x86_64</architecture></machine_configuration>"
        "<image><name>image</name><user>123456789012</user><type>machine</type>"
        f"<digest algorithm='SHA1'>{sha1_hex(archive)}</digest>"
        f"<size>{len(image)}</size><bundled_size>{len(sealed)}</bundled_size>"
        f"<ec2_encrypted_key algorithm='AES-128-CBC'>{rsa_hex(ec2, key.hex())}</ec2_encrypted_key>"
        f"<user_encrypted_key algorithm='AES-128-CBC'>{'ab' * 256}</user_encrypted_key>"
        f"<ec2_encrypted_iv>{rsa_hex(ec2, start.hex())}</ec2_encrypted_iv>"
        f"<user_encrypted_iv>{'ab' * 256}</user_encrypted_iv>"
        f"<parts count='{len(parts)}'>{listed}</parts></image><signature>{'cd' * 256}</signature></manifest>"
    )
    return Bundle(manifest=manifest, parts=parts)


@pytest.fixture(scope="module")
def ec2_public_key(aws: Clients) -> rsa.RSAPublicKey:
    key = x509.load_pem_x509_certificate(aws.cloud.ec2_certificate().read_bytes()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    return key


@pytest.fixture(scope="module")
def bundle(ec2_public_key: rsa.RSAPublicKey) -> Bundle:
    """One of two parts."""
    return make_bundle(os.urandom(PART_BYTES + 5000), ec2_public_key)


@pytest.fixture(scope="module")
def bucket(aws: Clients, bundle: Bundle) -> str:
    """A bucket with all parts in it, for EC2 to read."""
    name = "bundles"
    aws.s3.create_bucket(Bucket=name, ObjectOwnership="ObjectWriter")
    for part, content in bundle.parts.items():
        aws.s3.put_object(Bucket=name, Key=f"some/{part}", Body=content, ACL="aws-exec-read")
    return name


def put(aws: Clients, bucket: str, manifest: str, acl: Acl = "aws-exec-read") -> str:
    """Put a manifest beside the parts; gives its location."""
    key = f"some/{next(NUMBERS)}.manifest.xml"
    aws.s3.put_object(Bucket=bucket, Key=key, Body=manifest.encode(), ACL=acl)
    return f"{bucket}/{key}"


def register(aws: Clients, location: str, **options: object) -> str:
    name = f"bundled-{next(NUMBERS)}"
    return aws.ec2.register_image(Name=name, ImageLocation=location, VirtualizationType="hvm", **options)["ImageId"]  # type: ignore[arg-type]


def changed(bundle: Bundle, pattern: str, new: str) -> str:
    text, times = re.subn(pattern, new, bundle.manifest, count=1)
    assert times == 1
    return text


def test_a_whole_bundle_becomes_an_image(aws: Clients, bucket: str, bundle: Bundle) -> None:
    location = put(aws, bucket, bundle.manifest)

    image = register(aws, location)

    [shown] = aws.ec2.describe_images(ImageIds=[image])["Images"]
    assert (shown["ImageLocation"], shown["RootDeviceType"]) == (location, "instance-store")
    assert (shown["Architecture"], shown["VirtualizationType"]) == ("x86_64", "hvm")


WRONG = {
    "another-version": ("2007-10-10", "2006-10-10", "version"),
    "another-account": ("123456789012", "111122223333", "account"),
    "a-kernel": ("<type>machine", "<type>kernel", "machine image"),
    "another-architecture": ("x86_64", "arm64", "architecture"),
    "another-count": ("count='2'", "count='3'", "count"),
    "numbered-otherwise": ("index='1'", "index='2'", "numbered"),
    "another-bundled-size": (r"<bundled_size>\d+", "<bundled_size>1", "bytes, not the 1"),
    "another-size": (r"<size>\d+", "<size>77", "77 bytes"),
    "too-large": (r"<size>\d+", f"<size>{(10 << 30) + 1}", "larger than 10 GiB"),
    "another-name": ("<name>image", "<name>other", "other"),
    "another-digest": (r"'SHA1'>[0-9a-f]{40}</digest><size>", f"'SHA1'>{'0' * 40}</digest><size>", "of the image"),
    "another-part": (r"'SHA1'>[0-9a-f]{40}</digest></part>", f"'SHA1'>{'0' * 40}</digest></part>", "of the part"),
    "missing-part": ("image.part.1", "image.part.2", "404.*image.part.2"),
    "short-part": ("image.part.0", "image.part.1", "image.part.1 has"),
    "another-key": (r"'AES-128-CBC'>[0-9a-f]+", f"'AES-128-CBC'>{'ef' * 256}", "ec2-cert.pem"),
    "no-signature": (r"<signature>[0-9a-f]+", "<signature>none", "signature"),
    "no-start-value": (r"<ec2_encrypted_iv>.*</ec2_encrypted_iv>", "", "ec2_encrypted_iv"),
    "no-xml": ("<manifest>", "<manifest", "no XML"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_manifest_that_is_wrong_is_refused(aws: Clients, bucket: str, bundle: Bundle, case: str) -> None:
    pattern, new, match = WRONG[case]
    location = put(aws, bucket, changed(bundle, pattern, new))

    with refused("InvalidManifest", match):
        register(aws, location)


def test_a_manifest_that_ec2_may_not_read_is_refused(aws: Clients, bucket: str, bundle: Bundle) -> None:
    location = put(aws, bucket, bundle.manifest, acl="private")

    with refused("InvalidManifest", "403.*manifest.xml"):
        register(aws, location)


def test_a_part_that_ec2_may_not_read_is_refused(aws: Clients, bucket: str, bundle: Bundle) -> None:
    aws.s3.put_object(Bucket=bucket, Key="some/private", Body=bundle.parts["image.part.1"])
    location = put(aws, bucket, bundle.manifest.replace("image.part.1", "private"))

    with refused("InvalidManifest", "403.*private"):
        register(aws, location)


def test_a_bucket_in_another_region_is_refused(aws: Clients, bucket: str, bundle: Bundle) -> None:
    location = put(aws, bucket, bundle.manifest)

    with refused("InvalidManifest", "301"):
        register(Clients(aws.cloud, region="us-west-2"), location)


def test_a_bundle_does_not_boot_by_uefi(aws: Clients, bucket: str, bundle: Bundle) -> None:
    location = put(aws, bucket, bundle.manifest)

    with refused("InvalidParameterCombination", "UEFI"):
        register(aws, location, Architecture="x86_64", BootMode="uefi")


def test_the_architecture_must_be_that_of_the_manifest(aws: Clients, bucket: str, bundle: Bundle) -> None:
    location = put(aws, bucket, bundle.manifest)

    with refused("InvalidParameterCombination", "x86_64"):
        register(aws, location, Architecture="i386")
