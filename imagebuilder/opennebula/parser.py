"""Reads the text of a template, as OpenNebula's own grammar does, but says where and why it does not.

OpenNebula stops at the first error, with a line and the columns of a whole token; some mistakes it does not see at
all, for its scanner passes over what it does not know. Those are faults here as well, each with the reason.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from imagebuilder.errors import Fault, Place
from imagebuilder.opennebula.template import Attribute, Dialect, Pair, Template, Value, Vector

_NAME = re.compile(r"[A-Za-z0-9_]+")
_BLANK = re.compile(r"[ \t]*")
_WORD = re.compile(r"[^=#\s,\[\]]+")
_BARE = re.compile(r"[^=# \t\n,\[\]]+")  # STRING in template_parser.l: a quote in its midst is a character like others
_SPACE = re.compile(r"(?:[ \t\n]|#[^\n]*\n)*")  # a comment without a line end is none
_EQUALS = re.compile(r"(?:[ \t\n]|#[^\n]*\n)*=")  # which may stand in a later line than the name
_NEXT_ATTRIBUTE = re.compile(r"^[ \t]*[A-Za-z0-9_]+[ \t]*=", re.MULTILINE)
_NEXT_VECTOR = re.compile(r"^[ \t]*[A-Za-z0-9_]+[ \t]*=[ \t]*\[|\]", re.MULTILINE)
_LINE_END = re.compile(r"[ \t]*(#[^\n]*)?\n")


def parse_template(text: str, path: Path, dialect: Dialect = "today") -> tuple[Template, tuple[Fault, ...]]:
    """The template that `text` is, without its comments, and all that is wrong with it as a template.

    With faults, the template has what could be read.
    """
    reader = _Reader(text=text, path=path, dialect=dialect)
    attributes = reader.read()
    return Template(attributes=tuple(attributes)), tuple(reader.faults)


class _RefusedError(Exception):
    def __init__(self, position: int, what: str, fix: str, *, resume: int | None = None) -> None:
        super().__init__(what)
        self.position = position
        self.what = what
        self.fix = fix
        self.resume = resume


@dataclass(kw_only=True)
class _Reader:
    text: str
    path: Path
    dialect: Dialect
    at: int = 0
    in_vector: bool = False
    faults: list[Fault] = field(default_factory=list)

    def read(self) -> list[Attribute]:
        attributes: list[Attribute] = []
        if (end := self.text.find("\r")) >= 0:
            what = "a carriage return: OpenNebula takes it, and the quotes before it, for a part of the value"
            self._note(end, what, "save the file with Unix line ends")
            self.text = self.text.replace("\r", " ")
        while True:
            try:
                self._skip_space()
                if self.at == len(self.text):
                    return attributes
                self.in_vector = False
                attributes.append(self._attribute())
            except _RefusedError as fault:
                self._note(fault.position, fault.what, fault.fix)
                self._resume(fault)

    def _attribute(self) -> Attribute:
        start = self.at
        name = self._name_and_equals()
        place = self._place(start)
        attribute: Attribute
        if self._next() == "[":
            attribute = Vector(name=name, pairs=self._pairs(), place=place)
        elif not self._next():
            self._refuse(f"nothing follows '{name} =', not even the line's end", "write a value, or end the line")
        elif self._next() == "\n":
            attribute = Pair(name=name, value=Value(text="", place=self._place(self.at)), place=place)
        else:
            attribute = Pair(name=name, value=self._value(), place=place)
        self._require_end()
        return attribute

    def _name_and_equals(self) -> str:
        start = self.at
        name = self._match(_NAME)
        if not name:
            self._refuse(f"'{self._next()}' cannot begin an attribute", "begin with its name: letters, digits and '_'")
        if self.dialect == "today" and (equals := _EQUALS.match(self.text, self.at)):
            self.at = equals.end() - 1
        self._match(_BLANK)
        match self._next():
            case "=":
                self.at += 1
                self._match(_BLANK)
            case "\n" | "" | "#":
                fix = f"write {name} = VALUE in one line; a value with blanks goes in quotes"
                self._refuse(f"there is no '=' behind '{name}'", fix, at=start)
            case "-" | "." | ":" | "/" as sign:
                self._refuse(f"'{sign}' cannot be in an attribute's name", "use letters, digits and '_'")
            case found:
                fix = f'write {name} = VALUE; put a value with blanks or any of = , # [ ] in quotes: "…"'
                self._refuse(f"expected '=' behind '{name}', found '{found}'", fix)
        return name

    def _pairs(self) -> tuple[Pair, ...]:
        opened = self.at
        self.in_vector = True
        self.at += 1
        pairs: list[Pair] = []
        while True:
            self._skip_space()
            if self._next() == "]":
                what = "a comma before ']'" if pairs else "a vector attribute without a value"
                self._refuse(what, "remove the comma" if pairs else "give it one, or remove it", resume=self.at + 1)
            if not self._next():
                self._refuse("'[' is not closed", "write ']' behind the last value", at=opened)
            pairs.append(self._pair())
            self._skip_space()
            match self._next():
                case ",":
                    self.at += 1
                case "]":
                    self.at += 1
                    self.in_vector = False
                    return tuple(pairs)
                case "":
                    self._refuse("'[' is not closed", "write ']' behind the last value", at=opened)
                case _:
                    self._refuse(
                        f"expected ',' or ']' behind the value of '{pairs[-1].name}'",
                        "separate values by commas, close the bracket behind the last, and put blanks in quotes",
                    )

    def _pair(self) -> Pair:
        start = self.at
        name = self._name_and_equals()
        if self._next() in ("\n", "", ",", "]"):
            self._refuse(f"'{name}' has no value", "write one in the same line, or leave the name out")
        return Pair(name=name, value=self._value(), place=self._place(start))

    def _value(self) -> Value:
        start = self.at
        quote = ""
        match self._next():
            case "#":
                self._refuse("OpenNebula takes a comment behind '=' for the value", "put it in a line of its own")
            case "[":
                self._refuse("a '[' inside of '[ ]'", "a vector attribute holds plain values only")
            case "=" | "," | "]" as sign:
                self._refuse(f"'{sign}' cannot begin a value", 'put the value in quotes: "…"')
            case '"' if self.dialect == "today":
                quote, text = '"', self._double_quoted()
            case '"' | "'" as quote if self.dialect == "classic":
                text = self._quoted_by(quote)
            case "'":
                fix = """use double quotes, and \\" for one inside: REQUIREMENTS = "HOSTNAME = \\"ec2\\"" """.rstrip()
                self._refuse("single quotes are a part of the value since OpenNebula 3.0", fix)
            case _:
                text = self._match(_BARE)
        if "]]>" in self.text[start : self._end_of_line(start)] and self.dialect == "today":
            self._refuse("']]>' cannot be in a template: OpenNebula keeps it as CDATA in XML", "leave it out", at=start)
        text = text.replace('\\"', '"') if self.dialect == "today" else text
        return Value(text=text, place=self._place(start), quote=quote)

    def _double_quoted(self) -> str:
        """The text up to the closing quote: the first without a backslash before it, else the last of all."""
        start = self.at + 1
        if (closing := re.compile(r'(?<!\\)"').search(self.text, start)) is not None:
            end = closing.start()
        elif (end := self.text.rfind('"', start)) < 0:
            self._refuse("the quote is not closed", "write '\"' behind the value")
        self._require_nothing_behind(start - 1, end)
        self.at = end + 1
        return self.text[start:end]

    def _quoted_by(self, quote: str) -> str:
        start = self.at + 1
        end = self.text.find(quote, start)
        if end < 0 or "\n" in self.text[start:end]:
            self._refuse("the quote is not closed in its line", f"write {quote} behind the value")
        self._require_nothing_behind(start - 1, end)
        self.at = end + 1
        return self.text[start:end]

    def _require_nothing_behind(self, opening: int, closing: int) -> None:
        if not _WORD.match(self.text, closing + 1):
            return
        if "\n" in self.text[opening:closing]:
            next_line = self._end_of_line(opening) + 1
            what = f"the quote is closed only in line {self._place(closing).line}, before other text"
            self._refuse(what, "close it behind the value", at=opening, resume=next_line)
        what = "text follows the closing quote: OpenNebula takes the quotes, too, for a part of the value"
        self._refuse(what, 'remove what is behind the quote; a quote inside is written \\"', at=closing + 1)

    def _require_end(self) -> None:
        """That nothing follows that is no attribute; in the classic dialect, that the line ends."""
        if _LINE_END.match(self.text, self.at):
            return
        self._match(_BLANK)
        if self.dialect == "classic":
            fix = "put a line break here" if self._next() else "end the last line, too"
            self._refuse("until OpenNebula 2.2 every attribute ends its line", fix)
        if self._next() and not _NAME.match(self.text, self.at) and self._next() != "#":
            self._refuse(
                f"'{self._next()}' stands behind the value", 'put a value with any of = , # [ ] in quotes: "…"'
            )

    def _skip_space(self) -> None:
        self._match(_SPACE)
        if self._next() == "#":
            position = self.at
            self.at = len(self.text)
            self._note(position, "a comment in a last line that does not end is read as text", "end the line")

    def _resume(self, fault: _RefusedError) -> None:
        """Go on where the next attribute seems to begin."""
        behind = max(fault.position, self.at)
        if fault.resume is not None:
            self.at = fault.resume
        elif self.in_vector and (found := _NEXT_VECTOR.search(self.text, self._before_blanks(behind))):
            self.at = found.end() if found[0] == "]" else found.start()
        elif not self.in_vector and (found := _NEXT_ATTRIBUTE.search(self.text, self._end_of_line(behind))):
            self.at = found.start()
        else:
            self.at = len(self.text)

    def _before_blanks(self, position: int) -> int:
        return len(self.text[:position].rstrip(" \t"))

    def _refuse(self, what: str, fix: str, *, at: int | None = None, resume: int | None = None) -> NoReturn:
        raise _RefusedError(self.at if at is None else at, what, fix, resume=resume)

    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]

    def _end_of_line(self, position: int) -> int:
        end = self.text.find("\n", position)
        return len(self.text) if end < 0 else end

    def _place(self, position: int) -> Place:
        line = self.text.count("\n", 0, position) + 1
        return Place(path=self.path, line=line, column=position - self.text.rfind("\n", 0, position))

    def _note(self, position: int, what: str, fix: str) -> None:
        self.faults.append(Fault(place=self._place(position), what=what, fix=fix))
