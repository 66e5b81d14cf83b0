"""What goes into the folder of each of a cluster's Xen guests."""

from collections.abc import Sequence
from pathlib import Path

from imagebuilder.image.appliance import DiskFormat
from imagebuilder.image.bases import Bench
from imagebuilder.image.store import disk_name
from imagebuilder.xen.boot_files import boot_directory, provide_boot_files
from imagebuilder.xen.configuration import configuration_text
from imagebuilder.xen.domain import BootFiles, make_domain
from imagebuilder.xen.export import Content
from imagebuilder.xen.folder_texts import FOLDER, folder_texts
from imagebuilder.xen.guests import Guest


def make_contents(guests: Sequence[Guest], bench: Bench, disk_format: DiskFormat) -> tuple[Content, ...]:
    """What the folder of each guest is to hold; a kernel that it boots is copied out of the image if it must be.

    Raises BuildError for an image of which that cannot be done.
    """
    by_kernel = [guest.image for guest in guests if guest.options.boots_by == "kernel"]
    boot_files = provide_boot_files(by_kernel, bench)
    return tuple(_content(guest, disk_format, boot_files.get(guest.image.name)) for guest in guests)


def is_ready(guest: Guest, bench: Bench) -> bool:
    """Whether `make_contents` has nothing to copy out of the guest's image."""
    return guest.options.boots_by != "kernel" or boot_directory(guest.image, bench.store).is_dir()


def _content(guest: Guest, disk_format: DiskFormat, boot_files: BootFiles | None) -> Content:
    name, role, folder = guest.image.name, guest.image.role, Path(FOLDER)
    files = [boot_files.kernel, boot_files.ramdisk] if boot_files else []
    domain = make_domain(
        guest.machine,
        guest.options,
        guest.interfaces,
        disk=folder / disk_name(disk_format),
        disk_format=disk_format,
        boot_files=boot_files and _in_folder(boot_files, folder),
    )
    return Content(
        image=guest.image,
        disk_format=disk_format,
        texts=folder_texts(name, role, configuration_text(domain), disk_name=disk_name(disk_format)),
        files={file.name: file for file in files},
    )


def _in_folder(files: BootFiles, folder: Path) -> BootFiles:
    return BootFiles(kernel=folder / files.kernel.name, ramdisk=folder / files.ramdisk.name, options=files.options)
