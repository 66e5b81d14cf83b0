"""Reads the manifest of an instance-store bundle, and makes sure that all it names is in S3 as it says.

The format is version 2007-10-10, as ec2-bundle-image and its kin write it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from imagebuilder.cloud.bundle_content import BadBundle, Claimed, check_content
from imagebuilder.cloud.ec2_key import Ec2Key
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.regions import ACCOUNT
from imagebuilder.cloud.s3_access import READABLE_TO_EC2
from imagebuilder.cloud.s3_objects import Objects, sha1_of

_VERSION = "2007-10-10"
# All parts but the last have exactly that.
_PART_BYTES = 10_485_760
_MOST_BYTES = 10 << 30


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What RegisterImage takes from a manifest."""

    architecture: str


def read_bundle(objects: Objects, ec2_key: Ec2Key, location: str, *, region: str) -> Bundle:
    """The bundle whose manifest is at `location`, bucket/key. Raises Refusal if anything of it is not as it must be."""
    bucket_name, _, key = location.strip("/").partition("/")
    if not bucket_name or not key.endswith(".manifest.xml"):
        raise _bad(f"The manifest location {location} is no BUCKET/KEY that ends in .manifest.xml")
    found = _Bucket(objects=objects, name=bucket_name, region=region)
    text = found.readable(key).read_bytes()
    try:
        manifest = ET.fromstring(text)  # noqa: S314 - of a client that has the key
    except ET.ParseError as error:
        raise _bad(f"The manifest is no XML: {error}") from error
    if manifest.tag != "manifest" or _text(manifest, "version") != _VERSION:
        raise _bad(f"The manifest is none of version {_VERSION}")
    if _text(manifest, "image/user") != ACCOUNT:
        raise _bad(f"The manifest is one of the account {_text(manifest, 'image/user')}")
    if _text(manifest, "image/type") != "machine":
        raise _bad("The manifest is not one of a machine image")
    architecture = _text(manifest, "machine_configuration/architecture")
    if architecture not in {"i386", "x86_64"}:
        raise _bad(f"The architecture is {architecture}")
    _check_signature(manifest)
    parts = _check_parts(manifest, found, key)
    _check_content(manifest, ec2_key, parts)
    return Bundle(architecture=architecture)


def _check_content(manifest: ET.Element, ec2_key: Ec2Key, parts: list[Path]) -> None:
    _cryptogram(manifest, "user_encrypted_key")
    _cryptogram(manifest, "user_encrypted_iv")
    claimed = Claimed(
        name=_text(manifest, "image/name"),
        size_bytes=_number(manifest, "image/size"),
        sha1=_text(manifest, "image/digest"),
    )
    key, start = (_opened(manifest, ec2_key, name) for name in ("ec2_encrypted_key", "ec2_encrypted_iv"))
    try:
        check_content(parts, key=key, start=start, claimed=claimed)
    except BadBundle as error:
        raise _bad(f"The bundle {error}") from error


def _opened(manifest: ET.Element, ec2_key: Ec2Key, name: str) -> bytes:
    """The AES key or its start value, which are encrypted for EC2 as 32 digits in hex."""
    try:
        plain = ec2_key.decrypt(_cryptogram(manifest, name)).decode("ascii")
    except ValueError:
        plain = ""
    # A cryptogram for another key opens to nothing, or to rubbish: OpenSSL does not tell which.
    if not re.fullmatch(r"[0-9a-f]{32}", plain):
        certificate = ec2_key.ensure_certificate()
        raise _bad(f"The {name} is not encrypted for EC2's certificate, which is {certificate} in this cloud")
    return bytes.fromhex(plain)


def _cryptogram(manifest: ET.Element, name: str) -> bytes:
    text = _text(manifest, f"image/{name}")
    if not re.fullmatch(r"(?:[0-9a-f]{2}){128,512}", text):
        raise _bad(f"The element {name} is no RSA cryptogram in hex")
    return bytes.fromhex(text)


def _check_signature(manifest: ET.Element) -> None:
    if not re.fullmatch(r"(?:[0-9a-f]{2}){128,512}", _text(manifest, "signature")):
        raise _bad("The signature is none in hex")


def _check_parts(manifest: ET.Element, bucket: "_Bucket", key: str) -> list[Path]:
    """The files of the parts, which are as the manifest says."""
    parts = manifest.findall("image/parts/part")
    if str(len(parts)) != _attribute(manifest, "image/parts", "count") or not parts:
        raise _bad("The count of the parts is wrong")
    if [part.get("index") for part in parts] != [str(number) for number in range(len(parts))]:
        raise _bad("The parts are not numbered from 0 on")
    size, bundled = _number(manifest, "image/size"), _number(manifest, "image/bundled_size")
    if size > _MOST_BYTES:
        raise _bad(f"The image is larger than 10 GiB: {size} bytes")
    directory = key.rpartition("/")[0]
    files, total = [], 0
    for number, part in enumerate(parts):
        name = _text(part, "filename")
        path = bucket.readable(f"{directory}/{name}" if directory else name)
        length = path.stat().st_size
        is_last = number == len(parts) - 1
        if length > _PART_BYTES or (length < _PART_BYTES and not is_last):
            raise _bad(f"The part {name} has {length} bytes, not {_PART_BYTES}")
        if sha1_of(path) != _text(part, "digest"):
            raise _bad(f"The digest of the part {name} is not that of the manifest")
        files.append(path)
        total += length
    if total != bundled:
        raise _bad(f"The parts have {total} bytes, not the {bundled} of the manifest")
    return files


@dataclass(frozen=True, kw_only=True)
class _Bucket:
    """Where a bundle is, as EC2 sees it."""

    objects: Objects
    name: str
    region: str

    def readable(self, key: str) -> Path:
        """The file of an object that EC2 can read."""
        if not self.objects.has(self.name):
            raise self._unreadable(key, "404 (Not Found)")
        bucket = self.objects.bucket(self.name)
        if bucket.region != self.region:
            raise self._unreadable(key, "301 (Moved Permanently)")
        path = self.objects.file(self.name, key)
        if path is None:
            raise self._unreadable(key, "404 (Not Found)")
        if bucket.acls.get(key) not in READABLE_TO_EC2:
            raise self._unreadable(key, "403 (Forbidden)")
        return path

    def _unreadable(self, key: str, status: str) -> Refusal:
        url = f"http://s3.amazonaws.com/{self.name}/{key}"
        hint = "check your manifest path is correct and in the correct region."
        return _bad(f"HTTP {status} response for URL {url}: {hint}")


def _text(element: ET.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise _bad(f"The element {path} is missing")
    return text


def _number(element: ET.Element, path: str) -> int:
    text = _text(element, path)
    if not text.isdecimal():
        raise _bad(f"The element {path} is no number")
    return int(text)


def _attribute(element: ET.Element, path: str, name: str) -> str | None:
    found = element.find(path)
    return None if found is None else found.get(name)


def _bad(message: str) -> Refusal:
    return Refusal(code="InvalidManifest", message=message)
