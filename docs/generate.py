"""Writes docs/recipes.md, the reference of the recipes, from the models that check them; and in docs/opennebula.md,
which document each attribute is from that the golden files have.

`python -m docs.generate` writes both anew.
"""

import builtins
import inspect
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from imagebuilder.edits import all_edits
from imagebuilder.edits.edit import Edit
from imagebuilder.opennebula.attributes import Attribute, Table
from imagebuilder.opennebula.lint import guess_kind
from imagebuilder.opennebula.parser import parse_template
from imagebuilder.opennebula.release import RELEASES, Release
from imagebuilder.opennebula.tables import TABLES
from imagebuilder.opennebula.template import Template, Vector
from imagebuilder.plan.check import Instance
from imagebuilder.plan.overlay import OverlayRecipe
from imagebuilder.recipe import cluster
from imagebuilder.recipe.foundation import DebianBase, OwnBase
from imagebuilder.secret import Secret
from imagebuilder.site import STARTER, RoleRecipe, Site, load_site

REFERENCE = Path(__file__).with_name("recipes.md")
OPENNEBULA = Path(__file__).with_name("opennebula.md")
_GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "opennebula"
_ATTRIBUTES = re.compile(r"(<!-- attributes: [^\n]* -->\n).*(<!-- end of attributes -->)", re.DOTALL)

_COLUMNS = 116

_INTRODUCTION = """\
# Recipes

<!-- Written by `python -m docs.generate` from the models in imagebuilder/; change those. -->

A site has its recipes in `recipes/`: `cluster.yaml`, one file for each role, and one or more for bases. Those that
`imgbuild init` makes are commented, and build as they are. `imgbuild validate` checks all of them at once.

They are YAML with fewer surprises. The same key twice is an error, and so is a key that is not listed here. Of the
unquoted words only `null`, `true`, `false` and decimal numbers are anything but text: `no` is the word no. Put
addresses, names and file modes in quotes anyway.

An editor with a YAML language server completes and checks as you type: write the schema with
`imgbuild schema cluster > cluster.schema.json`, and into the first line of the recipe
`# yaml-language-server: $schema=cluster.schema.json`. The other schemas are `role`, `base` and `overlay`.

Each key is followed by what it takes, and by its default if it has one. What stands in capitals is yours to choose.
A word is made of letters, digits and `. _ = : @ / + -`.
"""

_EDITS = """\
One key each. An edit without options is written with nothing behind it: `hostname:`. What no edit of a role writes
stays as the base has it; but the services of edits that the role does not use are switched off in its images. What
running machines are asked to prove of an edit is listed with it.
"""

# Of those edits that prove nothing in the example cluster: options with which they do.
_OPTIONS_TO_PROVE: Mapping[str, Mapping[str, object]] = {
    "fstab": {"mounts": {"/srv/scratch": {"device": "LABEL=scratch"}}},
    "timezone": {"zone": "Europe/Madrid"},
}

_IN_WORDS: dict[object, str] = {
    str: "text",
    int: "whole number",
    bool: "true or false",
    Secret: "text, kept secret",
    IPv4Address: "IPv4 address",
    IPv4Network: "IPv4 network",
    cluster.AbsolutePath: "absolute path",
    cluster.Addresses: "IPv4 address, or range of them",
    cluster.HostName: "host name",
    cluster.HostPattern: "host name, or range of them",
    cluster.InterfaceName: "interface name",
    cluster.PortRange: "port, or range of them",
    cluster.Word: "word",
}

# How the keys of a mapping are called, by what they must be.
_KEY_IN_WORDS: dict[object, str] = {
    cluster.AbsolutePath: "PATH",
    cluster.HostPattern: "NAME",
    cluster.InterfaceName: "INTERFACE",
    str: "KEY",
}


def recipe_reference() -> str:
    """The whole page."""
    site = load_site(STARTER)
    parts = [
        _INTRODUCTION,
        *_file("cluster.yaml", cluster.ClusterRecipe),
        *_file("ROLE.yaml", RoleRecipe),
        "### edits\n",
        _EDITS,
        *(part for name, edit in sorted(all_edits().items()) for part in _edit(name, edit, site)),
        *_file("base.yaml", DebianBase),
        "Or:\n",
        *_model("", OwnBase),
        *_file("overlays/NAME/overlay.yaml", OverlayRecipe),
    ]
    return "\n".join(parts)


def opennebula_page() -> str:
    """The page about OpenNebula, with the attributes as they are now."""
    parts = "\n".join(_attributes_of(release) for release in RELEASES.values())
    return _ATTRIBUTES.sub(lambda found: f"{found[1]}\n{parts}\n{found[2]}", OPENNEBULA.read_text(encoding="utf-8"))


def _attributes_of(release: Release) -> str:
    """The attributes in the golden files of a release, by the document that they are from."""
    by_source: dict[str, set[str]] = {}
    for file in sorted((_GOLDEN / release.generation).glob("*.*")):
        if file.suffix != ".sh":
            template, _ = parse_template(file.read_text(encoding="utf-8"), file, release.dialect)
            table = TABLES[release.generation][guess_kind(file, template)]
            for attribute in _rows_of(table, template):
                by_source.setdefault(attribute.source, set()).add(attribute.path)
    lines = [_wrapped(f"- {source}: {_listed(sorted(paths))}.", indent="  ") for source, paths in by_source.items()]
    return f"{release.title}:\n\n" + "\n".join(sorted(lines)) + "\n"


