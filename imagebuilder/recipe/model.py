"""Turns the values of a YAML file into a pydantic model, with every fault named at its place."""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar, Union

from pydantic import BaseModel, ConfigDict, StrictBool, StrictInt, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from imagebuilder.errors import Fault
from imagebuilder.recipe.source import Keys, Source, printable

Integer = StrictInt
Boolean = StrictBool


class Strict(BaseModel):
    """What every part of a recipe is: frozen, and without a key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


ModelT = TypeVar("ModelT", bound=BaseModel)


def refuse(what: str, fix: str | None = None) -> PydanticCustomError:
    """The error to raise in a validator: what is wrong and how to mend it; never quote a secret in it."""
    return PydanticCustomError("refused", "{what}", {"what": what, "fix": fix})


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean '…'?` with the known word nearest to `word`, or nothing if none is near."""
    by_folded = {name.casefold(): name for name in sorted(known)}
    match difflib.get_close_matches(word.casefold(), by_folded, n=1):
        case [found]:
            return f" Did you mean '{by_folded[found]}'?"
        case _:
            return ""


def validate_source(source: Source, model: type[ModelT]) -> tuple[ModelT | None, list[Fault]]:
    """`source` as a `model`, and all its faults.

    With faults, the model is what remains when each faulty value is left out: enough to look for faults of
    meaning in the rest. It is None if nothing remains.
    """
    faults: list[Fault] = []
    value = source.value
    while True:
        try:
            return model.model_validate(value), faults
        except ValidationError as error:
            details = error.errors(include_url=False)
        if not faults:  # pydantic finds all at once; later rounds only miss what was left out
            # The first half of what Secret accepts; a person can only write the second, text.
            meant = [detail for detail in details if detail["type"] != "is_instance_of"]
            faults = list(dict.fromkeys(_fault(source, model, detail) for detail in meant))
        pruned = value
        for detail in reversed(details):
            pruned = _without(pruned, _present(value, detail))
        if pruned is None or pruned == value:
            return None, faults
        value = pruned


def _present(value: object, detail: ErrorDetails) -> Keys:
    """The innermost position of the error that exists in the file; for a missing key its container."""
    keys: list[str | int] = []
    for key in detail["loc"]:
        match value, key:
            case dict(), str() if key in value:
                value = value[key]
            case list(), int() if key < len(value):
                value = value[key]
            case _:
                break
        keys.append(key)
    return tuple(keys)


def _without(value: object, keys: Keys) -> object:
    if not keys:
        return None
    if isinstance(value, Mapping):
        if keys[0] not in value:
            return value
        inner = _without(value[keys[0]], keys[1:])
        rest = {key: kept for key, kept in value.items() if key != keys[0]}
        return rest if inner is None else {**rest, keys[0]: inner}
    if isinstance(value, list) and isinstance(keys[0], int) and keys[0] < len(value):
        inner = _without(value[keys[0]], keys[1:])
        return [*value[: keys[0]], *([] if inner is None else [inner]), *value[keys[0] + 1 :]]
    return value


def _fault(source: Source, model: type[BaseModel], detail: ErrorDetails) -> Fault:
    keys = _present(source.value, detail)
    context = detail.get("ctx", {})
    about_key = detail["loc"][-1:] == ("[key]",)
    place = source.place_of_key(keys) if about_key else source.place_of(keys)
    fix: str | None
    match detail["type"]:
        case "missing":
            missing = detail["loc"][-1]
            within = f" in {_name_of(keys, source)}" if keys else ""
            what, fix = f"'{missing}' is missing{within}", f"add a line `{missing}: …`"
            place = source.place_of_key(keys)
        case "extra_forbidden":
            name, known = str(keys[-1]), _fields_at(model, keys[:-1])
            what = f"unknown key '{name}'.{nearest(name, known)}"
            fix = f"use one of {', '.join(known)}" if known else "remove it"
            place = source.place_of_key(keys)
        case "literal_error":
            given = detail["input"] if isinstance(detail["input"], str) else ""
            known = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
            wrong = f"unknown key '{given}'" if about_key else f"{_name_of(keys, source)} cannot have this value"
            what, fix = f"{wrong}.{nearest(given, known)}", f"use one of {', '.join(known)}"
        case "refused":
            what, fix = context["what"], context["fix"]
            what = what if about_key else f"{_name_of(keys, source)}: {what}"
        case _:
            expected, fix = _in_words(detail)
            what = f"{_name_of(keys, source)}: {expected}"
    return Fault(place=place, what=printable(what), fix=fix and printable(fix))


def _name_of(keys: Keys, source: Source) -> str:
    """What a person calls the value at `keys`."""
    match keys:
        case ():
            return str(source.path.name)
        case (*_, str(parent), int(index)):
            return f"item {index + 1} of '{parent}'"
        case _:
            return f"'{keys[-1]}'"


_MAPPING = ("expected `key: value` lines", "write a line for each key, or {} for none")
_LIST = ("expected a list", "write [a, b], or a line that begins with '- ' for each")
# The value itself is never shown: it may be a clear password.
_EXPECTED: Mapping[str, tuple[str, str | None]] = {
    "string_type": ("expected text", "put the value in quotes"),
    "string_too_short": ("expected text, but there is none", None),
    "int_type": ("expected a whole number", "write digits only, without quotes"),
    "bool_type": ("expected true or false", "write one of the two, without quotes"),
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "tuple_type": _LIST,
    "list_type": _LIST,
}


def _in_words(detail: ErrorDetails) -> tuple[str, str | None]:
    """What was expected, and the fix."""
    context = detail.get("ctx", {})
    match detail["type"]:
        case "greater_than_equal":
            return f"expected {context['ge']} or more", None
        case "less_than_equal":
            return f"expected {context['le']} or less", None
        case "string_type" if isinstance(detail["input"], Mapping | list):
            return "expected text", "write one text, without brackets and without further keys"
        case "string_type" if detail["input"] is None:
            return "expected text, but there is none", "write a value behind the colon, or remove the line"
        case known if known in _EXPECTED:
            return _EXPECTED[known]
        case _:
            return f"expected {detail['msg'].removeprefix('Input should be ')}", None


def _fields_at(model: object, keys: Keys) -> list[str]:
    """The keys that the model allows at `keys`, in its own order."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
        if not keys:
            return list(fields)
        return _fields_at(fields.get(str(keys[0])), keys[1:])
    origin, arguments = typing.get_origin(model), typing.get_args(model)
    if origin is Annotated:
        return _fields_at(arguments[0], keys)
    if origin in (Union, types.UnionType):
        return [name for option in arguments for name in _fields_at(option, keys)]
    if arguments and keys:  # dict[str, X], tuple[X, ...], list[X]
        inner = arguments[1] if origin is dict or (origin and issubclass(origin, Mapping)) else arguments[0]
        return _fields_at(inner, keys[1:])
    return []
