import shutil
from pathlib import Path

import pytest

from imagebuilder.image.qemu_img import make_overlay
from imagebuilder.image.store import Store
from imagebuilder.programs import run_program
from imagebuilder.xen.boot_files import boot_directory, provide_boot_files, superseded_boot_files
from imagebuilder.xen.disk_files import look_at
from imagebuilder.xen.flat_copy import provide_flat_copy
from imagebuilder.xen.surroundings import FileFacts
from tests.finished import CONTENT, SIZE_BYTES, idle_bench, publish_base, publish_image


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(root=tmp_path / "store")


def test_a_flat_copy_has_the_whole_disk_and_its_holes(store: Store, tmp_path: Path) -> None:
    image = publish_image(store, publish_base(store))

    copy = provide_flat_copy(image, idle_bench(store, tmp_path))

    run_program(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", copy, image.disk])
    assert (copy.stat().st_size, copy.stat().st_blocks < 1000) == (SIZE_BYTES, True)
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_flat_copy_is_made_once(store: Store, tmp_path: Path) -> None:
    image = publish_image(store, publish_base(store))
    bench = idle_bench(store, tmp_path)
    first = provide_flat_copy(image, bench)
    before = first.stat()

    second = provide_flat_copy(image, bench)

    assert (second, second.stat()) == (first, before)


def test_a_raw_image_is_its_own_flat_copy(store: Store, tmp_path: Path) -> None:
    image = publish_image(store, publish_base(store), disk_format="raw")

    assert provide_flat_copy(image, idle_bench(store, tmp_path)) == image.disk


def test_a_flat_copy_goes_with_its_build(store: Store, tmp_path: Path) -> None:
    image = publish_image(store, publish_base(store))

    copy = provide_flat_copy(image, idle_bench(store, tmp_path))

    assert copy.parent == image.directory
    assert sorted(path.name for path in image.directory.parent.iterdir()) == sorted([".lock", "current", image.key])


def test_images_of_one_base_share_their_boot_files(store: Store) -> None:
    base = publish_base(store)
    [first, second] = [publish_image(store, base, name, changes=(f"/etc/{name}",)) for name in ("local01", "local02")]

    assert boot_directory(first, store) == boot_directory(second, store)


@pytest.mark.parametrize("path", ["/boot/grub/grub.cfg", "/vmlinuz", "/initrd.img"])
def test_an_image_that_changes_what_boots_has_boot_files_of_its_own(path: str, store: Store) -> None:
    base = publish_base(store)
    plain = publish_image(store, base, "local01")
    other = publish_image(store, base, "local02", changes=("/etc/hostname", path))

    assert boot_directory(other, store) != boot_directory(plain, store)


def test_boot_files_that_are_there_cost_no_appliance(store: Store, tmp_path: Path) -> None:
    image = publish_image(store, publish_base(store))
    place = boot_directory(image, store)
    place.mkdir(parents=True)
    (place / "options").write_text("root=LABEL=root ro\n")

    files = provide_boot_files([image], idle_bench(store, tmp_path))

    assert files["local01"].options == ("root=LABEL=root", "ro")
    assert (files["local01"].kernel, files["local01"].ramdisk) == (place / "vmlinuz", place / "initrd.img")


def test_boot_files_that_no_current_image_has_are_superseded(store: Store) -> None:
    image = publish_image(store, publish_base(store))
    needed = boot_directory(image, store)
    earlier = needed.with_name("0" * 64)
    needed.mkdir(parents=True)
    earlier.mkdir()

    assert list(superseded_boot_files(store)) == [earlier]


@pytest.mark.parametrize(
    ("format_", "options"), [("raw", []), ("qcow2", []), ("qcow", []), ("qed", []), ("vmdk", []), ("vhdx", [])]
)
def test_the_first_bytes_of_an_image_say_its_format(format_: str, options: list[str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    run_program(["qemu-img", "create", "-q", "-f", format_, *options, disk, "1M"])

    assert look_at(disk) == FileFacts(state="there", format=format_)


def test_a_chain_of_overlays_is_followed_to_its_end(tmp_path: Path) -> None:
    base, middle, top = (tmp_path / name for name in ("base.raw", "middle.qcow2", "top.qcow2"))
    base.write_bytes(CONTENT)
    make_overlay(middle, base=base, base_format="raw")
    make_overlay(top, base=middle, base_format="qcow2")
    whole = look_at(top)

    base.unlink()

    assert whole == FileFacts(state="there", format="qcow2")
    assert look_at(top) == FileFacts(state="there", format="qcow2", missing_backing_files=(str(base),))


def test_an_overlay_that_leads_in_a_circle_is_not_there(tmp_path: Path) -> None:
    one, two = tmp_path / "one.qcow2", tmp_path / "two.qcow2"
    run_program(["qemu-img", "create", "-q", "-f", "qcow2", one, "1M"])
    make_overlay(two, base=one, base_format="qcow2")
    shutil.copy(two, tmp_path / "three")
    run_program(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "two.qcow2", tmp_path / "three"])
    (tmp_path / "three").replace(one)

    assert look_at(two).missing_backing_files == (str(two),)


def test_what_is_no_file_is_said_to_be_none(tmp_path: Path) -> None:
    states = [look_at(tmp_path).state, look_at(tmp_path / "nothing").state, look_at(Path("/dev/null")).format]

    assert states == ["directory", "absent", None]
