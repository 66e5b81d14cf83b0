"""The variables in values: `$NAME`, `$NIC[IP]`, `$NETWORK[DNS, NETWORK="private"]`.

After OpenNebula's own grammar (src/parsers/vm_var_parser.l and vm_var_syntax.y). OpenNebula writes nothing in the
place of a variable that refers to nothing, and says nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from imagebuilder.opennebula.release import Generation
from imagebuilder.opennebula.template import Pair, Template

_VARIABLE = re.compile(
    r"""
    \$ (?P<name> \w+ ) (?P<bracket> \[ \s* (?P<key> \w+ )
        (?P<selector> [ \t]* , [ \t]* (?P<by> \w+ ) [ \t]* = [ \t]* ( "(?P<quoted>[^"]*)" | (?P<bare>[A-Za-z0-9]+) ) )?
    [ \t]* \] )?
    """,
    re.VERBOSE | re.ASCII,
)
_OPEN_BRACKET = re.compile(r"\$\w+\[", re.ASCII)
_ESCAPED = re.compile(r"\\\$")
# What OpenNebula knows of every machine without being told (vm_var_syntax.y, insert_single; Context section).
_KNOWN = {"UID", "UNAME", "GID", "GNAME", "NAME", "TEMPLATE", "VMID"}
# What the value's bracket may select by: anything else gives nothing.
_SELECTORS = {"NETWORK": ("NETWORK", "NETWORK_ID", "NIC_ID"), "IMAGE": ("IMAGE", "IMAGE_ID")}
_SELECTORS_OF_2008 = {**_SELECTORS, "NETWORK": ("NAME", "NETWORK", "NETWORK_ID")}
_HOLDERS = {"NETWORK": ("NIC", "NIC_ALIAS"), "IMAGE": ("DISK",)}


@dataclass(frozen=True, kw_only=True)
class LostReference:
    """A variable that comes to nothing: where it begins in the text, what is wrong, and the fix."""

    index: int
    what: str
    fix: str


def names_referred_to(text: str) -> set[str]:
    """The names behind the dollars."""
    return {match["name"].upper() for match in _VARIABLE.finditer(text)}


def lost_references(text: str, template: Template, generation: Generation) -> Iterator[LostReference]:
    """Every variable in `text` that comes to nothing in `template`."""
    escaped = {match.end() - 1 for match in _ESCAPED.finditer(text)}
    for index in (index for index, character in enumerate(text) if character == "$" and index not in escaped):
        found = _VARIABLE.match(text, index)
        if found is None:
            fix = r"write $NAME, without braces; a dollar that is meant as one is written \$"
            yield LostReference(index=index, what="no variable's name stands behind the '$'", fix=fix)
        elif found["name"].upper() == "FILE":  # of FILES_DS, KERNEL_DS and INITRD_DS, which have a grammar of their own
            continue
        elif found["bracket"] is None and _OPEN_BRACKET.match(text, index):
            fix = 'write $NIC[IP], or $NIC[IP, NETWORK="name"]; what is not letters and digits goes in quotes'
            yield LostReference(index=index, what=f"the bracket behind '${found['name']}' cannot be read", fix=fix)
        else:
            yield from _lost(found, template, generation)


def _lost(found: re.Match[str], template: Template, generation: Generation) -> Iterator[LostReference]:
    name, index = found["name"].upper(), found.start()
    if found["bracket"] is None:
        if name not in _KNOWN and not template.singles(name) and name not in _asked_for(template):
            fix = f"add {name} to the template, or to its USER_INPUTS"
            yield LostReference(index=index, what=f"'${name}' refers to nothing", fix=fix)
        return
    selectors = (_SELECTORS_OF_2008 if generation == "1" else _SELECTORS).get(name)
    by, value = (found["by"] or "").upper(), found["quoted"] if found["bare"] is None else found["bare"]
    if name == "USER":
        return
    if selectors and by not in selectors:
        given = f"not by {by}" if by else "and nothing is selected"
        what = f"'${name}[…]' selects by {', '.join(selectors)}, {given}"
        fix = f'write ${name}[{found["key"]}, {selectors[0]}="name"]'
        yield LostReference(index=index, what=what, fix=fix)
        return
    holders = _HOLDERS.get(name, (name,))
    vectors = [vector for holder in holders for vector in template.vectors(holder)]
    if not vectors:
        yield LostReference(index=index, what=f"there is no {holders[0]} for '${name}[…]'", fix="add one")
    elif by and by not in ("NAME", "NIC_ID") and not any(vector.get(by) == value for vector in vectors):
        what = f"no {holders[0]} has {by} = \"{value}\", which '${name}[…]' asks for"
        yield LostReference(index=index, what=what, fix=_choices(by, [vector.get(by) for vector in vectors]))


def _choices(by: str, values: list[str | None]) -> str:
    known = ", ".join(sorted({value for value in values if value}))
    return f"use one of {known}" if known else f"give it {by}, or select by another name"


def _asked_for(template: Template) -> set[str]:
    """The names that a person is asked for when the template is instantiated."""
    return {pair.key for vector in template.vectors("USER_INPUTS") for pair in vector.pairs if isinstance(pair, Pair)}
