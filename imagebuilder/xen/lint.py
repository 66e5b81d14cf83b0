"""Checks an xl configuration: its grammar, then what xl takes without a word, and what xl itself says of it."""

from collections.abc import Sequence
from dataclasses import replace

from imagebuilder.errors import Fault
from imagebuilder.recipe.source import printable
from imagebuilder.xen.rules_boot import boot_faults
from imagebuilder.xen.rules_disks import boot_file_faults, disk_faults
from imagebuilder.xen.rules_guest import guest_faults
from imagebuilder.xen.rules_keys import key_faults
from imagebuilder.xen.rules_network import network_faults
from imagebuilder.xen.surroundings import Surroundings
from imagebuilder.xen.xl import Reading
from imagebuilder.xen.xl_cfg import XlFile
from imagebuilder.xen.xl_messages import faults_of


def own_faults(file: XlFile, around: Surroundings) -> list[Fault]:
    """All that this program finds wrong in a file, by line. Of one that xl could not read, only that."""
    if file.faults:
        return list(file.faults)
    found = [
        *key_faults(file),
        *guest_faults(file, around),
        *boot_faults(file),
        *boot_file_faults(file, around),
        *disk_faults(file, around),
        *network_faults(file, around),
    ]
    # The texts of a file stand in what is said of them, and may be anything.
    shown = [replace(one, what=printable(one.what), fix=one.fix and printable(one.fix)) for one in found]
    return sorted(shown, key=lambda fault: fault.place)


def with_words_of_xl(file: XlFile, own: Sequence[Fault], reading: Reading) -> list[Fault]:
    """The faults with those added that only xl has found: it stops at its first, and knows no columns.

    What it says of a line that has a fault already is the same in other words; so is, as long as there is any, what it
    says of no line at all.
    """
    lines = {fault.place.line for fault in own}
    theirs = [
        fault for fault, is_placed in faults_of(file, reading.messages) if _is_new(fault, lines, placed=is_placed)
    ]
    if not own and not theirs and not reading.accepted:
        theirs = [next(fault for fault, _ in faults_of(file, ["refuses the file and does not say why"]))]
    return sorted([*own, *theirs], key=lambda fault: fault.place)


def _is_new(fault: Fault, lines: set[int], *, placed: bool) -> bool:
    return fault.place.line not in lines if placed else not lines
