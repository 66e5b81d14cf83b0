"""What can be wrong in the grammar of an xl configuration, in words, and how to mend it."""

from dataclasses import dataclass

IN_EACH_LINE = "the line ends in CR LF, as in DOS"


@dataclass(frozen=True, kw_only=True)
class Token:
    """One word of the language, at its place."""

    kind: str
    text: str
    line: int
    column: int


class XlSyntaxError(Exception):
    """What xl's grammar has no place for, and where."""

    def __init__(self, token: Token, what: str, fix: str) -> None:
        super().__init__(what)
        self.token, self.what, self.fix = token, what, fix


def no_escape(at: Token, character: str) -> XlSyntaxError:
    """A backslash before a character that means nothing, or nothing that xl keeps."""
    if character == "x" or character in "01234567":
        # libxlu_cfg.c, xlu__cfgl_dequote: NUMERIC_CHAR reads the number and stores nothing.
        return XlSyntaxError(
            at, f"xl loses a character that is written as '\\{character}…'", "write the character itself"
        )
    return XlSyntaxError(at, f"'\\{character}' stands for nothing", "write \\\\ for a backslash")


def no_key(token: Token) -> XlSyntaxError:
    """A setting begins with something else than a key."""
    match token.kind, token.text:
        case "wrong", "\r":
            return _carriage_return(token)
        case "wrong", "\ufeff":
            return XlSyntaxError(token, "a byte order mark", "save the file as UTF-8 without one")
        case "wrong", "#":
            return _comment_without_end(token)
        case "wrong", text if "A" <= text <= "Z":
            return XlSyntaxError(token, f"a key cannot begin with '{text}'", "write keys in small letters")
        case _:
            return XlSyntaxError(
                token, f"expected `key = value`, but here is '{token.text}'", "write one setting a line"
            )


def no_operator(key: Token, token: Token) -> XlSyntaxError:
    """A key without = behind it."""
    match token.kind, token.text:
        case "wrong", "\r":
            return _carriage_return(token)
        case (("newline" | "end"), _):
            return XlSyntaxError(key, f"'{key.text}' has no value", f"write `{key.text} = …` on one line")
        case "wrong", text if text.isalnum() or text in "-.":
            what = f"'{text}' cannot be in a key"
            return XlSyntaxError(token, what, "write keys with small letters, digits and _ only")
        case _:
            return XlSyntaxError(
                token, f"expected = behind '{key.text}', but here is '{token.text}'", "write `key = value`"
            )


def no_value(before: Token, token: Token) -> XlSyntaxError:
    """Something else stands where a value should."""
    match token.kind, token.text:
        case "wrong", "\r":
            return _carriage_return(token)
        case (("newline" | "end"), _):
            return XlSyntaxError(before, "there is no value behind this", "write the value on the same line")
        case "wrong", ("'" | '"' as mark):
            return XlSyntaxError(token, "this text is not closed", f"write {mark} at its end, on the same line")
        case "word", word:
            return XlSyntaxError(token, f"'{word}' stands without quotes", f'write "{word}", or 1 and 0 for yes and no')
        case "wrong", ("-" | "+" | "."):
            what = "a number begins with a digit"
            return XlSyntaxError(token, what, 'write digits only, or a text in quotes such as "-1"')
        case _:
            what = f"expected a value, but here is '{token.text}'"
            return XlSyntaxError(token, what, "write a number, a text in quotes, or a list in [ ]")


def no_comma(token: Token) -> XlSyntaxError:
    """Two items of a list without a comma between them."""
    match token.kind, token.text:
        case "wrong", "\r":
            return _carriage_return(token)
        case "wrong", "#":
            return _comment_without_end(token)
        case "word", _:
            return XlSyntaxError(token, "expected , or ] here", "close the list with ] before the next setting")
        case "string", text:
            return XlSyntaxError(token, f"expected , or ] here, not {text}", "write a comma between two items")
        case _:
            return XlSyntaxError(token, f"expected , or ] here, not '{token.text}'", "write a comma between two items")


def more_than_a_value(token: Token) -> XlSyntaxError:
    """Something stands between a value and the end of its line."""
    match token.kind, token.text:
        case "wrong", "\r":
            return _carriage_return(token)
        case "wrong", "#":
            return _comment_without_end(token)
        case "word", word:
            what = f"'{word}' stands behind a value"
            return XlSyntaxError(token, what, "begin a new line for each setting, and put text in quotes")
        case "string", text:
            return XlSyntaxError(token, f"{text} stands behind a value", "write one value, or a list in [ ]")
        case _:
            return XlSyntaxError(token, f"'{token.text}' stands behind a value", "write one value, or a list in [ ]")


def _carriage_return(token: Token) -> XlSyntaxError:
    return XlSyntaxError(token, IN_EACH_LINE, "take them out with `sed -i 's/\\r$//' FILE`")


def _comment_without_end(token: Token) -> XlSyntaxError:
    return XlSyntaxError(token, "a comment on the last line, which has no end", "end the file with a line break")