def _rows_of(table: Table, template: Template) -> Iterator[Attribute]:
    """What the table has of each attribute of a template; one that it does not have is an error."""
    for one in template.attributes:
        names = [("", one.key)]
        names += [(one.key, pair.key) for pair in one.pairs] if isinstance(one, Vector) else []
        for vector, name in names:
            found = table.find(vector, name)
            if found is None:
                raise LookupError(f"no source for {vector} {name}")
            yield found


def _file(name: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## {name}\n"
    yield from _model("", model)


def _edit(name: str, edit: type[Edit], site: Site) -> Iterator[str]:
    yield f"#### {name}\n"
    yield from _model("", edit, level=5)
    needs = f"Needs {_listed(edit.packages)}. " if edit.packages else ""
    starts = f"Starts {_listed(edit.services)} at boot. " if edit.services else ""
    files = f"Its files are in `overlays/{edit.overlay}`." if edit.overlay else ""
    if needs or starts or files:
        yield f"{_wrapped(needs + starts + files)}\n"
    proofs = [_wrapped(f"- `{check}`: {proves}.", indent="  ") for check, proves in _proofs(name, edit, site).items()]
    yield "Proves on a running machine:\n"
    yield "\n".join(proofs) + "\n"


def _proofs(name: str, edit: type[Edit], site: Site) -> dict[str, str]:
    """What the edit proves on the machines of the example cluster, by the names of its checks."""
    own = edit.model_validate(_OPTIONS_TO_PROVE[name]) if name in _OPTIONS_TO_PROVE else None
    [(worker, address), *_] = site.cluster.workers.items()
    found: dict[str, str] = {}
    for machine in site.machines():
        host = machine.host
        used = own or site.roles[machine.role].edits.get(name)
        instance = Instance(name=host.name if host else worker, address=host.addresses["private"] if host else address)
        found |= {check.name: check.proves for check in (used.checks(machine, instance) if used else ())}
    return found


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _model(path: str, model: type[BaseModel], *, level: int = 3) -> Iterator[str]:
    """What the model is for and its keys; then, each below its own heading, the models inside it."""
    yield "\n\n".join(map(_wrapped, _docstring(model).split("\n\n"))) + "\n"
    fields = model.model_fields
    hints = typing.get_type_hints(model, include_extras=True)
    if lines := [_line(name, hints[name], field) for name, field in fields.items()]:
        yield "\n".join(lines) + "\n"
    for name in fields:
        inner = _inner_model(hints[name])
        if inner is not None and name != "edits":
            many = typing.get_origin(hints[name]) is dict
            inner_path = f"{path}{name}.{_key(typing.get_args(hints[name])[0])}" if many else f"{path}{name}"
            yield f"{'#' * level} {inner_path}\n"
            yield from _model(f"{inner_path}.", inner, level=level)


def _docstring(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "")


def _wrapped(text: str, indent: str = "") -> str:
    words = " ".join(text.split())
    return textwrap.fill(words, _COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _line(name: str, hint: object, field: FieldInfo) -> str:
    """One key: its name, what it takes, its default, what it means."""
    inner = _inner_model(hint)
    meaning = field.description or (_docstring(inner) if inner else "")
    return _wrapped(f"- `{name}` ({_takes(hint)}{_default(field)}): {meaning}", indent="  ")


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return ""
    if default in (None, "", (), {}) or isinstance(default, BaseModel):
        return "; optional"
    return f"; default `{json.dumps(default)}`"


def _takes(hint: object) -> str:
    """What a value must be, in words."""
    if (known := _known(hint, _IN_WORDS)) is not None:
        return known
    inner = typing.get_args(hint)
    match typing.get_origin(hint):
        case typing.Annotated:
            words = _takes(inner[0]) + _bounds(inner[1:])
        case typing.Literal:
            words = " or ".join(f"`{value}`" for value in inner)
        case typing.Union | types.UnionType:
            words = " or ".join(_takes(option) for option in inner if option is not types.NoneType)
        case builtins.tuple:
            words = f"list of {_takes(inner[0])}"
        case builtins.dict:
            words = f"mapping {_key(inner[0])} → {_takes(inner[1])}"
        case _ if _inner_model(hint) is not None:
            words = "mapping"
        case _:
            raise LookupError(f"no words for {hint}")
    return words


def _bounds(metadata: tuple[object, ...]) -> str:
    """` from 1 to 65535` for a number that is limited."""
    found = [limit for field in metadata if isinstance(field, FieldInfo) for limit in field.metadata]
    first, last = ([getattr(limit, name) for limit in found if hasattr(limit, name)] for name in ("ge", "le"))
    return f"{f' from {first[0]}' if first else ''}{f' to {last[0]}' if last else ''}"


def _known(hint: object, table: Mapping[object, str]) -> str | None:
    return next((words for known, words in table.items() if known == hint), None)


def _key(hint: object) -> str:
    """How the key of a mapping is called."""
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(typing.get_args(hint))
    return _known(hint, _KEY_IN_WORDS) or "NAME"


def _inner_model(hint: object) -> type[BaseModel] | None:
    """The model that the value is, or that each value in it is."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint
    return next((model for part in typing.get_args(hint) if (model := _inner_model(part)) is not None), None)


if __name__ == "__main__":
    REFERENCE.write_text(recipe_reference(), encoding="utf-8")
    OPENNEBULA.write_text(opennebula_page(), encoding="utf-8")
