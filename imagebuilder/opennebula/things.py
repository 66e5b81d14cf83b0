"""What oned has and what it shall have: templates with a mark that says who made them.

The mark is a vector attribute in the object's template:

    IMGBUILD = [ CLUSTER = "squirrel", WROTE = "CPU,DISK,MEMORY", RUN = "5d41402abc4b" ]

CLUSTER is whose it is; WROTE names the attributes that imgbuild has written, and RANGES the address ranges, so that
those of other people are kept; RUN is chance, new in each run, and finds an object again if the answer with its id
was lost.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal
from xml.sax.saxutils import escape

from imagebuilder.opennebula.template import Attribute, Pair, Template, Vector, single, vector

Kind = Literal["network", "image", "template", "host"]

MARK = "IMGBUILD"
# Attributes that oned takes out of a template that it is given, into fields of the object (src/image/Image.cc,
# src/vnm/VirtualNetwork.cc); an image's DRIVER it takes from the datastore.
_FIELDS: Mapping[Kind, frozenset[str]] = {
    "network": frozenset({"NAME", "AR"}),
    "image": frozenset(
        {"NAME", "PATH", "TYPE", "PERSISTENT", "SIZE", "SOURCE", "DISK_TYPE", "DRIVER", "FORMAT", "FSTYPE", "FS"}
    ),
    "template": frozenset({"NAME"}),
    "host": frozenset({"NAME"}),
}
# The program of OpenNebula for each kind.
TOOLS: Mapping[Kind, str] = {
    "network": "onevnet",
    "image": "oneimage",
    "template": "onetemplate",
    "host": "onehost",
}
_Content = str | tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Drivers:
    """What monitors a host and what starts machines on it: IM_MAD and VM_MAD."""

    information: str
    machines: str


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An object that oned shall have; `template` has its NAME and no mark. Only a host has `drivers`."""

    kind: Kind
    name: str
    template: Template
    drivers: Drivers | None = None


@dataclass(frozen=True, kw_only=True)
class AddressRange:
    """An address range of a network; `used` counts the addresses that are leased or on hold."""

    id: int
    type: str
    ip: str
    mac: str
    size: int
    used: int


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object that oned has. `state` is READY where it may be used, `used_by` counts the machines that use it.

    An image that `is_persistent` holds what the machine has written.
    """

    kind: Kind
    id: int
    name: str
    template: Template
    state: str = "READY"
    used_by: int = 0
    is_persistent: bool = False
    ranges: tuple[AddressRange, ...] = ()

    @property
    def removal(self) -> str:
        """The command line that removes it."""
        return f"{TOOLS[self.kind]} delete {self.id}"


def cluster_of(template: Template) -> str | None:
    """The cluster that the object was made for; None if imgbuild has not made it."""
    return _marked(template, "CLUSTER")


def run_of(template: Template) -> str | None:
    """The run that wrote the mark."""
    return _marked(template, "RUN")


def marked(template: Template, *, cluster: str, run: str) -> Template:
    """`template` with the mark of this cluster and run."""
    wrote = ",".join(sorted({one.key for one in template.attributes}))
    ranges = ",".join(one.get("IP") or "" for one in template.vectors("AR"))
    mark = vector(MARK, CLUSTER=cluster, WROTE=wrote or None, RANGES=ranges or None, RUN=run)
    return replace(template, attributes=(*template.attributes, mark))


def stored(wanted: Wanted) -> Template:
    """What of the wanted template oned keeps as the object's template."""
    kept = tuple(one for one in wanted.template.attributes if one.key not in _FIELDS[wanted.kind])
    return Template(attributes=kept)


def differences(wanted: Wanted, thing: Thing) -> tuple[str, ...]:
    """The names of the attributes that differ: those wanted, and those that imgbuild wrote and wants no more."""
    now, then = _contents(stored(wanted)), _contents(thing.template)
    changed = {key for key, values in now.items() if then.get(key) != values}
    gone = {key for key in _wrote(thing.template) - _FIELDS[wanted.kind] if key in then and key not in now}
    return tuple(sorted(changed | gone))


def updated(wanted: Wanted, thing: Thing, *, cluster: str, run: str) -> Template:
    """The template to give the object: what is wanted, its mark, and what other people have added."""
    ours = marked(wanted.template, cluster=cluster, run=run)
    own_keys = {one.key for one in ours.attributes} | _wrote(thing.template)
    others = tuple(one for one in thing.template.attributes if one.key not in own_keys)
    kept = tuple(one for one in ours.attributes if one.key not in _FIELDS[wanted.kind])
    return Template(attributes=(*others, *kept))


def own_ranges(thing: Thing) -> set[str]:
    """The first addresses of the ranges that imgbuild has added to a network."""
    return set((_marked(thing.template, "RANGES") or "").split(","))


def as_xml(template: Template) -> str:
    """The template in XML, which can say every value: oned takes it wherever it takes a template."""
    return f"<TEMPLATE>{''.join(map(_attribute_xml, template.attributes))}</TEMPLATE>"


def from_mapping(content: Mapping[str, object]) -> Template:
    """The template that is in XML: a text for each attribute, a mapping for a vector, a list for several of a name."""
    attributes: list[Attribute] = []
    for name, values in content.items():
        for value in values if isinstance(values, list) else [values]:
            match value:
                case Mapping():
                    pairs = tuple(single(str(key), str(one or "")) for key, one in value.items())
                    attributes.append(Vector(name=name, pairs=pairs))
                case _:
                    attributes.append(single(name, str(value or "")))
    return Template(attributes=tuple(attributes))


def _marked(template: Template, key: str) -> str | None:
    return next((mark.get(key) for mark in template.vectors(MARK)), None)


def _wrote(template: Template) -> set[str]:
    return set((_marked(template, "WROTE") or "").split(","))


def _contents(template: Template) -> dict[str, list[_Content]]:
    """The values of each name in their order; the pairs of a vector have none."""
    contents: dict[str, list[_Content]] = {}
    for one in template.attributes:
        match one:
            case Pair():
                contents.setdefault(one.key, []).append(one.value.text)
            case Vector():
                pairs = {pair.key: one.get(pair.key) or "" for pair in one.pairs}
                contents.setdefault(one.key, []).append(tuple(sorted(pairs.items())))
    return contents


def _attribute_xml(attribute: Attribute) -> str:
    match attribute:
        case Pair(value=value):
            return f"<{attribute.key}>{escape(value.text)}</{attribute.key}>"
        case Vector(pairs=pairs):
            return f"<{attribute.key}>{_pairs_xml(pairs)}</{attribute.key}>"


def _pairs_xml(pairs: Iterable[Pair]) -> str:
    return "".join(f"<{pair.key}>{escape(pair.value.text)}</{pair.key}>" for pair in pairs)
