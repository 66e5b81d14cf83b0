"""Reads one text of the list `disk`: xl-disk-configuration(5), as libxlutil of Xen 4.17 (libxlu_disk_l.l) does."""

import re
from dataclasses import dataclass

from imagebuilder.recipe.model import nearest
from imagebuilder.xen.xl_keys import DISK_FLAGS, DISK_WORDS

_FORMATS = ("raw", "qcow", "qcow2", "vhd", "qed")
_ACCESS = ("", "r", "ro", "w", "rw")
_POSITIONS = ("target", "format", "vdev", "access")
_DEPRECATED_PREFIX = re.compile(r"(raw|qcow2?|vhd|iscsi|e?nbd|drbd|tapdisk|tap2?|aio|ioemu|file|phy):")
# xen-vbd-interface(7): xvda, hda, sda, with a partition or without; d0p1; a device number, as in xm.
_VDEV = re.compile(r"(xvd|hd|sd)[a-z]{1,3}\d*|d\d+(p\d+)?|0x[0-9a-f]+|\d+")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One value of a specification, and the number of the character at which it begins."""

    text: str
    index: int


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """What is wrong at a character of a specification, and how to mend it."""

    index: int
    what: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class DiskSpec:
    """A specification by the names of its values."""

    parts: dict[str, Part]
    is_cdrom: bool
    mistakes: tuple[Mistake, ...]

    @property
    def format(self) -> str:
        """The format of the image, raw if none is named."""
        part = self.parts.get("format")
        return part.text if part and part.text else "raw"


def read_disk_spec(text: str) -> DiskSpec:
    """What `text` says, and all that is wrong in it."""
    reader = _Reader(text)
    reader.read()
    reader.judge()
    return DiskSpec(parts=reader.parts, is_cdrom=reader.is_cdrom, mistakes=tuple(reader.mistakes))


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self.parts: dict[str, Part] = {}
        self.mistakes: list[Mistake] = []
        self.is_cdrom = False
        self._positions = list(_POSITIONS)

    def read(self) -> None:
        index = 0
        while index < len(self._text):
            if self._text[index] in " \t\n":
                index += 1
                continue
            if self._text.startswith("target=", index):
                self._set("target", self._text[index + 7 :], index + 7)
                return
            if prefix := _DEPRECATED_PREFIX.match(self._text, index):
                path = self._text[prefix.end() :].split(",")[0]
                fix = f"write 'format={self._format_for(prefix[1])},vdev=…,target={path}'"
                self._mistake(index, f"the prefix '{prefix[0]}' is deprecated", fix)
                index = prefix.end()
                self._positions = [position for position in self._positions if position != "format"]
            end = self._text.find(",", index)
            end = len(self._text) if end < 0 else end
            self._word(self._text[index:end], index)
            index = end + 1

    @staticmethod
    def _format_for(prefix: str) -> str:
        return prefix if prefix in _FORMATS else "raw"

    def _word(self, word: str, index: int) -> None:
        key, equals, value = word.partition("=")
        if equals:
            at = index + len(key) + 1
            if key not in DISK_WORDS:
                fix = f"use one of {', '.join(sorted(word for word in DISK_WORDS if '-' not in word))}"
                self._mistake(index, f"unknown word '{key}'.{nearest(key, DISK_WORDS)}", fix)
            elif key == "devtype":
                self._devtype(value, at)
            else:
                self._set(key, value, at)
        elif word in DISK_FLAGS:
            self.is_cdrom |= word == "cdrom"
        else:
            self._positional(word, index)

    def _devtype(self, value: str, index: int) -> None:
        self.is_cdrom |= value == "cdrom"
        if value not in ("cdrom", "disk"):
            self._mistake(index, f"'{value}' is no devtype", "use cdrom or disk")

    def _positional(self, word: str, index: int) -> None:
        # One that was named before is not asked for by its position any more, unless it was left empty.
        left = [name for name in self._positions if not (known := self.parts.get(name)) or not known.text]
        if not left:
            what = f"nothing is left that '{word}' could be"
            self._mistake(index, what, "write it as name=value, or remove it")
            return
        self._positions = [name for name in self._positions if name != left[0]]
        device, colon, kind = word.rpartition(":")
        if left[0] == "vdev" and colon:
            self._mistake(index, f"'{word}' is deprecated", f"write vdev={device},devtype={kind}")
            self.is_cdrom |= kind == "cdrom"
            word = device
        self._set(left[0], word, index)

    def _set(self, name: str, value: str, index: int) -> None:
        if name in self.parts and self.parts[name].text:
            self._mistake(index, f"'{name}' stands here twice", "remove one of the two")
        else:
            self.parts[name] = Part(text=value, index=index)

    def _mistake(self, index: int, what: str, fix: str) -> None:
        self.mistakes.append(Mistake(index=index, what=what, fix=fix))

    def judge(self) -> None:
        """Look for values that cannot be."""
        if (part := self.parts.get("format")) and part.text not in ("", *_FORMATS, "empty"):
            what = f"'{part.text}' is no format.{nearest(part.text, _FORMATS)}"
            self._mistake(part.index, what, f"use one of {', '.join(_FORMATS)}")
        if (part := self.parts.get("access")) and part.text not in _ACCESS:
            self._mistake(part.index, f"'{part.text}' is no access", "use rw or ro")
        vdev, target = self.parts.get("vdev"), self.parts.get("target")
        if target and (swallowed := re.search(r",\s*(\w+)=", target.text)) and swallowed[1] in DISK_WORDS:
            index = target.index + swallowed.start() + 1
            what = f"'{swallowed[1]}=' stands behind the target, and so belongs to the file's name"
            self._mistake(index, what, "put target=… last")
        elif vdev is None or not vdev.text:
            self._mistake(0, "the disk has no vdev", "write vdev=xvda, or hda for the BIOS of an hvm guest")
        elif not _VDEV.fullmatch(vdev.text):
            self._mistake(vdev.index, f"'{vdev.text}' is no vdev", "use xvda, xvdb, …, or hda, hdb for an hvm guest")
        if (target is None or not target.text) and not self.is_cdrom:
            self._mistake(0, "the disk has no target", "write target=/PATH/OF/IMAGE as the last")
