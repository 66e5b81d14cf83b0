"""Rules for the keys of an xl configuration, whatever they are for."""

from collections.abc import Iterator

from imagebuilder.errors import Fault
from imagebuilder.recipe.model import nearest
from imagebuilder.xen.xl_cfg import Group, Setting, XlFile
from imagebuilder.xen.xl_keys import DISK_WORDS, KEYS

_INSIDE_VIF = {"mac", "bridge", "model", "vifname", "mtu", "rate"}
_INSIDE_DISK = DISK_WORDS - {"script", "backend"}
_LISTS = ("disk", "vif")
_SINGLE = (
    *("name", "uuid", "type", "vcpus", "maxvcpus", "memory", "maxmem", "kernel", "ramdisk", "bootloader", "cmdline"),
    *("root", "extra", "boot", "firmware", "on_poweroff", "on_reboot", "on_crash"),
)


def key_faults(file: XlFile) -> Iterator[Fault]:
    """Keys that xl does not know, or that stand there twice, and values that are a list or should be one."""
    first: dict[str, Setting] = {}
    for setting in file.settings:
        yield from _unknown_key(file, setting)
        before = first.setdefault(setting.key, setting)
        if before is not setting and setting.operator == "=":
            what = f"'{setting.key}' stands on line {before.line} already, and xl takes the last"
            yield Fault(place=file.place(setting), what=what, fix="remove one of the two")
        is_list = isinstance(setting.value, Group)
        if setting.key in _LISTS and not is_list:
            what = f"'{setting.key}' is a list, and xl ignores a single value"
            yield Fault(place=file.place(setting.value), what=what, fix="write it in [ ]")
        elif setting.key in _SINGLE and is_list:
            what = f"'{setting.key}' is a single value, and xl ignores a list"
            yield Fault(place=file.place(setting.value), what=what, fix="write it without [ ]")
        elif isinstance(before.value, Group) != is_list and setting.operator == "+=":
            what = f"'{setting.key}' is a list in one place and a single value in the other"
            yield Fault(place=file.place(setting.value), what=what, fix="write both in [ ], or neither")


def _unknown_key(file: XlFile, setting: Setting) -> Iterator[Fault]:
    key = setting.key
    if key in KEYS:
        return
    if key in _INSIDE_VIF:
        what, fix = f"'{key}' belongs into a text of vif", f"write vif = [ '{key}=…' ]"
    elif key in _INSIDE_DISK:
        what, fix = f"'{key}' belongs into a text of disk", f"write disk = [ '{key}=…' ]"
    else:
        what = f"unknown key '{key}', which xl ignores.{nearest(key, KEYS)}"
        fix = "correct it, or remove it; xl.cfg(5) has them all"
    yield Fault(place=file.place(setting), what=what, fix=fix)
