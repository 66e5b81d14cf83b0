"""A rehearsal's report as one HTML page, which needs nothing beside itself. Pure.

Nothing that a guest says is trusted. Whatever the template writes goes through one sieve, `_written`, and is escaped;
and the page's policy lets no style and no script run but its own, by their digests.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import jinja2

from imagebuilder.rehearse.network_drawing import draw_networks
from imagebuilder.rehearse.outcome import CheckOutcome, Report, groups
from imagebuilder.rehearse.time_line import draw_time_line

SHOWN_BYTES = 256 * 1024
"""So much of a guest's text is shown, from its end: a guest that panics says so last, and a browser stays usable."""

# ECMA-48: control sequences, command strings such as a window's title, and escapes of two characters and more.
_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]|\x1b[P\]X^_][^\x07\x1b\x9c\n]*+(?:\x07|\x1b\\|\x9c)|\x1b[ -/]*+[0-~]"
)
_LINE_END = re.compile(r"\r+\n?")
# Controls, marks that turn the direction of writing, and what is no character: neither HTML nor XML has a place for it.
_NO_TEXT = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


@dataclass(frozen=True, kw_only=True)
class LastPart:
    """The end of a text, as far as it is shown."""

    text: str
    size_bytes: int
    """Of the whole text, without what cannot be shown."""
    is_whole: bool


def render_page(report: Report) -> str:
    """The whole report as one HTML page, for a file in UTF-8."""
    return _ENVIRONMENT.get_template("page.html.j2").render(
        report=report,
        has_passed=report.passed and bool(report.checks),
        begun=datetime.fromisoformat(report.started_at),
        sentence=verdict_sentence(report),
        networks=draw_networks(report),
        time_line=draw_time_line(report),
        groups=groups(report.checks),
        script_digest=_digest_of("page.js"),
        style_digest=_digest_of("page.css"),
    )


def verdict_sentence(report: Report) -> str:
    """What came of the rehearsal, and how many checks ended how."""
    if not report.checks:
        return "The rehearsal failed: nothing was checked."
    passed = report.count("passed")
    counts = (
        f"{passed} {'check' if passed == 1 else 'checks'} passed, {report.count('failed')} failed, "
        f"{report.count('skipped')} skipped, {report.count('not reached')} not reached"
    )
    return f"The rehearsal {'passed' if report.passed else 'failed'}: {counts}."


def readable(text: str) -> str:
    """`text` as characters that can be read: no escape sequences, and a picture of each control character.

    A carriage return begins a line, as on a terminal it would write over one.
    """
    text = _LINE_END.sub("\n", _ESCAPE_SEQUENCE.sub("", text))
    return _NO_TEXT.sub(lambda found: _picture(ord(found.group())), text)


def last_part(text: str) -> LastPart:
    """The last SHOWN_BYTES of `text`, readable."""
    clean = readable(text).rstrip("\n")
    encoded = clean.encode()
    if len(encoded) <= SHOWN_BYTES:
        return LastPart(text=clean, size_bytes=len(encoded), is_whole=True)
    last = encoded[-SHOWN_BYTES:].decode(errors="ignore")
    return LastPart(text=last, size_bytes=len(encoded), is_whole=False)


def duration(seconds: float) -> str:
    """Seconds for a person: `3.2 s`, `48 s`, `6 min 03 s`, `1 h 04 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _picture(code: int) -> str:
    """Unicode's picture of a control character of ASCII; of what has none, the sign for what is no character."""
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def _written(value: object) -> object:
    """What the page has for `value`: text is made readable, unless it is HTML already; a length is cut short."""
    match value:
        case str() if not hasattr(value, "__html__"):
            return readable(value)
        case float():
            return f"{value:.6g}"
        case _:
            return value


def _size(size_bytes: int) -> str:
    """Bytes for a person: `812 bytes`, `24.1 KiB`, `2.0 MiB`."""
    if size_bytes < 1024:
        return f"{size_bytes} bytes"
    return f"{size_bytes / 1024:.1f} KiB" if size_bytes < 1024**2 else f"{size_bytes / 1024**2:.1f} MiB"


def _anchor(check: CheckOutcome) -> str:
    """The name of a check as a fragment of the page's address."""
    return "check-" + re.sub(r"[^\w.-]+", "-", check.name, flags=re.ASCII)


def _digest_of(name: str) -> str:
    """The digest by which the page's policy knows one of its own files."""
    text = _ENVIRONMENT.get_template(name).render()
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_written,
)
_ENVIRONMENT.filters |= {"anchor": _anchor, "duration": duration, "last_part": last_part, "size": _size}
