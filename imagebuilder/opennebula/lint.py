"""What is wrong with a template that its grammar does not see: OpenNebula drops most of it without a word.

An attribute that it does not know is kept and has no effect, a variable that refers to nothing leaves nothing in its
place; one#1077 and one#1055 have what users made of it.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import Fault, Place
from imagebuilder.opennebula.attributes import Attribute, Kind, Table
from imagebuilder.opennebula.parser import parse_template
from imagebuilder.opennebula.references import lost_references, names_referred_to
from imagebuilder.opennebula.release import Release
from imagebuilder.opennebula.requirements import unmet_requirements
from imagebuilder.opennebula.tables import TABLES, WITHOUT_EFFECT, elsewhere
from imagebuilder.opennebula.template import Pair, Template, Vector
from imagebuilder.opennebula.values import expected
from imagebuilder.recipe.model import nearest

_FEW = 12  # names in a fix: a DISK may hold forty
_NEAR_ENOUGH = 0.85  # of names of one's own, only what looks like a slip of the pen is a fault


def lint_text(text: str, path: Path, *, kind: Kind, release: Release, own: Sequence[str] = ()) -> tuple[Fault, ...]:
    """All that is wrong with the template `text`, in the order of its lines.

    `own` are attributes of one's own at the top, which are no fault; nor is one that a variable refers to.
    """
    template, faults = parse_template(text, path, release.dialect)
    linter = _Linter(template=template, kind=kind, release=release, path=path, own=frozenset(map(str.upper, own)))
    # Behind a fault of syntax much may be missing that is there.
    found = [*faults, *linter.faults(), *(() if faults else linter.missing())]
    return tuple(sorted(set(found), key=lambda fault: (fault.place, fault.what)))


def guess_kind(path: Path, template: Template) -> Kind:
    """The kind of a template by the name of its file, or by what it holds."""
    match path.suffix:
        case ".image":
            return "image"
        case ".net":
            return "network"
        case ".template":
            return "vm"
    keys = {one.key for one in template.attributes}
    if keys & {"AR", "LEASES", "VN_MAD", "BRIDGE", "NETWORK_SIZE"}:
        return "network"
    return "image" if keys & {"PATH", "PERSISTENT", "SOURCE"} else "vm"


@dataclass(frozen=True, kw_only=True)
class _Linter:
    template: Template
    kind: Kind
    release: Release
    path: Path
    own: frozenset[str]

    @property
    def table(self) -> Table:
        return TABLES[self.release.generation][self.kind]

    def faults(self) -> Iterator[Fault]:
        seen: dict[str, int] = {}
        for attribute in self.template.attributes:
            known = self.table.find("", attribute.key)
            if known is None:
                yield from self._unknown("", attribute)
            elif attribute.key in seen and not known.is_repeatable:
                what = f"{attribute.key} stands here a second time"
                yield _fault(attribute.place, what, f"keep one; the first is in line {seen[attribute.key]}")
            seen.setdefault(attribute.key, attribute.place.line)
            match attribute:
                case Pair() if known is not None and known.takes == "vector":
                    yield _fault(attribute.value.place, f"{attribute.key} takes '[ … ]'", self._example(attribute.key))
                case Pair():
                    yield from self._value_faults(attribute, known)
                case Vector() if known is not None and known.takes != "vector":
                    yield _fault(attribute.place, f"{attribute.key} takes one value, not '[ … ]'", "remove the bracket")
                case Vector():
                    yield from self._vector_faults(attribute)

    def _vector_faults(self, vector: Vector) -> Iterator[Fault]:
        is_known = self.table.find("", vector.key) is not None
        seen: dict[str, int] = {}
        for pair in vector.pairs:
            known = self.table.find(vector.key, pair.key)
            if pair.key in seen:
                what = f"{pair.key} stands here a second time, which OpenNebula passes over"
                yield _fault(pair.place, what, f"keep one; the first is in line {seen[pair.key]}")
            seen.setdefault(pair.key, pair.place.line)
            if known is not None:
                yield from self._value_faults(pair, known)
            elif vector.key in self.table.open_vectors:
                yield from self._slips(vector.key, pair)
                yield from self._value_faults(pair, None)
            elif is_known:
                yield from self._unknown(vector.key, pair)

    def _value_faults(self, pair: Pair, known: Attribute | None) -> Iterator[Fault]:
        text = pair.value.text
        if known is not None and (wanted := expected(known.takes, known.name, text)) is not None:
            what = f"{known.path} cannot be '{text}'" if text else f"{known.path} has no value"
            yield _fault(pair.value.place, what, f"write {wanted}")
        if self.kind == "vm":
            for lost in lost_references(text, self.template, self.release.generation):
                yield _fault(pair.value.place_at(lost.index), lost.what, lost.fix)

    def _unknown(self, vector: str, attribute: Pair | Vector) -> Iterator[Fault]:
        """Why an attribute has no effect where it stands."""
        name = attribute.key
        path = f"{vector}.{name}" if vector else name
        if not vector and (name in self.own or name in self._used()):
            return
        if path in WITHOUT_EFFECT:
            yield _fault(attribute.place, f"{path} has no effect in any release", WITHOUT_EFFECT[path])
        elif (other := elsewhere(self.kind, self.release.generation, path)) is not None:
            title, fix = other
            yield _fault(attribute.place, f"{path} is of {title}, not of {self.release.title}", fix)
        elif homes := self.table.homes(name):
            places = " or ".join(f"{home} = [ … ]" if home else "the top of the template" for home in homes)
            where = f"{vector} = [ … ]" if vector else "the top of the template"
            yield _fault(attribute.place, f"{name} has no effect at {where}", f"move it to {places}")
        else:
            known = [one.name for one in self.table.inside(vector)]
            inside = f" in {vector}" if vector else ""
            few = f"{', '.join(known[:_FEW])}{', …' if len(known) > _FEW else ''}"
            fix = f"use one of {few}" if vector else "correct or remove it; if it is your own: --own"
            yield _fault(attribute.place, f"unknown attribute {name}{inside}.{nearest(name, known)}", fix)

    def _slips(self, vector: str, pair: Pair) -> Iterator[Fault]:
        """A name in a vector of free names that looks like one that has a meaning."""
        known = [one.name for one in self.table.inside(vector)]
        if near := difflib.get_close_matches(pair.key, known, n=1, cutoff=_NEAR_ENOUGH):
            what = f"{pair.key} in {vector} has no meaning of its own. Did you mean '{near[0]}'?"
            yield _fault(pair.place, what, f"write {near[0]}, or choose a name that is less like it")

    def _used(self) -> set[str]:
        """The names that variables anywhere in the template refer to."""
        pairs = (
            pair for one in self.template.attributes for pair in (one.pairs if isinstance(one, Vector) else (one,))
        )
        return {name for pair in pairs for name in names_referred_to(pair.value.text)}

    def missing(self) -> Iterator[Fault]:
        """What is needed and not there."""
        keys = {one.key for one in self.template.attributes}
        for needed in (one for one in self.table.inside("") if one.is_needed and one.name not in keys):
            yield _fault(Place(path=self.path), f"there is no {needed.name}", f"add {needed.name} = …")
        for vector in (one for one in self.template.attributes if isinstance(one, Vector)):
            for needed in (one for one in self.table.inside(vector.key) if one.is_needed):
                if vector.get(needed.name) is None:
                    yield _fault(vector.place, f"{vector.key} has no {needed.name}", f"add {needed.name} = …")
        for place, what, fix in unmet_requirements(self.template, self.kind, self.release.generation):
            yield _fault(place or Place(path=self.path), what, fix)

    def _example(self, name: str) -> str:
        inside = next(iter(self.table.inside(name)), None)
        return f"write {name} = [ {inside.name if inside else 'NAME'} = … ]"


def _fault(place: Place, what: str, fix: str) -> Fault:
    return Fault(place=place, what=what, fix=fix)
