"""Rules for several xl configurations at once: what two guests of one dom0 cannot both have."""

from collections.abc import Iterator, Sequence

from imagebuilder.errors import Fault, Place
from imagebuilder.recipe.source import printable
from imagebuilder.xen.disk_spec import read_disk_spec
from imagebuilder.xen.xl_cfg import XlFile

_OWN = {
    "name": "give each guest a name of its own",
    "UUID": "give each guest one of its own, as `uuidgen` prints it",
    "address": "give each interface an address of its own",
    "disk": "give each guest a disk of its own, or open it with access=ro in both: two writers destroy it",
}


def faults_together(files: Sequence[XlFile]) -> Iterator[Fault]:
    """What a file has that one before it has already: its name, its UUID, an address, or a disk that either writes."""
    first: dict[tuple[str, str], Place] = {}
    for file in files:
        for kind, value, place in _belongings(file):
            before = first.setdefault((kind, value.lower() if kind != "disk" else value), place)
            if before.path != place.path:
                what = f"the {kind} {printable(value)} is that of {before} already"
                yield Fault(place=place, what=what, fix=_OWN[kind])


def _belongings(file: XlFile) -> Iterator[tuple[str, str, Place]]:
    for kind, key in (("name", "name"), ("UUID", "uuid")):
        atom = file.atom(key)
        if atom is not None:
            yield kind, atom.text, file.place(atom)
    for text in file.texts("vif"):
        for word in text.text.split(","):
            name, _, value = word.strip().partition("=")
            if name == "mac":
                yield "address", value, file.place(text, index=text.text.index(value))
    for text in file.texts("disk"):
        spec = read_disk_spec(text.text)
        access, target = spec.parts.get("access"), spec.parts.get("target")
        if target is not None and target.text and not (access is not None and access.text in ("r", "ro")):
            yield "disk", target.text, file.place(text, index=target.index)
