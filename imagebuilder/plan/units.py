"""What starts at boot: turns "enable this unit" into the links that systemctl(1) would make, without running it."""

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from imagebuilder.plan.changes import Change, MakeLink, RemovePath
from imagebuilder.plan.target import Target

OWN_UNITS = PurePosixPath("/etc/systemd/system")
# In systemd's order of precedence, systemd.unit(5).
_UNIT_DIRECTORIES = (OWN_UNITS, PurePosixPath("/usr/lib/systemd/system"), PurePosixPath("/lib/systemd/system"))

UnitText = Callable[[PurePosixPath], str | None]
"""The text that will be at a path: what the plan writes there, else what the base has."""


def enabling_changes(unit: str, text_at: UnitText) -> Iterator[Change]:
    """The links that enable `unit`. Raises LookupError if there is no such unit or it has no [Install] section."""
    found = _find(unit, text_at)
    if found is None:
        raise LookupError(f"there is no systemd unit '{unit}' in the base or the overlays")
    path, text = found
    links = list(_install_links(unit, path, text, text_at))
    if not links:
        raise LookupError(f"the systemd unit '{unit}' has no [Install] section, so that it cannot be enabled")
    yield from links


def disabling_changes(unit: str, target: Target) -> Iterator[Change]:
    """What keeps `unit` from starting at boot: its links go; a unit made from an init script is masked."""
    for path, link in target.links.items():
        in_place = path.is_relative_to(OWN_UNITS) and path.parent.suffix in {".wants", ".requires"}
        is_alias = path.parent == OWN_UNITS and PurePosixPath(link).name == unit and path.name != unit
        if (in_place and path.name == unit) or is_alias:
            yield RemovePath(path=path)
    script = PurePosixPath("/etc/init.d") / unit.removesuffix(".service")
    if target.text(script) is not None and _find(unit, lambda path: _base_text(target, path)) is None:
        yield MakeLink(path=OWN_UNITS / unit, target="/dev/null")


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


def _install_links(unit: str, path: PurePosixPath, text: str, text_at: UnitText) -> Iterator[Change]:
    for key, words in _install_section(text):
        for word in words:
            match key:
                case "WantedBy":
                    yield MakeLink(path=OWN_UNITS / f"{word}.wants" / unit, target=str(path))
                case "RequiredBy":
                    yield MakeLink(path=OWN_UNITS / f"{word}.requires" / unit, target=str(path))
                case "Alias":
                    yield MakeLink(path=OWN_UNITS / word, target=str(path))
                case "Also":
                    also = _find(word, text_at)
                    if also is not None and word != unit:
                        yield from _install_links(word, also[0], also[1], text_at)


def _install_section(text: str) -> Iterator[tuple[str, list[str]]]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        elif section == "[Install]" and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            yield key.strip(), value.split()
