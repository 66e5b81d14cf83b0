"""Rules for how a guest finds its kernel."""

from collections.abc import Iterator

from imagebuilder.errors import Fault, Place
from imagebuilder.xen.disk_spec import read_disk_spec
from imagebuilder.xen.xl_cfg import XlFile


def boot_faults(file: XlFile) -> Iterator[Fault]:
    """What is wrong with the way in which the guest boots."""
    kind = file.atom("type")
    if kind is not None and kind.text == "hvm":
        yield from _hvm_faults(file)
    else:
        yield from _kernel_faults(file, kind.text if kind is not None else "pv")
    yield from _option_faults(file)


def _hvm_faults(file: XlFile) -> Iterator[Fault]:
    bootloader = file.setting("bootloader")
    if bootloader is not None:
        what = "an hvm guest boots by its BIOS, and a bootloader is for pv and pvh"
        yield Fault(place=file.place(bootloader), what=what, fix="remove it, or change the type")
    specs = [(text, read_disk_spec(text.text)) for text in file.texts("disk")]
    vdevs = [(text, part) for text, spec in specs if (part := spec.parts.get("vdev")) and part.text]
    if file.atom("kernel") is None and vdevs and all(part.text.startswith("xvd") for _, part in vdevs):
        text, part = vdevs[0]
        what = f"the BIOS of an hvm guest sees no disk called '{part.text}'"
        yield Fault(place=file.place(text, index=part.index), what=what, fix="write vdev=hda")


def _kernel_faults(file: XlFile, kind: str) -> Iterator[Fault]:
    kernel, bootloader, firmware = (file.setting(key) for key in ("kernel", "bootloader", "firmware"))
    if kernel is not None and bootloader is not None:
        last = max(kernel, bootloader, key=lambda setting: setting.line)
        what = "both a kernel and a bootloader, which would look for one itself"
        yield Fault(place=file.place(last), what=what, fix="remove one of the two")
    if kernel is None and bootloader is None and firmware is None:
        at = file.setting("type")
        place = file.place(at) if at is not None else Place(path=file.path)
        what = f"nothing says what a {kind} guest boots"
        yield Fault(place=place, what=what, fix='add a line `bootloader = "pygrub"`, or kernel and ramdisk')
    named = file.atom("firmware")
    if named is not None and named.text in ("pvgrub32", "pvgrub64"):
        what = f"Debian's Xen has no {named.text}"
        fix = 'write kernel = "/usr/lib/grub-xen/grub-x86_64-xen.bin", of grub-xen-host'
        yield Fault(place=file.place(named), what=what, fix=fix)


def _option_faults(file: XlFile) -> Iterator[Fault]:
    """Options of a kernel that nobody takes."""
    kernel, bootloader = file.atom("kernel"), file.atom("bootloader")
    ramdisk = file.atom("ramdisk")
    if ramdisk is not None and kernel is None:
        yield Fault(
            place=file.place(ramdisk), what="a ramdisk without a kernel", fix="add a line `kernel = …`, or remove it"
        )
    for key in ("cmdline", "root", "extra"):
        atom = file.atom(key)
        if atom is None:
            continue
        if kernel is None and bootloader is None:
            what = f"'{key}' is for a kernel or a bootloader, and there is neither"
            yield Fault(place=file.place(atom), what=what, fix="add one of the two, or remove it")
        elif key != "cmdline" and file.atom("cmdline") is not None:
            what = f"xl ignores '{key}' beside cmdline"
            yield Fault(place=file.place(atom), what=what, fix="write all into cmdline")
