"""Bundles of small images: opened by ourselves, and by a shell script with none of our code."""

import re
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.ec2.bundle import MOST_IMAGE_BYTES, PART_BYTES, check_request, count_digits
from imagebuilder.ec2.bundle_directory import open_bundle_directory
from imagebuilder.ec2.ciphers import new_bundle_key
from imagebuilder.ec2.gzip_member import Effort
from imagebuilder.ec2.manifest import parse_manifest
from imagebuilder.ec2.unbundle import open_manifest, unbundle
from imagebuilder.errors import HostError, UsageError
from imagebuilder.image.disk_reader import DiskReader, open_disk
from tests.bundles import KEY, MIB, bundle_into, disk_of, ec2, make_bundle, noise, request, user

OPEN_BUNDLE = Path(__file__).with_name("open_bundle.sh")


def names_in(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def opened(manifest: Path, image: Path) -> bytes:
    """The image of a bundle that we open ourselves."""
    unbundle(open_manifest(manifest, user().private), image)
    return image.read_bytes()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a bundle of three parts; nobody changes it."""
    return make_bundle(tmp_path_factory.mktemp("bundle") / "whole")


def image_of(bundle: Path) -> bytes:
    return bundle.parent.with_suffix(".raw").read_bytes()


def test_openssl_gunzip_and_tar_open_a_bundle(bundle: Path, tmp_path: Path) -> None:
    command = [OPEN_BUNDLE, bundle, user().key, tmp_path]

    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert said == f"{tmp_path}/worker\n"
    assert (tmp_path / "worker").read_bytes() == image_of(bundle)


def test_the_script_notices_another_key_and_a_damaged_part(bundle: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", *bundle.parent.iterdir(), tmp_path], check=True)
    with (tmp_path / "worker.part.1").open("r+b") as part:
        part.write(b"damage")

    damaged = subprocess.run([OPEN_BUNDLE, tmp_path / bundle.name, user().key, tmp_path], check=False)
    foreign = subprocess.run([OPEN_BUNDLE, bundle, ec2().key, tmp_path], check=False)

    assert (damaged.returncode, foreign.returncode) == (1, 1)


def test_unbundling_gives_the_image_back_with_its_holes(bundle: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.raw"

    content = opened(bundle, image)

    assert content == image_of(bundle)
    assert image.stat().st_blocks * 512 < 24 * MIB  # of 41
    assert image.stat().st_mode & 0o777 == 0o600


def test_ec2_can_open_a_bundle_with_its_own_key(bundle: Path) -> None:
    keys = parse_manifest(bundle.read_bytes()).manifest.keys

    assert ec2().private.unwrap(key=keys.ec2_key, iv=keys.ec2_iv) == KEY


def test_the_key_of_a_bundle_is_in_none_of_its_files(bundle: Path) -> None:
    content = b"".join(file.read_bytes() for file in bundle.parent.iterdir())

    texts = [secret.reveal() for secret in (KEY.key, KEY.iv)]

    assert [text in content or bytes.fromhex(text.decode()) in content for text in texts] == [False, False]
    assert [text.decode() in f"{KEY} {request()}" for text in texts] == [False, False]


def test_parts_are_of_10_mib_and_the_manifest_says_all_of_them(bundle: Path) -> None:
    manifest = parse_manifest(bundle.read_bytes()).manifest

    sizes = [file.stat().st_size for file in sorted(bundle.parent.glob("*.part.*"))]

    assert [part.file_name for part in manifest.parts] == ["worker.part.0", "worker.part.1", "worker.part.2"]
    assert sizes[:2] == [PART_BYTES, PART_BYTES]
    assert sum(sizes) == manifest.bundled_bytes
    assert names_in(bundle.parent) == ["worker.manifest.xml", *(part.file_name for part in manifest.parts)]


@given(
    layout=st.lists(st.tuples(st.integers(0, 1 << 17), st.integers(1, 1 << 17), st.booleans()), max_size=30),
    tail=st.integers(1, 1 << 16),
    effort=st.sampled_from(["fast", "small"]),
)
@settings(max_examples=15)
def test_images_of_any_layout_come_back(
    tmp_path_factory: pytest.TempPathFactory, layout: list[tuple[int, int, bool]], tail: int, effort: Effort
) -> None:
    place, pieces = 0, []
    for hole, length, is_noise in layout:
        pieces.append((place + hole, noise(length, place) if is_noise else b"text" * (length // 4) + b"t"))
        place = pieces[-1][0] + len(pieces[-1][1])
    directory = tmp_path_factory.mktemp("any")
    with disk_of(directory / "disk.raw", place + tail, pieces) as disk:
        made = bundle_into(directory / "bundle", disk, request(effort=effort))

    content = opened(directory / "bundle" / made.manifest_file, directory / "image.raw")

    assert content == (directory / "disk.raw").read_bytes()


def test_an_overlay_is_bundled_through_its_chain(tmp_path: Path) -> None:
    base, overlay, flat = tmp_path / "base.raw", tmp_path / "overlay.qcow2", tmp_path / "flat.raw"
    base.write_bytes(b"B" * MIB + bytes(2 * MIB) + b"E" * MIB)
    create: list[str | Path] = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", overlay]
    write: list[str | Path] = [
        "qemu-io",
        "-f",
        "qcow2",
        "-c",
        "write -P 7 70000 200000",
        "-c",
        "write -z 3M 512k",
        overlay,
    ]
    convert: list[str | Path] = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", overlay, flat]
    for command in (create, write, convert):
        subprocess.run(command, check=True, capture_output=True)

    with open_disk(overlay, "qcow2") as disk:
        made = bundle_into(tmp_path / "bundle", disk, request())

    assert opened(tmp_path / "bundle" / made.manifest_file, tmp_path / "image.raw") == flat.read_bytes()


def test_an_image_that_is_one_hole_is_bundled(tmp_path: Path) -> None:
    with disk_of(tmp_path / "disk.raw", 3 * MIB, []) as disk:
        made = bundle_into(tmp_path / "bundle", disk, request())

    assert opened(tmp_path / "bundle" / made.manifest_file, tmp_path / "image.raw") == bytes(3 * MIB)


@pytest.mark.parametrize("effort", ["fast", "small"])
def test_the_same_image_and_key_make_the_same_parts(tmp_path: Path, effort: Effort) -> None:
    with disk_of(tmp_path / "disk.raw", 16 * MIB, [(0, noise(5 * MIB)), (6 * MIB, b"text" * MIB)]) as disk:
        first = bundle_into(tmp_path / "first", disk, request(effort=effort))
        second = bundle_into(tmp_path / "second", disk, request(effort=effort))
        other = bundle_into(tmp_path / "other", disk, request(effort=effort, key=new_bundle_key()))

    assert first.manifest.parts == second.manifest.parts
    assert first.manifest.tar_sha1 == other.manifest.tar_sha1
    assert first.manifest.parts != other.manifest.parts


@pytest.mark.parametrize(("length", "digits"), [(3 * MIB, 1), (9 * PART_BYTES + MIB, 2)])
def test_the_digits_of_part_names_are_known_before_the_first_part(tmp_path: Path, length: int, digits: int) -> None:
    zeros_that_are_no_hole = bytes(20 * MIB)
    content = noise(length - 100_000) + zeros_that_are_no_hole
    with disk_of(tmp_path / "disk.raw", len(content), [(0, content)]) as disk:
        made = bundle_into(tmp_path / "bundle", disk, request())

        counted = count_digits(disk, request())

    assert counted == digits == len(made.manifest.parts[0].file_name.rpartition(".")[2])


def test_progress_ends_with_the_whole_image(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with disk_of(tmp_path / "disk.raw", 16 * MIB, [(MIB, noise(5 * MIB))]) as disk:
        count_digits(disk, request(), on_progress=lambda done, whole: told.append((done, whole)))

    assert told == sorted(told)


@pytest.mark.parametrize(
    ("name", "account", "size_bytes", "what"),
    [
        ("worker", "123456789012", MOST_IMAGE_BYTES + 1, "10 GiB at the most"),
        ("worker", "123456789012", 0, "empty"),
        ("../worker", "123456789012", MIB, "cannot be named"),
        ("worker", "1234-5678-9012", MIB, "no AWS account"),
    ],
)
def test_what_cannot_be_bundled_is_said_first(name: str, account: str, size_bytes: int, what: str) -> None:
    with pytest.raises(UsageError, match=re.escape(what)):
        check_request(request(name=name, account=account), size_bytes)


def test_a_bundle_is_not_overwritten_unasked(tmp_path: Path) -> None:
    with disk_of(tmp_path / "disk.raw", MIB, [(0, b"one")]) as disk:
        bundle_into(tmp_path / "bundle", disk, request())

        with pytest.raises(UsageError, match="has a bundle of this name"):
            bundle_into(tmp_path / "bundle", disk, request())
        bundle_into(tmp_path / "bundle", disk, request(name="another"))

    assert names_in(tmp_path / "bundle") == [
        *("another.manifest.xml", "another.part.0"),
        *("worker.manifest.xml", "worker.part.0"),
    ]


def test_a_bundle_that_is_replaced_leaves_no_part_of_its_own(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")

    with disk_of(tmp_path / "small.raw", MIB, [(0, b"one")]) as disk:
        bundle_into(tmp_path / "bundle", disk, request(), existing="replace")

    assert names_in(tmp_path / "bundle") == ["worker.manifest.xml", "worker.part.0"]
    assert opened(tmp_path / "bundle/worker.manifest.xml", tmp_path / "i.raw") == (tmp_path / "small.raw").read_bytes()


class Torn(DiskReader):
    """A disk on which nothing can be read behind the first 4 MiB, for the reason given."""

    def __init__(self, disk: DiskReader, reason: BaseException) -> None:
        super().__init__(size_bytes=disk.size_bytes, extents=disk.extents, descriptors=disk._descriptors)
        self.reason = reason

    def read_into(self, start: int, buffer: memoryview) -> None:
        if start > 4 * MIB:
            raise self.reason
        super().read_into(start, buffer)


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), HostError("the disk is torn")])
def test_a_run_that_ends_early_leaves_what_was_there(tmp_path: Path, reason: BaseException) -> None:
    make_bundle(tmp_path / "bundle")
    before = {file: file.read_bytes() for file in (tmp_path / "bundle").iterdir()}

    with (
        disk_of(tmp_path / "disk.raw", 40 * MIB, [(0, noise(30 * MIB))]) as disk,
        pytest.raises(type(reason)),
    ):
        bundle_into(tmp_path / "bundle", Torn(disk, reason), request(), existing="replace")

    assert {file: file.read_bytes() for file in (tmp_path / "bundle").iterdir()} == before


@contextmanager
def full_at_5_mib() -> Iterator[None]:
    """No file can grow beyond 5 MiB, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * MIB, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_and_nothing_left_on_it(tmp_path: Path) -> None:
    with (
        disk_of(tmp_path / "disk.raw", 8 * MIB, [(0, noise(7 * MIB))]) as disk,
        full_at_5_mib(),
        pytest.raises(HostError, match="cannot be written: File too large"),
    ):
        bundle_into(tmp_path / "bundle", disk, request())

    assert names_in(tmp_path / "bundle") == []


def test_what_a_killed_run_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".new-bundle-abc").mkdir()
    (tmp_path / ".new-bundle-abc/0").write_bytes(b"part")

    with disk_of(tmp_path / "disk.raw", MIB, [(0, b"one")]) as disk:
        bundle_into(tmp_path, disk, request())

    assert names_in(tmp_path) == ["disk.raw", "worker.manifest.xml", "worker.part.0"]


def test_two_runs_do_not_write_into_one_directory(tmp_path: Path) -> None:
    with (
        open_bundle_directory(tmp_path, "worker"),
        pytest.raises(UsageError, match="another run"),
        open_bundle_directory(tmp_path, "another"),
    ):
        pass


def test_a_directory_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(HostError, match="cannot be written"), open_bundle_directory(tmp_path / "file", "worker"):
        pass
