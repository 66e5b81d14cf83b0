"""The manifest of a classic bundle, version 2007-10-10: values to exact bytes and back.

Unbundlers check the signature over what they write themselves after they have read the XML. So a manifest is ASCII on
one line, with single quotes, without white space between elements, empty elements and entities.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from imagebuilder.errors import BuildError

Architecture = Literal["i386", "x86_64"]

FORMAT_VERSION = "2007-10-10"
MOST_MANIFEST_BYTES = 16 << 20  # a hundred thousand parts

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # as a file, in a tar header, in XML and in an S3 key
_SAFE_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")  # in the manifest's own directory, whatever it says
_USER = re.compile(r"[0-9]{12}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,13}")  # up to a hundred TB
_CIPHER = {"algorithm": "AES-128-CBC"}
_DIGEST = {"algorithm": "SHA1"}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part: the name of its file, and the SHA-1 of its bytes in hex."""

    file_name: str
    sha1: str


@dataclass(frozen=True, kw_only=True)
class WrappedKeys:
    """The bundle's key and initialisation vector, each encrypted for the user and for EC2; all in hex."""

    ec2_key: str
    user_key: str
    ec2_iv: str
    user_iv: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle holds and how to open it.

    `tar_sha1` is that of the archive before it was compressed, in hex; `size_bytes` is the image's with its holes,
    `bundled_bytes` the sum of the parts'.
    """

    name: str
    user: str
    architecture: Architecture
    tar_sha1: str
    size_bytes: int
    bundled_bytes: int
    keys: WrappedKeys
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class SignedManifest:
    """A manifest as it was found; `signature` is over `signed_bytes`, and not checked yet."""

    manifest: Manifest
    signed_bytes: bytes
    signature: bytes


def is_bundle_name(name: str) -> bool:
    """Whether an image can have this name in a bundle: up to 100 letters, digits and `. _ -`, the first no sign."""
    return _SAFE_NAME.fullmatch(name) is not None


def manifest_name(name: str) -> str:
    """The file name of the manifest of the bundle `name`."""
    return f"{name}.manifest.xml"


def part_names(name: str, count: int) -> tuple[str, ...]:
    """The file names of the parts of a bundle: numbered in as many digits as the count has."""
    return tuple(part_name(name, index, len(str(count))) for index in range(count))


def part_name(name: str, index: int, digits: int) -> str:
    """The file name of part `index`, from 0."""
    return f"{name}.part.{index:0{digits}d}"


def signed_bytes_of(manifest: Manifest) -> bytes:
    """What the signature of `manifest` is over: two elements of it, end to end."""
    return (_machine_configuration(manifest) + _image(manifest)).encode("ascii")


def render_manifest(manifest: Manifest, *, signature: bytes, bundler: tuple[str, str]) -> bytes:
    """The file; `bundler` is the name and the version of the program that makes it."""
    maker, version = bundler
    made_by = _element("name", maker) + _element("version", version) + _element("release", "1")
    content = [
        _element("version", FORMAT_VERSION),
        _element("bundler", made_by),
        signed_bytes_of(manifest).decode("ascii"),
        _element("signature", signature.hex()),
    ]
    return f"<?xml version='1.0'?>{_element('manifest', ''.join(content))}".encode("ascii")


def parse_manifest(content: bytes) -> SignedManifest:
    """The manifest in `content`, also one by another tool. Raises BuildError for all that is not as it should be.

    Its values are read from the very bytes that are signed; the signature itself is for the caller to check.
    """
    text = _plain_text(content)
    root = _parse(text)
    if root.tag != "manifest":
        raise BuildError(f"is no manifest: begins with <{root.tag}>")
    if (version := _text(root, "version")) != FORMAT_VERSION:
        raise BuildError(f"is a manifest of version {version!a}; only {FORMAT_VERSION} is known")
    signature = _matching(_HEX, root, "signature")
    signed = _literal(text, "machine_configuration") + _literal(text, "image")
    return SignedManifest(
        manifest=_read(_parse(f"<signed>{signed}</signed>")),
        signed_bytes=signed.encode("ascii"),
        signature=bytes.fromhex(signature),
    )


def _machine_configuration(manifest: Manifest) -> str:
    return _element("machine_configuration", _element("architecture", manifest.architecture))


def _image(manifest: Manifest) -> str:
    keys = manifest.keys
    content = [
        _element("name", manifest.name),
        _element("user", manifest.user),
        _element("type", "machine"),
        _element("digest", manifest.tar_sha1, **_DIGEST),
        _element("size", str(manifest.size_bytes)),
        _element("bundled_size", str(manifest.bundled_bytes)),
        _element("ec2_encrypted_key", keys.ec2_key, **_CIPHER),
        _element("user_encrypted_key", keys.user_key, **_CIPHER),
        _element("ec2_encrypted_iv", keys.ec2_iv),
        _element("user_encrypted_iv", keys.user_iv),
        _element("parts", "".join(_parts(manifest.parts)), count=str(len(manifest.parts))),
    ]
    return _element("image", "".join(content))


def _parts(parts: Iterable[Part]) -> Iterator[str]:
    for index, part in enumerate(parts):
        content = _element("filename", part.file_name) + _element("digest", part.sha1, **_DIGEST)
        yield _element("part", content, index=str(index))


def _element(name: str, content: str, **attributes: str) -> str:
    inside = "".join(f" {key}='{value}'" for key, value in attributes.items())
    return f"<{name}{inside}>{content}</{name}>"


def _plain_text(content: bytes) -> str:
    if len(content) > MOST_MANIFEST_BYTES:
        raise BuildError(f"is no manifest: larger than {MOST_MANIFEST_BYTES >> 20} MiB")
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError as error:
        raise BuildError("is no manifest: not plain ASCII") from error
    if "<!" in text:  # entities can fill the memory or name other files; a comment can hide what was signed
        raise BuildError("has a document type, a comment or a CDATA section, which no manifest has")
    return text


def _parse(text: str) -> ET.Element:
    try:
        return ET.fromstring(text)  # noqa: S314 - without a document type, which is refused, XML is harmless
    except ET.ParseError as error:
        raise BuildError(f"is no manifest: {error}") from error


def _literal(text: str, tag: str) -> str:
    """The one element `tag` as it stands in the file, with its tags."""
    begin, end = f"<{tag}>", f"</{tag}>"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise BuildError(f"must have one element <{tag}>, and has not")
    return text[text.index(begin) : text.index(end) + len(end)]


def _read(signed: ET.Element) -> Manifest:
    machine, image = _child(signed, "machine_configuration"), _child(signed, "image")
    parts = _read_parts(_child(image, "parts"))
    return Manifest(
        name=_matching(_SAFE_NAME, image, "name"),
        user=_matching(_USER, image, "user"),
        architecture=_architecture(_text(machine, "architecture")),
        tar_sha1=_sha1(image),
        size_bytes=int(_matching(_NUMBER, image, "size")),
        bundled_bytes=int(_matching(_NUMBER, image, "bundled_size")),
        keys=WrappedKeys(
            ec2_key=_matching(_HEX, image, "ec2_encrypted_key"),
            user_key=_matching(_HEX, image, "user_encrypted_key"),
            ec2_iv=_matching(_HEX, image, "ec2_encrypted_iv"),
            user_iv=_matching(_HEX, image, "user_encrypted_iv"),
        ),
        parts=parts,
    )


def _read_parts(element: ET.Element) -> tuple[Part, ...]:
    rows = element.findall("part")
    if element.get("count") != str(len(rows)) or [row.get("index") for row in rows] != list(map(str, range(len(rows)))):
        raise BuildError("does not count its parts rightly: count and indexes must be those of the parts listed")
    parts = tuple(Part(file_name=_matching(_SAFE_FILE, row, "filename"), sha1=_sha1(row)) for row in rows)
    if not parts or len({part.file_name for part in parts}) != len(parts):
        raise BuildError("has no parts, or one twice")
    return parts


def _child(parent: ET.Element, tag: str) -> ET.Element:
    found = parent.findall(tag)
    if len(found) != 1:
        raise BuildError(f"must have one element <{tag}> in <{parent.tag}>, and has {len(found)}")
    return found[0]


def _text(parent: ET.Element, tag: str) -> str:
    child = _child(parent, tag)
    if len(child):
        raise BuildError(f"has elements in <{tag}>, where a text is expected")
    return (child.text or "").strip()


def _matching(pattern: re.Pattern[str], parent: ET.Element, tag: str) -> str:
    text = _text(parent, tag)
    if not pattern.fullmatch(text):
        raise BuildError(f"has {text[:60]!a} in <{tag}>, which cannot be")
    return text


def _sha1(parent: ET.Element) -> str:
    if (algorithm := _child(parent, "digest").get("algorithm")) != "SHA1":
        raise BuildError(f"has a digest by {algorithm!a}; only SHA1 is known")
    return _matching(_SHA1, parent, "digest")


def _architecture(text: str) -> Architecture:
    match text:
        case "i386" | "x86_64":
            return text
    raise BuildError(f"is of the architecture {text[:60]!a}; a bundle is i386 or x86_64")
