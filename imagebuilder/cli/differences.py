"""How what two file systems differ in is told, path by path: as lines for people, as plain values for programs."""

from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from imagebuilder.compare.contents import printable
from imagebuilder.compare.difference import Aspect, Difference
from imagebuilder.plan.listing import Entry, Kind


def summary_line(difference: Difference) -> tuple[str, str]:
    """One line that says what differs, and its colour."""
    a, b = difference.a, difference.b
    if a is not None and b is not None:
        return f"~ {difference.path}  {', '.join(_change(aspect, a, b) for aspect in difference.aspects)}", "yellow"
    return (f"- {difference.path}  {_brief(a)}", "red") if a else (f"+ {difference.path}  {_brief(b)}", "green")


def _change(aspect: Aspect, a: Entry, b: Entry) -> str:
    match aspect:
        case Aspect.MODE:
            return f"mode {a.mode:04o} → {b.mode:04o}"
        case Aspect.OWNER:
            return f"owner {a.uid}:{a.gid} → {b.uid}:{b.gid}"
        case Aspect.LINK:
            return f"link to {a.target} → {b.target}"
        case Aspect.CONTENT if a.size != b.size:
            return f"content, {a.size} → {b.size} bytes"
        case Aspect.CONTENT:
            return "content"
        case _:
            return f"{_brief(a)} → {_brief(b)}"


def _brief(entry: Entry | None) -> str:
    return str(entry).rstrip()  # where there is no digest: a file that only one image has need not be hashed


def print_line(console: Console, line: str, style: str) -> None:
    """Print a line of which the text is an image's."""
    # A bare segment: as any other renderable, a text would lose its tabs, and a patch its use.
    console.print(Segments([Segment(f"{printable(line)}\n", Style.parse(style))]), soft_wrap=True, end="")


def describe_entry(entry: Entry | None) -> dict[str, object] | None:
    """What is at a path as plain values; `sha256` is null where nothing had to be hashed."""
    if entry is None:
        return None
    described: dict[str, object] = {
        "type": entry.kind.value,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
    }
    match entry.kind:
        case Kind.FILE:
            return {**described, "size_bytes": entry.size, "sha256": entry.digest or None}
        case Kind.LINK:
            return {**described, "target": entry.target}
        case _:
            return described
