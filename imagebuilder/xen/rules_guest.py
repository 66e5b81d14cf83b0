"""Rules for what a guest is: its name, its processors, its memory, and what becomes of it."""

import re
from collections.abc import Iterator, Mapping
from uuid import UUID

from imagebuilder.errors import Fault, Place
from imagebuilder.recipe.model import nearest
from imagebuilder.recipe.xen import LEAST_MEMORY_MIB, MOST_VCPUS
from imagebuilder.xen.surroundings import Surroundings
from imagebuilder.xen.xl_cfg import Atom, XlFile

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
_TYPES = ("pv", "pvh", "hvm")
_ACTIONS = (
    *("destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart", "soft-reset"),
)
_EXAMPLES = {"vcpus": "2", "maxvcpus": "2", "memory": "1024", "maxmem": "1024"}
_ENDS = ("on_poweroff", "on_reboot", "on_watchdog", "on_crash", "on_soft_reset")


def guest_faults(file: XlFile, around: Surroundings) -> Iterator[Fault]:
    """What is wrong with the guest itself."""
    yield from _name_faults(file)
    yield from _uuid_faults(file, around)
    kind = file.atom("type")
    if kind is not None and kind.text not in _TYPES:
        what = f"'{kind.text}' is no type of guest.{nearest(kind.text, _TYPES)}"
        yield Fault(place=file.place(kind), what=what, fix=f"use one of {', '.join(_TYPES)}")
    yield from _processor_faults(file)
    yield from _memory_faults(file)
    for key in _ENDS:
        action = file.atom(key)
        if action is not None and action.text not in _ACTIONS:
            what = f"'{action.text}' is nothing that xl can do then.{nearest(action.text, _ACTIONS)}"
            yield Fault(place=file.place(action), what=what, fix=f"use one of {', '.join(_ACTIONS)}")


def as_number(text: str) -> int | None:
    """A number as xl takes it (strtol with base 0): 0x10 is sixteen, and 010 eight; None if it is none."""
    match = re.fullmatch(r"\s*([+-]?)(0x[0-9a-f]+|0[0-7]*|[1-9][0-9]*)", text, re.IGNORECASE | re.ASCII)
    if match is None:
        return None
    digits = match[2].lower()
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    return int(f"{match[1]}{digits}", base)


def name_of(file: XlFile) -> str | None:
    """The guest's name, or None if there is none that can stay."""
    name = file.atom("name")
    return name.text if name is not None and _NAME.fullmatch(name.text) and not name.text.isdecimal() else None


def _name_faults(file: XlFile) -> Iterator[Fault]:
    name = file.atom("name")
    if name is None:
        if file.setting("name") is None:
            yield Fault(place=Place(path=file.path), what="the guest has no name", fix='add a line `name = "…"`')
    elif not _NAME.fullmatch(name.text):
        fix = "use letters, digits and . _ - only, and begin with a letter"
        yield Fault(place=file.place(name), what=f"'{name.text}' is an odd name for a guest", fix=fix)
    elif name.text.isdecimal():
        what = f"other commands of xl take '{name.text}' for the number of a guest"
        yield Fault(place=file.place(name), what=what, fix="begin the name with a letter")


def _uuid_faults(file: XlFile, around: Surroundings) -> Iterator[Fault]:
    uuid, name = file.atom("uuid"), name_of(file)
    if uuid is None:
        return
    if not _UUID.fullmatch(uuid.text):
        fix = "write one as `uuidgen` prints it, or remove it"
        yield Fault(place=file.place(uuid), what=f"'{uuid.text}' is no UUID", fix=fix)
        return
    owner = around.uuids.get(str(UUID(uuid.text)))
    if owner is not None and name is not None and name != owner:
        what = f"this is the UUID of {owner}"
        yield Fault(place=file.place(uuid), what=what, fix="give each guest one of its own, as `uuidgen` prints it")


def _numbers(file: XlFile, *keys: str) -> tuple[Mapping[str, tuple[Atom, int]], list[Fault]]:
    """The numbers of those keys that have one, and a fault for each value that is none."""
    found: dict[str, tuple[Atom, int]] = {}
    faults = []
    for key in keys:
        atom = file.atom(key)
        if atom is None:
            continue
        number = as_number(atom.text)
        if number is None:
            what = f"'{atom.text}' is no number, and xl ignores it"
            faults.append(Fault(place=file.place(atom), what=what, fix=f"write `{key} = {_EXAMPLES[key]}`"))
        else:
            found[key] = atom, number
    return found, faults


def _processor_faults(file: XlFile) -> Iterator[Fault]:
    numbers, faults = _numbers(file, "vcpus", "maxvcpus")
    yield from faults
    kind = file.atom("type")
    most = MOST_VCPUS["hvm" if kind is not None and kind.text in ("pvh", "hvm") else "pv"]
    for key, (atom, number) in numbers.items():
        if not 1 <= number <= most:
            what = f"{key} is {number}, but such a guest has from 1 to {most}"
            yield Fault(place=file.place(atom), what=what, fix=f"write a number from 1 to {most}")
    if "vcpus" in numbers and "maxvcpus" in numbers and numbers["vcpus"][1] > numbers["maxvcpus"][1]:
        what = f"more than maxvcpus, {numbers['maxvcpus'][1]}"
        yield Fault(place=file.place(numbers["vcpus"][0]), what=what, fix="raise maxvcpus, or remove it")


def _memory_faults(file: XlFile) -> Iterator[Fault]:
    numbers, faults = _numbers(file, "memory", "maxmem")
    yield from faults
    if file.setting("memory") is None:
        what = "there is no memory, and Xen's own idea of it is 32 MiB"
        yield Fault(place=Place(path=file.path), what=what, fix="add a line `memory = 1024`, in MiB")
    if "memory" in numbers:
        atom, memory = numbers["memory"]
        if memory < LEAST_MEMORY_MIB:
            what = f"{memory} MiB are too little for a Linux guest"
            yield Fault(place=file.place(atom), what=what, fix=f"write {LEAST_MEMORY_MIB} or more; the unit is MiB")
        if "maxmem" in numbers and numbers["maxmem"][1] < memory:
            what = f"less than memory, {memory}"
            yield Fault(place=file.place(numbers["maxmem"][0]), what=what, fix="raise it, or remove it")
