"""Raw copies of images, for a dom0 without qemu: such a one can use no qcow2, and no file that is an overlay."""

from pathlib import Path

from imagebuilder.image.bases import Bench
from imagebuilder.image.qemu_img import backing_chain, copy_to_raw
from imagebuilder.image.store import Image, require_space
from imagebuilder.whole_files import flush

# In the directory of the build that it is a copy of: `imgbuild clean` removes the two together.
_NAME = "flat.raw"


def provide_flat_copy(image: Image, bench: Bench) -> Path:
    """The raw disk of an image, with holes where nothing is: the image itself if it is raw, else a copy, made once.

    It is there whole or not at all. Raises HostError if the store has no room for it.
    """
    copy = image.directory / _NAME
    if image.format == "raw":
        return image.disk
    if copy.is_file():
        return copy
    home = bench.store.image_directory(image.role, image.name)
    with bench.store.locked([home], on_wait=lambda home: bench.on_step(f"wait for another build of {home.name}")):
        if not copy.is_file():  # another process may have made it while this one waited
            bench.on_step(f"copy the image of {image.name}")
            _require_space(image, home)
            with bench.store.new_directory(home) as new:
                new.chmod(0o700)  # the image has the keys of the VPN in it
                disk = new / _NAME
                copy_to_raw(disk, base=image.disk, base_format=image.format)
                disk.chmod(0o600)
                flush(disk)
                disk.replace(copy)
                flush(image.directory)
    return copy


def _require_space(image: Image, home: Path) -> None:
    files = [file.path for file in backing_chain(image.disk, image.format)]
    needed = sum(path.stat().st_blocks * 512 for path in files)
    require_space(needed, home, f"a flat copy of {image.name}")
