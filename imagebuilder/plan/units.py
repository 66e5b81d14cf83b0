"""What starts at boot: turns "enable this unit" into the links that systemctl(1) would make, without running it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath

from imagebuilder.plan.changes import Change, MakeLink, RemovePath
from imagebuilder.plan.target import OWN_UNITS, Target

# In systemd's order of precedence, systemd.unit(5).
_UNIT_DIRECTORIES = (OWN_UNITS, PurePosixPath("/usr/lib/systemd/system"), PurePosixPath("/lib/systemd/system"))

UnitText = Callable[[PurePosixPath], str | None]
"""The text that will be at a path: what the plan writes there, else what the base has."""


def enabling_changes(unit: str, text_at: UnitText) -> Iterator[Change]:
    """The links that enable `unit`. Raises LookupError if there is no such unit or it has no [Install] section."""
    units = list(_with_also(unit, text_at))
    if not units:
        raise LookupError(f"there is no systemd unit '{unit}' in the base or the overlays")
    links = [link for name, path, text in units for link in _install_links(name, path, text)]
    if not links:
        raise LookupError(f"the systemd unit '{unit}' has no [Install] section, so that it cannot be enabled")
    yield from links


def disabling_changes(unit: str, target: Target) -> Iterator[Change]:
    """What keeps `unit` from starting at boot: its links go; a unit made from an init script is masked.

    Units that its [Install] section names in `Also=` go with it, as they come with it.
    """
    text_at = partial(_base_text, target)
    script = PurePosixPath("/etc/init.d") / unit.removesuffix(".service")
    if target.text(script) is not None and _find(unit, text_at) is None:
        yield MakeLink(path=OWN_UNITS / unit, target="/dev/null")
    units = {unit, *(name for name, _, _ in _with_also(unit, text_at))}
    for path, link in target.unit_links.items():
        in_place = path.parent.suffix in {".wants", ".requires"} and path.name in units
        leads_to = PurePosixPath(link).name
        is_alias = path.parent == OWN_UNITS and leads_to in units and path.name != leads_to
        if in_place or is_alias:
            yield RemovePath(path=path)


def _base_text(target: Target, path: PurePosixPath) -> str | None:
    text = target.text(target.resolve(path))
    return None if text is None else text.content


def _find(unit: str, text_at: UnitText) -> tuple[PurePosixPath, str] | None:
    """The unit's file, or that of its template for an instance such as `openvpn-server@vpn.service`."""
    stem, _, suffix = unit.rpartition(".")
    template = f"{stem.partition('@')[0]}@.{suffix}" if "@" in stem else unit
    for name in dict.fromkeys((unit, template)):
        for directory in _UNIT_DIRECTORIES:
            if (text := text_at(directory / name)) is not None:
                return directory / name, text
    return None


def _with_also(unit: str, text_at: UnitText) -> Iterator[tuple[str, PurePosixPath, str]]:
    """Name, path and text of `unit` and of every unit that is enabled along with it."""
    waiting, seen = [unit], set[str]()
    while waiting:
        name = waiting.pop(0)
        found = _find(name, text_at)
        if found is None or name in seen:
            continue
        seen.add(name)
        yield name, *found
        waiting += [word for key, words in _install_section(found[1]) if key == "Also" for word in words]


def _install_links(unit: str, path: PurePosixPath, text: str) -> Iterator[Change]:
    for key, words in _install_section(text):
        for word in words:
            match key:
                case "WantedBy":
                    yield MakeLink(path=OWN_UNITS / f"{word}.wants" / unit, target=str(path))
                case "RequiredBy":
                    yield MakeLink(path=OWN_UNITS / f"{word}.requires" / unit, target=str(path))
                case "Alias":
                    yield MakeLink(path=OWN_UNITS / word, target=str(path))


def _install_section(text: str) -> Iterator[tuple[str, list[str]]]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        elif section == "[Install]" and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            yield key.strip(), value.split()
