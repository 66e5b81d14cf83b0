"""The manifest of a bundle: exact bytes, and nothing accepted that is not one."""

from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.ec2.manifest import (
    Manifest,
    Part,
    WrappedKeys,
    is_bundle_name,
    parse_manifest,
    part_names,
    render_manifest,
    signed_bytes_of,
)
from imagebuilder.errors import BuildError

GOLDEN = Path(__file__).parent / "golden/worker.manifest.xml"
SIGNATURE = bytes(range(16))
MANIFEST = Manifest(
    name="worker",
    user="123456789012",
    architecture="x86_64",
    tar_sha1="0123456789abcdef0123456789abcdef01234567",
    size_bytes=4294967296,
    bundled_bytes=10485760 + 16,
    keys=WrappedKeys(ec2_key="e0e1", user_key="a0a1", ec2_iv="e2e3", user_iv="a2a3"),
    parts=(Part(file_name="worker.part.0", sha1="aa" * 20), Part(file_name="worker.part.1", sha1="bb" * 20)),
)


def rendered(manifest: Manifest = MANIFEST) -> bytes:
    return render_manifest(manifest, signature=SIGNATURE, bundler=("imgbuild", "1.2.3"))


def with_text(old: str, new: str) -> bytes:
    text = rendered().decode()
    assert old in text
    return text.replace(old, new).encode()


def test_a_manifest_is_these_very_bytes() -> None:
    assert rendered() == GOLDEN.read_bytes()


def test_it_comes_back_with_the_bytes_that_are_signed() -> None:
    signed = parse_manifest(rendered())

    assert (signed.manifest, signed.signature) == (MANIFEST, SIGNATURE)
    assert signed.signed_bytes == signed_bytes_of(MANIFEST)
    assert signed.signed_bytes in rendered()


def test_what_else_another_tool_writes_is_signed_and_read_over() -> None:
    further = "<kernel_id>aki-1</kernel_id><product_codes><product_code>x</product_code></product_codes>"

    signed = parse_manifest(with_text("</architecture>", f"</architecture>{further}"))

    assert signed.manifest == MANIFEST
    assert further.encode() in signed.signed_bytes


def test_parts_are_numbered_in_as_many_digits_as_their_count_has() -> None:
    first_and_last = [(part_names("w", count)[0], part_names("w", count)[-1]) for count in (1, 9, 10, 100)]

    assert first_and_last == [
        ("w.part.0", "w.part.0"),
        ("w.part.0", "w.part.8"),
        ("w.part.00", "w.part.09"),
        ("w.part.000", "w.part.099"),
    ]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "ä", "a'b", "<a>", "-n", "a" * 101, "a\n"])
def test_a_name_that_would_need_care_is_none(name: str) -> None:
    assert not is_bundle_name(name)


BOMB = '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "no element found"),
        (b"<html></html>", "begins with <html>"),
        (rendered()[:-1], "unclosed token|no element"),
        (rendered() + b"<x/>", "junk after"),
        (b"\xff\xfe" + "<manifest/>".encode("utf-16-le"), "not plain ASCII"),
        (with_text("imgbuild", "\u00e9"), "not plain ASCII"),
        (b"x" * (17 << 20), "larger than"),
        (with_text("<manifest>", f"{BOMB}<manifest>"), "document type"),
        (with_text("<user>", "<!-- --><user>"), "document type, a comment"),
        (with_text("worker.part.1", "&worker;"), "undefined entity"),
        (with_text("2007-10-10", "2006-01-01"), "version '2006-01-01'"),
        (with_text("x86_64", "arm64"), "architecture 'arm64'"),
        (with_text("worker.part.1", "../worker.part.1"), "in <filename>"),
        (with_text("worker.part.1", "/etc/passwd"), "in <filename>"),
        (with_text("worker.part.1", "worker.part.0"), "one twice"),
        (with_text("<name>worker<", "<name>a/b<"), "in <name>"),
        (with_text("bb" * 20, "b" * 39), "in <digest>"),
        (with_text("'SHA1'>bbbb", "'MD5'>bbbb"), "digest by 'MD5'"),
        (with_text("4294967296", "-1"), "in <size>"),
        (with_text("4294967296", "9" * 400), "in <size>"),
        (with_text("<size>4294967296</size>", ""), "one element <size> in <image>, and has 0"),
        (with_text("<size>", "<size>1</size><size>"), "one element <size> in <image>, and has 2"),
        (with_text("<size>4294967296", "<size><i></i>"), "elements in <size>"),
        (with_text("count='2'", "count='1000000000'"), "does not count"),
        (with_text("count='2'", "count='1'"), "does not count"),
        (with_text("index='1'", "index='0'"), "does not count"),
        (with_text("<image>", "<image><image></image>"), "one element <image>"),
        (with_text("<signature>00", "<signature>zz"), "in <signature>"),
        (rendered(replace(MANIFEST, parts=())), "no parts"),
        (with_text("123456789012", "1234-5678-9012"), "in <user>"),
        (with_text("<ec2_encrypted_key algorithm='AES-128-CBC'>e0e1", "<ec2_encrypted_key>x"), "encrypted_key"),
    ],
)
def test_what_is_no_manifest_is_refused(content: bytes, what: str) -> None:
    with pytest.raises(BuildError, match=what):
        parse_manifest(content)


def test_what_is_read_is_what_was_signed() -> None:
    # A second image that a careless reader would find first, outside of what the signature is over.
    forged = with_text("<bundler>", "<image ><size>1</size></image ><bundler>")

    signed = parse_manifest(forged)

    assert signed.manifest == MANIFEST
