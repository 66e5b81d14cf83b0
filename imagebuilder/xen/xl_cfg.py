"""Reads the language of xl.cfg(5), with the line and the column of everything in it.

The grammar is that of Xen 4.17 (tools/libs/util/libxlu_cfg_l.l and libxlu_cfg_y.y): what is refused here xl refuses,
but for the few things at which xl stops dead or which it loses without a word.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import Fault, Place
from imagebuilder.recipe.source import printable
from imagebuilder.xen.xl_mistakes import (
    IN_EACH_LINE,
    Token,
    XlSyntaxError,
    more_than_a_value,
    no_comma,
    no_escape,
    no_key,
    no_operator,
    no_value,
)


@dataclass(frozen=True, kw_only=True)
class Atom:
    """A text or a number; `columns` has the column of each character of `text`, and of the end behind them."""

    text: str
    line: int
    column: int
    columns: tuple[int, ...]

    def column_of(self, index: int) -> int:
        """The column at which the character number `index` of the text stands in the file."""
        return self.columns[min(index, len(self.columns) - 1)]


@dataclass(frozen=True, kw_only=True)
class Group:
    """A list, which may have lists in it."""

    items: tuple["Atom | Group", ...]
    line: int
    column: int


Value = Atom | Group


@dataclass(frozen=True, kw_only=True)
class Setting:
    """`key = value`, or `key += value`, which adds to what the key has."""

    key: str
    operator: str
    value: Value
    line: int
    column: int


@dataclass(frozen=True, kw_only=True)
class XlFile:
    """A file as it was read: its settings in order, and why the rest is none."""

    path: Path
    settings: tuple[Setting, ...]
    faults: tuple[Fault, ...]

    def setting(self, key: str) -> Setting | None:
        """The setting of a key that counts: the last one."""
        return next((one for one in reversed(self.settings) if one.key == key), None)

    def atom(self, key: str) -> Atom | None:
        """The text or number of a key, or None if it has none or a list."""
        setting = self.setting(key)
        return setting.value if setting is not None and isinstance(setting.value, Atom) else None

    def items(self, key: str) -> tuple[Value, ...]:
        """The items of a list, with those that `+=` adds."""
        items: tuple[Value, ...] = ()
        for setting in self.settings:
            if setting.key == key and isinstance(setting.value, Group):
                items = (*(items if setting.operator == "+=" else ()), *setting.value.items)
        return items

    def texts(self, key: str) -> tuple[Atom, ...]:
        """Those items of a list that are no lists."""
        return tuple(item for item in self.items(key) if isinstance(item, Atom))

    def place(self, at: Setting | Value, *, index: int | None = None) -> Place:
        """Where something stands; with `index`, the character of an atom with this number."""
        column = at.column_of(index) if index is not None and isinstance(at, Atom) else at.column
        return Place(path=self.path, line=at.line, column=column)


def read_xl_file(path: Path, content: bytes) -> XlFile:
    """The settings in `content`, which is the file `path`; bytes that are no UTF-8 are taken as they are."""
    return _Parser(path, content.decode("utf-8", errors="surrogateescape")).read()


_TOKENS = re.compile(
    r"""(?P<blank>[ \t]+)|(?P<newline>\n|\#.*\n)|(?P<word>[a-z][_0-9a-z]*)|(?P<number>[0-9][0-9a-fx]*)
    |(?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")|(?P<operator>\+=|=)|(?P<mark>[][,;])|(?P<wrong>(?s:.))""",
    re.VERBOSE,
)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "'": "'", "\\": "\\"}

# vnuma, of all keys the one with lists inside of lists, has one level; libxlutil's own limit is in the thousands.
_DEEPEST = 20


