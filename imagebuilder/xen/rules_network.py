"""Rules for the texts of the list `vif`: xl-network-configuration(5)."""

import re
from collections.abc import Iterator

from imagebuilder.errors import Fault
from imagebuilder.recipe.model import nearest
from imagebuilder.xen.rules_guest import name_of
from imagebuilder.xen.surroundings import Surroundings
from imagebuilder.xen.xl_cfg import Atom, XlFile

_WORDS = frozenset(
    {
        *("mac", "bridge", "gatewaydev", "type", "model", "vifname", "script", "ip", "backend", "rate", "devid", "mtu"),
        *("netdev", "accel", "forwarddev", "trusted", "untrusted"),
    }
)
_FLAGS = frozenset({"trusted", "untrusted"})
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
_MULTICAST = 0x01
_AS_WRITTEN = "write six bytes as 00:16:3e:12:34:56"


def network_faults(file: XlFile, around: Surroundings) -> Iterator[Fault]:
    """What is wrong with the interfaces of a guest."""
    lines_of_macs: dict[str, int] = {}
    name = name_of(file)
    for text in file.texts("vif"):
        words = dict[str, int]()
        for word, value, index in _words(text.text):
            if word in words:
                what = f"'{word}' stands here twice, and xl takes the last"
                yield Fault(place=file.place(text, index=index), what=what, fix="remove one of the two")
            words[word] = index
            yield from _word_faults(file, text, word, value, index)
            if word == "mac" and value is not None:
                yield from _mac_faults(file, text, value, index + 4, lines_of_macs)
                owner = around.macs.get(value.lower())
                if owner is not None and name is not None and name != owner:
                    what = f"{value} is the address of {owner}"
                    fix = "give each interface an address of its own"
                    yield Fault(place=file.place(text, index=index + 4), what=what, fix=fix)
            if word == "bridge" and value is not None and around.bridges is not None and value not in around.bridges:
                what = f"the cluster has no bridge '{value}'.{nearest(value, around.bridges)}"
                fix = f"use {' or '.join(sorted(around.bridges))}, or name it in recipes/cluster.yaml"
                yield Fault(place=file.place(text, index=index + 7), what=what, fix=fix)


def _words(text: str) -> Iterator[tuple[str, str | None, int]]:
    """Each word with its value, None for a flag, and the number of the character where it begins."""
    start = 0
    for piece in text.split(","):
        stripped = piece.strip(" \t")
        index = start + len(piece) - len(piece.lstrip(" \t"))
        if stripped:
            word, equals, value = stripped.partition("=")
            yield word, value if equals else None, index
        start += len(piece) + 1


def _word_faults(file: XlFile, text: Atom, word: str, value: str | None, index: int) -> Iterator[Fault]:
    place = file.place(text, index=index)
    if word not in _WORDS and not word.startswith("colo_"):
        what = f"unknown word '{word}'.{nearest(word, _WORDS)}"
        fix = "use mac, bridge, type, model, script, ip, rate, mtu or another of xl-network-configuration(5)"
        yield Fault(place=place, what=what, fix=fix)
    elif (value is None) != (word in _FLAGS):
        what = f"'{word}' has no value" if value is None else f"'{word}' takes no value"
        yield Fault(place=place, what=what, fix=f"write {word}=…" if value is None else f"write {word} alone")
    elif word == "netdev":
        yield Fault(place=place, what="'netdev' is deprecated", fix="write gatewaydev")
    elif word == "type" and value not in ("ioemu", "vif"):
        yield Fault(place=place, what=f"'{value}' is no type of interface", fix="use ioemu or vif")
    elif word in ("mtu", "devid") and value is not None and not value.isdecimal():
        yield Fault(
            place=place, what=f"'{value}' is no number", fix=f"write {word}=1500" if word == "mtu" else "remove it"
        )


def _mac_faults(file: XlFile, text: Atom, mac: str, index: int, lines: dict[str, int]) -> Iterator[Fault]:
    place = file.place(text, index=index)
    if not _MAC.fullmatch(mac):
        yield Fault(place=place, what=f"'{mac}' is no MAC address, and xl makes another of it", fix=_AS_WRITTEN)
        return
    if int(mac[:2], 16) & _MULTICAST:
        what = f"{mac} is an address of a group of machines: its first byte is odd"
        yield Fault(place=place, what=what, fix=f"{_AS_WRITTEN}, the first of them even")
    if mac.lower() == "00:00:00:00:00:00":
        # libxl (libxl_nic.c) makes one up in place of this.
        yield Fault(place=place, what="xl makes up an address in place of this one", fix=_AS_WRITTEN)
    if mac.lower() in lines:
        what = f"{mac} is the address of another interface already, on line {lines[mac.lower()]}"
        yield Fault(place=place, what=what, fix="give each interface an address of its own")
    lines.setdefault(mac.lower(), text.line)
