"""Fills in the templates of overlays. A missing value is a fault at its line and column, never an empty text."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import jinja2
import jinja2.meta

from imagebuilder.errors import Fault, Place
from imagebuilder.recipe.model import Strict, nearest
from imagebuilder.recipe.source import printable


class _NoValue(jinja2.StrictUndefined):
    """Stands for a variable or attribute that is not there: any use of it is an error that tells what there is."""

    @property
    def _undefined_message(self) -> str:
        """The error's text, for which Jinja asks: what is missing and, on a second line, the fix."""
        name, owner = self._undefined_name, self._undefined_obj
        if owner is None:
            fix = "ask first with {% if … %}: 'host', for one, is empty in the image that all workers share"
            return f"there is no '{name}' here, as what stands before it is empty\n{fix}"
        if not isinstance(name, str) or owner is jinja2.utils.missing:
            return super()._undefined_message
        known = sorted(_names_in(owner))
        fix = f"use one of {', '.join(known)}" if known else "remove it"
        return f"there is no '{name}' in this {type(owner).__name__}.{nearest(name, known)}\n{fix}"


def _names_in(owner: object) -> Iterator[str]:
    """What a template can ask of `owner`."""
    match owner:
        case Strict():
            yield from type(owner).model_fields
        case Mapping():
            yield from map(str, owner)
        case _:
            properties = [name for name, value in vars(type(owner)).items() if isinstance(value, property)]
            names = (*getattr(owner, "__dict__", ()), *properties)
            yield from (name for name in names if not name.startswith("_"))


_ENVIRONMENT = jinja2.Environment(
    undefined=_NoValue,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - configuration files, not HTML
)
_TAG = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)
_TAG_BEGINS = re.compile(r"\{[{%#]")
_QUOTED = re.compile(r"'([^']+)'")
# What an expression can raise beside a missing value, such as `{{ 1 / 0 }}` or `{{ [].pop() }}`.
_EXPRESSION_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def render_template(content: bytes, path: Path, variables: Mapping[str, object]) -> tuple[bytes, list[Fault]]:
    """The template filled in with `variables`, and what is wrong in it; `path` is where a person finds it."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        place = Place(path=path, line=before.count("\n") + 1, column=len(before) - before.rfind("\n"))
        return b"", [Fault(place=place, what="is not UTF-8 text", fix="save it as UTF-8")]
    try:
        return _compile(text).render(variables).encode(), []
    except jinja2.TemplateSyntaxError as error:
        place = _place(path, text, error.lineno, *_quoted_in(str(error.message)))
        fix = "write {{ value }}, {% if … %} … {% endif %} or {% for … in … %} … {% endfor %}"
        return b"", [Fault(place=place, what=f"is no valid template: {printable(str(error.message))}", fix=fix)]
    except _EXPRESSION_ERRORS as error:
        faults = list(_missing_variables(path, text, variables))
        if isinstance(error, jinja2.UndefinedError) and error.message is not None and "\n" in error.message:
            what, _, fix = error.message.partition("\n")
            place = _place(path, text, _template_line(error), *_quoted_in(what.partition(". ")[0]))
            faults.append(Fault(place=place, what=what, fix=fix))
        elif not faults:
            place = _place(path, text, _template_line(error), *_quoted_in(str(error)))
            faults.append(Fault(place=place, what=f"cannot be filled in: {printable(str(error))}"))
        return b"", faults


@cache
def _compile(text: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(text)


def _template_line(error: BaseException) -> int:
    """The line of the template that raised `error`: Jinja gives the frame the template's own line numbers."""
    line, frame = 1, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == "<template>":
            line = frame.tb_lineno
        frame = frame.tb_next
    return line


def _missing_variables(path: Path, text: str, variables: Mapping[str, object]) -> Iterator[Fault]:
    """Every variable in the template without a value, unless the template asks whether it has one."""
    tree = _ENVIRONMENT.parse(text)
    missing = jinja2.meta.find_undeclared_variables(tree) - variables.keys() - _ENVIRONMENT.globals.keys()
    asking = [*tree.find_all(jinja2.nodes.Test), *tree.find_all(jinja2.nodes.Filter)]
    asked = [one.node for one in asking if one.name in {"defined", "undefined", "default", "d"}]
    for node in tree.find_all(jinja2.nodes.Name):
        if node.ctx == "load" and node.name in missing and not any(node is one for one in asked):
            what = f"the variable '{node.name}' has no value.{nearest(node.name, variables)}"
            fix = f"use one of {', '.join(sorted(variables))}" if variables else "this overlay has no variables"
            fix += "; for an overlay of your own, set it under `variables:` of the role"
            place = _place(path, text, node.lineno, rf"(?<![\w.]){node.name}(?!\w)")
            yield Fault(place=place, what=what, fix=fix)


def _quoted_in(message: str) -> Iterator[str]:
    """Patterns for the words that Jinja's message quotes; the last is the one that it complains about."""
    for word in reversed(_QUOTED.findall(message)):
        yield rf"(?<!\w){re.escape(word)}(?!\w)"


def _place(path: Path, text: str, line: int, *patterns: str) -> Place:
    """Where the first pattern that matches inside a tag does so in `line`; else where a tag begins there."""
    lines = text.removesuffix("\n").split("\n")
    line = min(line, len(lines))
    before = sum(len(one) + 1 for one in lines[: line - 1])
    tags = [found.span() for found in _TAG.finditer(text)]
    for pattern in patterns:
        for found in re.finditer(pattern, lines[line - 1]):
            if any(first <= before + found.start() < last for first, last in tags):
                return Place(path=path, line=line, column=found.start() + 1)
    begins = _TAG_BEGINS.search(lines[line - 1])
    return Place(path=path, line=line, column=begins.start() + 1 if begins else 1)
