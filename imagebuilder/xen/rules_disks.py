"""Rules for the files that an xl configuration names: the disks, and what is in them."""

from collections.abc import Iterator
from pathlib import Path

from imagebuilder.errors import Fault
from imagebuilder.xen.disk_spec import DiskSpec, read_disk_spec
from imagebuilder.xen.surroundings import FileFacts, Surroundings
from imagebuilder.xen.xl_cfg import Atom, XlFile

# What a package of dom0 brings; elsewhere it need not be.
_OF_DOM0 = Path("/usr")


def disk_faults(file: XlFile, around: Surroundings) -> Iterator[Fault]:
    """What is wrong with the disks of a guest."""
    lines_of_vdevs: dict[str, int] = {}
    for text in file.texts("disk"):
        spec = read_disk_spec(text.text)
        for mistake in spec.mistakes:
            yield Fault(place=file.place(text, index=mistake.index), what=mistake.what, fix=mistake.fix)
        vdev = spec.parts.get("vdev")
        if vdev and vdev.text:
            if vdev.text in lines_of_vdevs:
                what = f"there is a '{vdev.text}' already, on line {lines_of_vdevs[vdev.text]}"
                yield Fault(place=file.place(text, index=vdev.index), what=what, fix="give each disk a vdev of its own")
            lines_of_vdevs.setdefault(vdev.text, text.line)
        if not any("behind the target" in mistake.what for mistake in spec.mistakes):
            yield from _target_faults(file, text, spec, around)


def _target_faults(file: XlFile, text: Atom, spec: DiskSpec, around: Surroundings) -> Iterator[Fault]:
    target = spec.parts.get("target")
    if target is None or not target.text or "script" in spec.parts or "backend" in spec.parts:
        return  # a hotplug script may take anything for a target, and another domain has files of its own
    place = file.place(text, index=target.index)
    path = Path(target.text)
    if not path.is_absolute():
        what, fix = f"xl looks for '{path}' in /dev", "write the whole path, from / on"
        yield Fault(place=place, what=what, fix=fix)
        return
    facts = around.look(path)
    fault = _absent(facts, path)
    if fault is not None:
        yield Fault(place=place, what=fault[0], fix=fault[1])
    elif facts.format is not None and facts.format != spec.format and not spec.mistakes:
        named = spec.parts.get("format")
        what = f"{path} is {facts.format}, but is to be read as {spec.format}"
        at = file.place(text, index=named.index if named and named.text else target.index)
        yield Fault(place=at, what=what, fix=f"write format={facts.format}, or name another file")
    for missing in facts.missing_backing_files:
        what = f"{path} is an overlay on {missing}, which is not there"
        fix = "bring it to the same place, or make a flat copy with `imgbuild xen --flat`"
        yield Fault(place=place, what=what, fix=fix)


def boot_file_faults(file: XlFile, around: Surroundings) -> Iterator[Fault]:
    """What is wrong with the kernel and the initramfs that a guest is started with."""
    for key in ("kernel", "ramdisk"):
        atom = file.atom(key)
        if atom is None:
            continue
        path = Path(atom.text)
        if not path.is_absolute():
            what, fix = f"xl looks for '{path}' in its own boot directory", "write the whole path, from / on"
            yield Fault(place=file.place(atom), what=what, fix=fix)
        elif around.is_dom0 or not path.is_relative_to(_OF_DOM0):
            fault = _absent(around.look(path), path)
            if fault is not None:
                yield Fault(place=file.place(atom), what=fault[0], fix=fault[1])


def _absent(facts: FileFacts, path: Path) -> tuple[str, str] | None:
    """What keeps a file from being used, and the fix."""
    match facts.state:
        case "absent" if path.is_relative_to("/usr/lib/grub-xen"):
            return f"there is no {path}", "apt-get install grub-xen-host"
        case "absent":
            return f"there is no {path}", "bring the file there, or correct the path"
        case "unreadable":
            return f"{path} cannot be read", "run this as the user who runs xl"
        case "directory":
            return f"{path} is a directory", "name a file"
        case _:
            return None
