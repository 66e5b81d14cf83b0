"""Turns the values of a YAML file into a pydantic model, with every fault named at its place."""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar, Union

from pydantic import BaseModel, ConfigDict, StrictBool, StrictInt, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from imagebuilder.errors import Fault
from imagebuilder.recipe.source import Keys, Source

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
    match difflib.get_close_matches(word, sorted(known), n=1):
        case [found]:
            return f" Did you mean '{found}'?"
        case _:
            return ""


def validate_source(source: Source, model: type[ModelT]) -> tuple[ModelT | None, list[Fault]]:
    """`source` as a `model`, and all its faults.

    With faults, the model is what remains when each faulty value is left out: enough to look for faults of
    meaning in the rest. It is None if nothing remains.
    """
    faults: dict[Fault, None] = {}
    value = source.value
    while True:
        try:
            return model.model_validate(value), list(faults)
        except ValidationError as error:
            details = error.errors(include_url=False)
        for detail in details:
            fault = _fault(source, model, detail)
            faults.setdefault(fault)
        pruned = value
        for detail in reversed(details):
            pruned = _without(pruned, _present(value, detail))
        if pruned is None or pruned == value:
            return None, list(faults)
        value = pruned


def _present(value: object, detail: ErrorDetails) -> Keys:
    """The innermost position of the error that exists in the file; for a missing key its container."""
    keys: list[str | int] = []
    for key in detail["loc"]:
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
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
    keys = tuple(key for key in detail["loc"] if key != "[key]")
    name = str(keys[-1]) if keys else str(source.path.name)
    context = detail.get("ctx", {})
    fix: str | None = None
    place = source.place_of_key(keys) if detail["loc"][-1:] == ("[key]",) else source.place_of(keys)
    match detail["type"]:
        case "missing":
            container = ".".join(map(str, keys[:-1]))
            within = f" in '{container}'" if container else ""
            what, fix = f"'{name}' is missing{within}", f"add a line `{name}: …`"
            place = source.place_of_key(keys[:-1])
        case "extra_forbidden":
            known = _fields_at(model, keys[:-1])
            what = f"unknown key '{name}'.{nearest(name, known)}"
            fix = f"use one of {', '.join(known)}" if known else "remove it"
            place = source.place_of_key(keys)
        case "literal_error":
            given = detail["input"] if isinstance(detail["input"], str) else ""
            known = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
            what = f"'{name}' must be {context['expected']}.{nearest(given, known)}"
        case "refused":
            what, fix = f"'{name}': {context['what']}", context["fix"]
        case _:
            what = f"'{name}': {_in_words(detail)}"
    return Fault(place=place, what=what, fix=fix)


_EXPECTED = {
    "string_type": "expected text; put the value in quotes",
    "int_type": "expected a whole number, without quotes",
    "bool_type": "expected true or false",
    "dict_type": "expected a mapping (`key: value` lines)",
    "model_type": "expected a mapping (`key: value` lines)",
    "model_attributes_type": "expected a mapping (`key: value` lines)",
    "tuple_type": "expected a list (`- item` lines or [a, b])",
    "list_type": "expected a list (`- item` lines or [a, b])",
}


def _in_words(detail: ErrorDetails) -> str:
    if words := _EXPECTED.get(detail["type"]):
        return words
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return message if message != detail["msg"] and "error" in detail["type"] else f"expected {message}"


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