class _Parser:
    """Recursive descent; after a fault it goes on with the next line that looks like a setting."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._tokens = list(_tokens(text))
        self._next = 0
        self._is_in_list = False
        self._depth = 0
        self._faults: list[Fault] = []

    def read(self) -> XlFile:
        settings = []
        while self._peek().kind != "end":
            try:
                if self._peek().kind == "newline" or self._peek().text == ";":
                    self._take()
                    continue
                settings.append(self._setting())
            except XlSyntaxError as error:
                self._report(error)
                self._skip()
                if self._is_in_list:
                    self._skip_rest_of_list()
        return XlFile(path=self._path, settings=tuple(settings), faults=tuple(self._faults))

    def _report(self, error: XlSyntaxError) -> None:
        place = Place(path=self._path, line=error.token.line, column=error.token.column)
        fault = Fault(place=place, what=printable(error.what), fix=printable(error.fix))
        # A file from DOS has the same fault in each line: once is enough.
        if fault.what != IN_EACH_LINE or all(known.what != IN_EACH_LINE for known in self._faults):
            self._faults.append(fault)

    def _skip(self) -> None:
        """Go to the end of the line."""
        while self._peek().kind not in ("newline", "end"):
            self._take()

    def _skip_rest_of_list(self) -> None:
        """Go on to the next line that looks like a setting."""
        self._is_in_list, self._depth = False, 0
        while [token.kind for token in self._tokens[self._next + 1 : self._next + 3]] != ["word", "operator"]:
            if self._peek().kind == "end":
                return
            self._take()
            self._skip()

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _setting(self) -> Setting:
        key = self._take()
        if key.kind != "word":
            raise no_key(key)
        operator = self._take()
        if operator.kind != "operator":
            raise no_operator(key, operator)
        value = self._value(operator)
        end = self._peek()
        if end.kind not in ("newline", "end") and end.text != ";":
            raise more_than_a_value(end)
        return Setting(key=key.text, operator=operator.text, value=value, line=key.line, column=key.column)

    def _value(self, before: Token) -> Value:
        token = self._take()
        if token.text == "[" and token.kind == "mark":
            return self._group(token)
        if token.kind not in ("string", "number"):
            raise no_value(before, token)
        return self._atom(token)

    def _group(self, start: Token) -> Group:
        items: list[Value] = []
        before = start
        was_in_list, self._is_in_list = self._is_in_list, True
        self._depth += 1
        if self._depth > _DEEPEST:
            raise XlSyntaxError(start, "lists inside of lists, deeper than anything needs", "remove some of the [")
        self._skip_newlines()
        while self._peek().text != "]":
            if self._peek().kind == "end":
                raise XlSyntaxError(start, "this list is not closed", "write ] behind its last item")
            items.append(self._value(before))
            self._skip_newlines()
            before = self._peek()
            if before.text == ",":
                self._take()
                self._skip_newlines()
            elif before.kind != "end" and before.text != "]":
                raise no_comma(before)
        self._take()
        self._is_in_list = was_in_list
        self._depth -= 1
        return Group(items=tuple(items), line=start.line, column=start.column)

    def _skip_newlines(self) -> None:
        while self._peek().kind == "newline":
            self._take()

    def _atom(self, token: Token) -> Atom:
        if token.kind == "number":
            columns = range(token.column, token.column + len(token.text) + 1)
            return Atom(text=token.text, line=token.line, column=token.column, columns=tuple(columns))
        characters = list(_unescaped(token))
        return Atom(
            text="".join(character for character, _ in characters),
            line=token.line,
            column=token.column,
            columns=(*(column for _, column in characters), token.column + len(token.text) - 1),
        )


def _tokens(text: str) -> Iterator[Token]:
    line, start = 1, 0
    for match in _TOKENS.finditer(text):
        token = Token(kind=str(match.lastgroup), text=match[0], line=line, column=match.start() - start + 1)
        if token.kind == "newline":
            line, start = line + 1, match.end()
        if token.kind != "blank":
            yield token
    yield Token(kind="end", text="", line=line, column=len(text) - start + 1)


def _unescaped(token: Token) -> Iterator[tuple[str, int]]:
    """The characters that a string in quotes stands for, each with its column."""
    inside = token.text[1:-1]
    index = 0
    while index < len(inside):
        character, column = inside[index], token.column + 1 + index
        at = Token(kind="string", text=character, line=token.line, column=column)
        if character == "\0":
            raise XlSyntaxError(at, "a byte with the value zero, at which xl stops dead", "remove it")
        if character == "\\":
            index += 1
            if inside[index] not in _ESCAPES:
                raise no_escape(at, inside[index])
            character = _ESCAPES[inside[index]]
        yield character, column
        index += 1
