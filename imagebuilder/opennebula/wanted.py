"""What oned shall have, from the files that `imgbuild one` writes for it.

An image gets the key of its build into its name, and the machines' templates name it so: another build is another
image, while machines go on with the one that they were started from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imagebuilder.opennebula.files import Part, TemplateFile
from imagebuilder.opennebula.parser import parse_template
from imagebuilder.opennebula.template import Attribute, Pair, Template, Value, Vector
from imagebuilder.opennebula.things import Drivers, Kind, Wanted

_KEY_CHARACTERS = 12  # as `imgbuild list` shows a key
_KINDS: Mapping[Part, Kind] = {"network": "network", "image": "image", "vm": "template"}
_KVM = Drivers(information="kvm", machines="kvm")


@dataclass(frozen=True, kw_only=True)
class Front:
    """The store as it is here, and as the machine sees it that oned runs on."""

    here: Path
    there: Path


def wanted_things(
    files: Iterable[TemplateFile], keys: Mapping[str, str], hosts: Sequence[str], front: Front | None = None
) -> tuple[Wanted, ...]:
    """An object for each template, and the hosts; `keys` has each image's key by its name in OpenNebula.

    Raises ValueError for a file that is no template.
    """
    names = {name: f"{name}-{key[:_KEY_CHARACTERS]}" for name, key in keys.items()}
    things = []
    for file in files:
        if file.part != "hosts":
            template, faults = parse_template(file.text, Path(file.name))
            if faults:
                raise ValueError(str(faults[0]))
            kind = _KINDS[file.part]
            attributes = tuple(_with_keys(one, kind, names, front) for one in template.attributes)
            things.append(_thing(kind, Template(attributes=attributes)))
    for name in hosts:
        template = Template(attributes=(Pair(name="NAME", value=Value(text=name)),))
        things.append(Wanted(kind="host", name=name, template=template, drivers=_KVM))
    return tuple(things)


def _thing(kind: Kind, template: Template) -> Wanted:
    return Wanted(kind=kind, name=template.get("NAME") or "", template=template)


def _with_keys(attribute: Attribute, kind: Kind, names: Mapping[str, str], front: Front | None) -> Attribute:
    match attribute:
        case Pair(value=value) if kind == "image" and attribute.key == "NAME":
            return replace(attribute, value=Value(text=names[value.text]))
        case Pair(value=value) if kind == "image" and attribute.key == "PATH" and front is not None:
            return replace(attribute, value=Value(text=str(front.there / Path(value.text).relative_to(front.here))))
        case Vector(pairs=pairs) if attribute.key == "DISK":
            return replace(attribute, pairs=tuple(_disk_pair(one, names) for one in pairs))
        case _:
            return attribute


def _disk_pair(pair: Pair, names: Mapping[str, str]) -> Pair:
    text = pair.value.text
    return replace(pair, value=Value(text=names.get(text, text))) if pair.key == "IMAGE" else pair
