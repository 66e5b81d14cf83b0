"""Folds the intents that edit lines of a text onto that text, so that the rest of it stays as it is."""

import re
from collections.abc import Iterable, Sequence

from imagebuilder.plan.changes import AddWord, LineIntent, RemoveLines, SetLine
from imagebuilder.secret import Secret

Line = str | Secret
EditLine = tuple[str, LineIntent]
"""An intent with the name of the edit that it comes from."""


def lines_of(text: str) -> list[Line]:
    """The lines of `text` without their ends; a form feed or a carriage return is a part of its line."""
    return [*text.removesuffix("\n").split("\n")] if text else []


def fold_lines(base: Sequence[Line], intents: Iterable[EditLine]) -> list[Line]:
    """The `base` lines after all `intents`, whose own order does not matter."""
    lines = list(base)
    for _, intent in _in_order(intents):
        lines = _with(lines, intent)
    return lines


def line_conflict(base: Sequence[Line], intents: Sequence[EditLine]) -> tuple[str, str] | None:
    """Two edits of which one undoes what the other wants, or None if all get what they want."""
    after = fold_lines(base, intents)
    lost = next(((edit, intent) for edit, intent in _in_order(intents) if not _holds(intent, after)), None)
    if lost is None:
        return None
    lines = _with(list(base), lost[1])
    for edit, intent in _in_order(intents):
        lines = _with(lines, intent)
        if not _holds(lost[1], lines):
            return lost[0], edit
    return lost[0], lost[0]


def _in_order(intents: Iterable[EditLine]) -> list[EditLine]:
    """Removals first, then lines by their text: the same intents in any order give the same text."""
    return sorted(intents, key=lambda item: (item[0], *_rank(item[1])))


def _rank(intent: LineIntent) -> tuple[int, str, bytes]:
    match intent:
        case RemoveLines():
            return 0, intent.matching.pattern, b""
        case AddWord():
            return 1, intent.within.pattern, intent.word.encode()
        case SetLine():
            return 2, intent.replaces.pattern, _bytes(intent.line)


def _with(lines: list[Line], intent: LineIntent) -> list[Line]:
    match intent:
        case RemoveLines():
            return [line for line in lines if not _matches(intent.matching, line)]
        case AddWord():
            if not any(_matches(intent.within, line) for line in lines):
                return [*lines, intent.otherwise]
            return [_with_word(line, intent) if _matches(intent.within, line) else line for line in lines]
        case SetLine():
            hits = [index for index, line in enumerate(lines) if _matches(intent.replaces, line)]
            at = hits[0] if hits else len(lines)
            return [*lines[:at], intent.line, *(line for line in lines[at:] if not _matches(intent.replaces, line))]


def _holds(intent: LineIntent, lines: list[Line]) -> bool:
    match intent:
        case RemoveLines():
            return not any(_matches(intent.matching, line) for line in lines)
        case AddWord():
            found = [line for line in lines if _matches(intent.within, line)]
            return bool(found) and all(_has_word(line, intent.word) for line in found)
        case SetLine():
            found = [line for line in lines if line == intent.line or _matches(intent.replaces, line)]
            return set(found) == {intent.line}


def _with_word(line: Line, intent: AddWord) -> Line:
    if _has_word(line, intent.word):
        return line
    words, hash_sign, comment = _text(line).partition("#")
    behind = re.search(rf"(?<!\S){re.escape(intent.behind)}(?!\S)", words)
    at = behind.end() if behind else len(words.rstrip())
    changed = f"{words[:at]} {intent.word}{words[at:]}{hash_sign}{comment}"
    return Secret(changed) if isinstance(line, Secret) else changed


def _has_word(line: Line, word: str) -> bool:
    return word in _text(line).partition("#")[0].split()


def _matches(pattern: re.Pattern[str], line: Line) -> bool:
    return pattern.search(_text(line)) is not None


def _text(line: Line) -> str:
    return line.reveal().decode(errors="replace") if isinstance(line, Secret) else line


def _bytes(line: Line) -> bytes:
    return line.reveal() if isinstance(line, Secret) else line.encode()


def joined(lines: Iterable[Line]) -> bytes:
    """The lines as the content of a file."""
    return b"".join(_bytes(line) + b"\n" for line in lines)
