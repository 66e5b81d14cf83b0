"""Finds the places that xl's own messages are about: xl gives at most a line, often only the text that it dislikes."""

import re
from collections.abc import Iterable, Iterator

from imagebuilder.errors import Fault, Place
from imagebuilder.recipe.source import printable
from imagebuilder.xen.xl_cfg import Atom, Group, Setting, Value, XlFile

_FIX = "see xl.cfg(5); this is the word of xl itself"
# xl says what it did afterwards, and it has said why.
_SAYS_NOTHING = ("Failed to parse config: ", "warning:  ", "warning: Config file looks like")
_QUOTED = re.compile(r"""[`"']([^`"']+)['"]""")
# xl names some values without quotes: `Failed to parse UUID: 123`, `Invalid domain type pvx.`
_LAST_WORD = re.compile(r"(\S+?)\.?$")


def faults_of(file: XlFile, messages: Iterable[str]) -> Iterator[tuple[Fault, bool]]:
    """Each message as a fault, and whether its place in the file was found; else it is at the file's start."""
    for message in messages:
        if message.startswith(_SAYS_NOTHING):
            continue
        place, what = _at_line(file, message) or (_by_text(file, message), message)
        found = place or Place(path=file.path)
        yield Fault(place=found, what=printable(f"xl: {_short(what)}"), fix=_FIX), place is not None


def _at_line(file: XlFile, message: str) -> tuple[Place, str] | None:
    """The place and the rest of a message that begins with `file:line: `."""
    match = re.match(r".*?:(\d+): (?:warning: )?(.*)", message)
    if match is None:
        return None
    line = int(match[1])
    setting = next((one for one in file.settings if one.line == line), None)
    place = file.place(setting.value) if setting is not None else Place(path=file.path, line=max(line, 1))
    return place, match[2]


def _by_text(file: XlFile, message: str) -> Place | None:
    """Where the text stands that the message quotes, the last one first: it is what xl read as a whole."""
    quoted = _QUOTED.findall(message)
    atoms = [atom for setting in file.settings for atom in _atoms(setting.value)]
    for words in (reversed(quoted), _LAST_WORD.findall(message)):
        for word in words:
            atom = next((atom for atom in atoms if word in atom.text), None)
            if atom is not None:
                near = quoted[0] if quoted and quoted[0] in atom.text else word
                return file.place(atom, index=atom.text.index(near))
            setting: Setting | None = file.setting(word)
            if setting is not None:
                return file.place(setting)
    return None


def _atoms(value: Value) -> Iterator[Atom]:
    match value:
        case Atom():
            yield value
        case Group(items=items):
            for item in items:
                yield from _atoms(item)


def _short(message: str) -> str:
    return re.sub(r"^.*?: config parsing error in ", "", message)
