import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path, PurePosixPath

import pytest

from imagebuilder.errors import HostError
from imagebuilder.image.store import LISTING, MANIFEST, PLAN, TARGET, Image, Store, StoredBase, swap_link
from imagebuilder.plan.listing import Entry, Kind, Listing
from tests.machines import debian

LISTED = Listing({PurePosixPath("/etc"): Entry(Kind.DIRECTORY, 0o755, 0, 0)})
RECIPE = "f" * 64


def no_wait(directory: Path) -> None:
    raise AssertionError(f"waited for {directory}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(root=tmp_path / "store")


def image_in(directory: Path, key: str = "k1") -> Image:
    return Image(
        role="node",
        name="local01",
        key=key,
        format="qcow2",
        directory=directory,
        base_digest="d" * 64,
        built_at="2026-11-22T10:00:00+00:00",
        inputs={"cluster.yaml: name": "squirrel"},
    )


def fill(new: Path, disk: str = "disk") -> None:
    (new / "disk.qcow2").write_text(disk)
    (new / PLAN).write_text('[{"path": "/etc/motd", "change": "remove"}]')
    LISTED.write(new / LISTING)


def publish(store: Store, key: str = "k1", disk: str = "disk") -> Image:
    with store.new_directory(store.image_directory("node", "local01")) as new:
        fill(new, disk)
        return store.publish(new, image_in(new, key))


def publish_base(store: Store, recipe_key: str = RECIPE, disk: str = "disk") -> StoredBase:
    with store.new_directory(store.bases_directory) as new:
        (new / "disk.raw").write_text(disk)
        (new / TARGET).write_text(debian().to_json())
        LISTED.write(new / LISTING)
        base = StoredBase(digest="d" * 64, format="raw", directory=new)
        return store.publish_base(new, base, recipe_key=recipe_key)


def names_in(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


# Publishing images.


def test_a_published_image_is_the_current_one_with_all_that_belongs_to_it(store: Store) -> None:
    published = publish(store)

    image = store.current("node", "local01")
    assert image == published == image_in(store.root / "images/node/local01/k1")
    assert image.disk.read_text() == "disk"
    assert image.plan_rows() == [{"path": "/etc/motd", "change": "remove"}]
    assert image.listing() == LISTED


def test_nothing_but_whole_builds_is_left_after_publishing(store: Store) -> None:
    publish(store, "k1")
    publish(store, "k2")

    assert names_in(store.image_directory("node", "local01")) == ["current", "k1", "k2"]


def test_the_link_to_the_current_build_is_relative(store: Store) -> None:
    publish(store)

    assert (store.image_directory("node", "local01") / "current").readlink() == Path("k1")


def test_an_image_that_was_never_built_is_not_there(store: Store) -> None:
    assert store.current("node", "local01") is None
    assert list(store.images()) == []


def test_a_build_that_fails_leaves_the_current_image_and_nothing_of_its_own(store: Store) -> None:
    publish(store, "k1")
    home = store.image_directory("node", "local01")

    def build() -> None:
        with store.new_directory(home) as new:
            fill(new)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        build()

    assert names_in(home) == ["current", "k1"]
    assert store.current("node", "local01") == image_in(home / "k1")


def test_an_older_build_can_be_made_the_current_one_again(store: Store) -> None:
    older = publish(store, "k1")
    publish(store, "k2")

    store.make_current("node", "local01", "k1")

    assert store.current("node", "local01") == older


def test_a_build_that_is_not_whole_gives_way_to_one_with_its_key(store: Store) -> None:
    broken = store.image_directory("node", "local01") / "k1"
    (broken / "old").mkdir(parents=True)

    publish(store, "k1", disk="new")

    assert names_in(broken) == ["disk.qcow2", LISTING, MANIFEST, PLAN]
    assert (broken / "disk.qcow2").read_text() == "new"


def test_the_store_can_be_moved(store: Store, tmp_path: Path) -> None:
    publish(store)
    publish_base(store)

    moved = Store(root=store.root.rename(tmp_path / "elsewhere"))

    assert [image.disk.read_text() for image in moved.images()] == ["disk"]
    assert moved.base_by_recipe(RECIPE) is not None


def test_every_image_is_listed_once_by_role_and_name(store: Store) -> None:
    for role, name in [("worker", "worker"), ("node", "local02"), ("node", "local01")]:
        with store.new_directory(store.image_directory(role, name)) as new:
            fill(new)
            store.publish(new, replace(image_in(new), role=role, name=name))

    assert [image.name for image in store.images()] == ["local01", "local02", "worker"]


# What is not whole is not there.

SPOILED_MANIFESTS: dict[str, bytes | None] = {
    "missing": None,
    "empty": b"",
    "cut off": b'{"role": "node", ',
    "not text": b"\xff\xfe\0",
    "no object": b'["role"]',
    "no keys": b"{}",
    "a key that is not known": b'{"role": "node", "digest": "d", "format": "raw", "colour": "red"}',
}


@pytest.mark.parametrize("text", SPOILED_MANIFESTS.values(), ids=SPOILED_MANIFESTS.keys())
def test_an_image_without_a_readable_manifest_is_not_there(text: bytes | None, store: Store) -> None:
    manifest = publish(store).directory / MANIFEST

    spoil(manifest, text)

    assert store.current("node", "local01") is None
    assert list(store.images()) == []


@pytest.mark.parametrize("text", SPOILED_MANIFESTS.values(), ids=SPOILED_MANIFESTS.keys())
def test_a_base_without_a_readable_manifest_is_not_there(text: bytes | None, store: Store) -> None:
    manifest = publish_base(store).directory / MANIFEST

    spoil(manifest, text)

    assert store.base("d" * 64) is None
    assert store.base_by_recipe(RECIPE) is None


def spoil(manifest: Path, text: bytes | None) -> None:
    manifest.unlink()
    if text is not None:
        manifest.write_bytes(text)


def test_an_image_whose_manifest_has_a_key_more_is_of_another_version_and_not_there(store: Store) -> None:
    manifest = publish(store).directory / MANIFEST

    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "compression": "zstd"}))

    assert store.current("node", "local01") is None


