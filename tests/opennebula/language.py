"""The template language as oned reads it, written from its grammar and from nothing of ours.

Source: the rules of src/parsers/template_parser.l and template_syntax.y of OpenNebula 6 and 7. As in flex, the longest
match wins, and of two as long the rule that stands first. Where oned's scanner passes over a character that no rule
has, this one refuses: a template that needs that is wrong.
"""

import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree as ET

Value = str | Mapping[str, str]
Attributes = list[tuple[str, Value]]

_SKIPPED = re.compile(r"[ \t]*#[^\n]*\n|[ \t\n]+")
_OUTSIDE = (
    ("VARIABLE", re.compile(r"[A-Za-z0-9_]+")),
    ("EQUAL", re.compile(r"[ \t]*=[ \t]*")),
    ("EQUAL_EMPTY", re.compile(r"[ \t]*=[ \t]*\n")),
    ("COMMA", re.compile(r"[ \t\n]*,[ \t\n]*")),
    ("CBRACKET", re.compile(r"[ \t\n]*\][ \t\n]*")),
)
_BRACKET = re.compile(r"[ \t]*\[[ \t\n]*")
_CDATA_END = re.compile(r"[^\n]*\]\]>[^\n]*")
_BARE = re.compile(r"[^=#\t \n,\[\]]+")


class TemplateError(Exception):
    """oned would not take this template."""


def read_template(text: str) -> Attributes:
    """The attributes of a template, in its own language or in XML, names in capitals."""
    return _read_xml(text) if text.lstrip().startswith("<") else _read_language(text)


def _read_language(text: str) -> Attributes:
    tokens = [*_tokens(text), ("END", "", text.count("\n") + 1)]
    attributes: Attributes = []
    at = 0
    while tokens[at][0] != "END":
        name = _expect(tokens, at, "VARIABLE").upper()
        match tokens[at + 1][0]:
            case "EQUAL_EMPTY":
                attributes.append((name, ""))
                at += 2
            case "EQUAL" if tokens[at + 2][0] == "STRING":
                attributes.append((name, tokens[at + 2][1]))
                at += 3
            case "EQUAL":
                _expect(tokens, at + 2, "OBRACKET")
                pairs, at = _pairs(tokens, at + 3)
                attributes.append((name, pairs))
            case _:
                _expect(tokens, at + 1, "EQUAL")
    return attributes


def _pairs(tokens: list[tuple[str, str, int]], at: int) -> tuple[dict[str, str], int]:
    pairs: dict[str, str] = {}
    if tokens[at][0] == "CBRACKET":
        return pairs, at + 1
    while True:
        name = _expect(tokens, at, "VARIABLE").upper()
        _expect(tokens, at + 1, "EQUAL")
        pairs.setdefault(name, _expect(tokens, at + 2, "STRING"))
        at += 3
        if tokens[at][0] == "CBRACKET":
            return pairs, at + 1
        _expect(tokens, at, "COMMA")
        at += 1


def _expect(tokens: list[tuple[str, str, int]], at: int, kind: str) -> str:
    found, text, line = tokens[at]
    if found != kind:
        raise TemplateError(f"syntax error, unexpected {found}, expecting {kind} at line {line}, columns 1:1")
    return text


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    at, is_value = 0, False
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        kind, matched, value = _value_token(text, at) if is_value else _outside_token(text, at)
        if not matched:
            raise TemplateError(f"syntax error, unexpected character {text[at]!r} at line {line}, columns 1:1")
        if kind == "CCDATA":
            raise TemplateError(f"syntax error at line {line}, columns 1:1")
        if kind:
            yield kind, value, line
        is_value = kind == "EQUAL"
        at += len(matched)


def _outside_token(text: str, at: int) -> tuple[str, str, str]:
    matches = [(kind, found[0]) for kind, rule in (("", _SKIPPED), *_OUTSIDE) if (found := rule.match(text, at))]
    kind, matched = max(matches, key=lambda one: len(one[1]), default=("", ""))
    return kind, matched, matched


def _value_token(text: str, at: int) -> tuple[str, str, str]:
    found = {"OBRACKET": _BRACKET.match(text, at), "CCDATA": _CDATA_END.match(text, at), "BARE": _BARE.match(text, at)}
    matches = [(kind, one[0]) for kind, one in found.items() if one and kind != "BARE"]
    if text[at] == '"':
        matches.append(("QUOTED", _quoted(text, at)))
    matches += [("BARE", found["BARE"][0])] if found["BARE"] else []
    kind, matched = max(matches, key=lambda one: len(one[1]), default=("", ""))
    inner = matched[1:-1] if kind == "QUOTED" else matched
    is_string = kind in {"QUOTED", "BARE"}
    return "STRING" if is_string else kind, matched, inner.replace('\\"', '"') if is_string else matched


def _quoted(text: str, at: int) -> str:
    """From the quote at `at` as far as a quoted value can go: over quotes behind a backslash only."""
    end = 0
    for quote in re.finditer('"', text[at + 1 :]):
        end = at + 1 + quote.start()
        if text[end - 1] != "\\":
            break
    return text[at : end + 1] if end else ""


def _read_xml(text: str) -> Attributes:
    try:
        root = ET.fromstring(text)  # noqa: S314 - the tests' own
    except ET.ParseError as error:
        raise TemplateError(f"XML: {error}") from error
    if root.tag != "TEMPLATE":
        raise TemplateError(f"the root element is {root.tag}")
    return [
        (one.tag.upper(), {pair.tag.upper(): pair.text or "" for pair in one} if len(one) else one.text or "")
        for one in root
    ]
