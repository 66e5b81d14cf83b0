"""Copies the kernel and the initramfs out of finished images, for guests that Xen starts with them.

    artifacts/xen/boot/DIGEST/   vmlinuz, initrd.img, and options: those of the image's GRUB menu, on one line

The digest names what an image has in /boot: its base, and what its plan changes there. So the images of one base share
one copy, and an image whose copy is there costs nothing. `current` images only; nothing is ever written to them.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from imagebuilder.errors import BuildError
from imagebuilder.image.appliance import Disk
from imagebuilder.image.bases import Bench
from imagebuilder.image.file_system import FileSystem
from imagebuilder.image.grub_menu import GRUB_MENU, BootEntry, default_entry
from imagebuilder.image.store import Image, Store
from imagebuilder.plan.listing import Listing
from imagebuilder.whole_files import flush
from imagebuilder.xen.domain import BootFiles

_KERNEL, _RAMDISK, _OPTIONS = "vmlinuz", "initrd.img", "options"
_OTHER_WAY = "boot it in another way: `boot: pvgrub`, or `type: hvm`"


def provide_boot_files(images: Sequence[Image], bench: Bench) -> dict[str, BootFiles]:
    """The boot files of each image, by its name; those that are not there yet are copied in one appliance session.

    Raises BuildError for an image whose GRUB menu does not say what to boot, and then leaves nothing half-done.
    """
    places = {image.name: boot_directory(image, bench.store) for image in images}
    if not all(place.is_dir() for place in places.values()):
        home = boot_home(bench.store)
        with bench.store.locked([home], on_wait=lambda _: bench.on_step("wait for another copy of a kernel")):
            # Another process may have made some of them while this one waited.
            _provide({places[image.name]: image for image in images if not places[image.name].is_dir()}, bench)
    return {name: _read(place) for name, place in places.items()}


def _provide(missing: Mapping[Path, Image], bench: Bench) -> None:
    """Copy the boot files of each image to its place."""
    if missing:
        disks = [Disk(path=image.disk, format=image.format, access="read") for image in missing.values()]
        with bench.appliance(disks) as appliance:
            for index, (place, image) in enumerate(missing.items()):
                bench.on_step(f"copy the kernel of {image.name}")
                with appliance.mounted(index, _root_device(image, bench.store)) as system:
                    _copy(system, image, place, bench.store)


def boot_directory(image: Image, store: Store) -> Path:
    """Where the boot files of an image are, or are to be."""
    changes = [row for row in image.plan_rows() if _is_for_booting(PurePosixPath(str(row["path"])))]
    inputs = json.dumps([image.base_digest, changes], sort_keys=True)
    return boot_home(store) / hashlib.sha256(inputs.encode()).hexdigest()


def superseded_boot_files(store: Store) -> Iterator[Path]:
    """The copies that no current image needs."""
    kept = {boot_directory(image, store) for image in store.images()}
    return (place for place in sorted(boot_home(store).glob("[0-9a-f]*")) if place not in kept)


def boot_home(store: Store) -> Path:
    """The directory of all copies."""
    return store.root / "artifacts" / "xen" / "boot"


def _is_for_booting(path: PurePosixPath) -> bool:
    # The menu may name the links at the root that Debian keeps for its newest kernel.
    return path.is_relative_to("/boot") or path.name in (_KERNEL, _RAMDISK)


def _root_device(image: Image, store: Store) -> str:
    base = store.base(image.base_digest)
    if base is None:
        raise BuildError("its base is not in the store", where=image.disk, fix=f"run `imgbuild build {image.name}`")
    return base.target().root_device


def _copy(system: FileSystem, image: Image, place: Path, store: Store) -> None:
    """Copy what the menu boots by default to `place`."""
    listing = image.listing()
    entry = _entry(system, listing, image)
    contents = {
        _KERNEL: system.read_file(_found(entry.kernel, listing, image)),
        # Linux unpacks several archives one after the other, and as well when they are one file.
        _RAMDISK: b"".join(system.read_file(_found(archive, listing, image)) for archive in entry.archives),
        _OPTIONS: f"{' '.join(entry.options)}\n".encode(),
    }
    with store.new_directory(place.parent) as new:
        for name, content in contents.items():
            (new / name).write_bytes(content)
            flush(new / name)
        new.rename(place)
        flush(place.parent)


def _entry(system: FileSystem, listing: Listing, image: Image) -> BootEntry:
    if GRUB_MENU not in listing:
        raise BuildError(f"has no {GRUB_MENU}, which says what to boot", where=image.disk, fix=_OTHER_WAY)
    entry = default_entry(system.read_file(GRUB_MENU).decode(errors="replace"))
    if entry is None or not entry.archives:
        what = f"{GRUB_MENU} boots no Linux kernel with an initramfs"
        raise BuildError(what, where=image.disk, fix=_OTHER_WAY)
    words = [str(entry.kernel), *entry.options, *map(str, entry.archives)]
    if variables := [word for word in words if "$" in word]:
        what = f"{GRUB_MENU} boots with {' '.join(variables)}, which only GRUB itself can resolve"
        raise BuildError(what, where=image.disk, fix=_OTHER_WAY)
    return entry


def _found(path: PurePosixPath, listing: Listing, image: Image) -> PurePosixPath:
    if path not in listing:
        raise BuildError(f"{GRUB_MENU} names {path}, which is not there", where=image.disk, fix=_OTHER_WAY)
    return path


def _read(place: Path) -> BootFiles:
    options = (place / _OPTIONS).read_text(encoding="utf-8").split()
    return BootFiles(kernel=place / _KERNEL, ramdisk=place / _RAMDISK, options=tuple(options))