def test_an_image_without_its_disk_is_not_there(store: Store) -> None:
    publish(store).disk.unlink()

    assert store.current("node", "local01") is None


def test_a_base_without_its_disk_is_not_there(store: Store) -> None:
    publish_base(store).disk.unlink()

    assert store.base("d" * 64) is None


def test_a_link_to_a_build_that_is_gone_leads_to_none(store: Store) -> None:
    publish(store)

    store.make_current("node", "local01", "k0")

    assert store.current("node", "local01") is None


# Bases.


def test_a_published_base_is_found_by_its_digest_and_by_its_recipe(store: Store) -> None:
    base = publish_base(store)

    assert store.base("d" * 64) == base == store.base_by_recipe(RECIPE)
    assert base.target() == debian()
    assert base.listing() == LISTED


def test_a_published_base_cannot_be_written_nor_read_by_others(store: Store) -> None:
    mode = publish_base(store).disk.stat().st_mode

    assert mode & 0o777 == 0o400


def test_two_recipes_that_give_the_same_base_share_it(store: Store) -> None:
    first = publish_base(store, "a" * 64)
    inode = first.disk.stat().st_ino

    second = publish_base(store, "b" * 64)

    assert (second, second.disk.stat().st_ino) == (first, inode)
    assert names_in(store.bases_directory) == ["by-recipe", "d" * 64]


def test_a_recipe_without_a_base_has_none(store: Store) -> None:
    assert store.base_by_recipe(RECIPE) is None


# Locks and leavings.


def start(action: Callable[[], None]) -> BaseProcess:
    """Run `action` in a process of its own; start it before a lock is taken, which it would have a part in."""
    process = multiprocessing.get_context("fork").Process(target=action, daemon=True)
    process.start()
    return process


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 10
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_second_process_waits_for_the_lock(store: Store, tmp_path: Path) -> None:
    home = store.image_directory("node", "local01")

    def second() -> None:
        wait_for(tmp_path / "locked")
        with store.locked([home], on_wait=lambda _: (tmp_path / "waits").touch()):
            (tmp_path / "holds").touch()

    process = start(second)
    with store.locked([home], on_wait=no_wait):
        (tmp_path / "locked").touch()
        wait_for(tmp_path / "waits")
        held_too_early = (tmp_path / "holds").exists()
    process.join(10)

    assert not held_too_early
    assert (tmp_path / "holds").exists()
    assert process.exitcode == 0


def test_locks_are_taken_in_one_order_so_that_two_builds_cannot_block_each_other(store: Store, tmp_path: Path) -> None:
    homes = [store.image_directory("node", name) for name in ("local02", "local01", "local02")]

    def second() -> None:
        wait_for(tmp_path / "locked")
        with store.locked(homes[::-1], on_wait=lambda home: (tmp_path / f"waits for {home.name}").touch()):
            (tmp_path / "holds").touch()

    process = start(second)
    with store.locked(homes, on_wait=no_wait):
        (tmp_path / "locked").touch()
        wait_for(tmp_path / "waits for local01")
    process.join(10)

    assert names_in(tmp_path) == ["holds", "locked", "store", "waits for local01"]


def test_a_lock_is_free_again_after_its_block(store: Store) -> None:
    home = store.image_directory("node", "local01")
    with store.locked([home], on_wait=no_wait):
        pass

    with store.locked([home], on_wait=no_wait):
        entered = True

    assert entered


def test_what_a_killed_build_leaves_is_swept_by_the_next_and_the_current_image_stays(store: Store) -> None:
    current = publish(store)
    home = store.image_directory("node", "local01")

    def build() -> None:
        with store.locked([home], on_wait=no_wait), store.new_directory(home) as new:
            fill(new)
            (new / "inner").mkdir()
            (home / ".new-current").symlink_to("k2")
            (home / "begun").touch()
            signal.pause()

    process = start(build)
    wait_for(home / "begun")
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(10)
    (home / "begun").unlink()
    left = [name[:5] for name in names_in(home) if name not in {".lock", "current", "k1"}]
    with store.locked([home], on_wait=no_wait):
        swept = names_in(home)

    assert left == [".new-", ".new-"]
    assert swept == [".lock", "current", "k1"]
    assert store.current("node", "local01") == current


def test_what_another_process_is_building_is_not_swept(store: Store) -> None:
    home, other = (store.image_directory("node", name) for name in ("local01", "local02"))

    with store.new_directory(other) as new, store.locked([home], on_wait=no_wait):
        assert new.exists()


def test_a_link_that_a_killed_build_left_half_made_is_in_nobody_s_way(store: Store) -> None:
    publish(store, "k1")
    link = store.image_directory("node", "local01") / "current"
    link.with_name(".new-current").symlink_to("k0")

    swap_link(link, "k1")

    assert link.readlink() == Path("k1")


@pytest.mark.parametrize("part", ["store", "store/images", "store/images/node"])
def test_a_store_that_cannot_be_made_is_an_error_that_names_another_place(
    part: str, store: Store, tmp_path: Path
) -> None:
    (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / part).touch()
    home = store.image_directory("node", "local01")

    with pytest.raises(HostError, match="IMGBUILD_STORE"), store.locked([home], on_wait=no_wait):
        pass


def test_a_lock_that_cannot_be_made_is_an_error_that_names_another_place(store: Store) -> None:
    home = store.image_directory("node", "local01")
    (home / ".lock").mkdir(parents=True)

    with pytest.raises(HostError, match="IMGBUILD_STORE"), store.locked([home], on_wait=no_wait):
        pass


# Artifacts.


def test_a_configuration_belongs_to_its_image(store: Store) -> None:
    image = publish(store)

    path = store.write_artifact("xen", "local01.cfg", "name = 'zoë'\n")

    assert list(store.artifacts(image)) == [("xl", path)]
    assert path.read_text(encoding="utf-8") == "name = 'zoë'\n"
    assert names_in(path.parent) == ["local01.cfg"]


def test_an_artifact_that_is_so_already_stays_untouched(store: Store) -> None:
    before = store.write_artifact("xen", "local01.cfg", "a\n").stat()

    after = store.write_artifact("xen", "local01.cfg", "a\n").stat()

    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_artifact_that_is_spoiled_is_written_anew(store: Store) -> None:
    path = store.write_artifact("xen", "local01.cfg", "a\n")
    path.write_bytes(b"\xff\xfe")

    store.write_artifact("xen", "local01.cfg", "b\n")

    assert path.read_text() == "b\n"


def test_an_image_without_a_configuration_has_no_artifacts(store: Store) -> None:
    image = publish(store)

    assert list(store.artifacts(image)) == []
