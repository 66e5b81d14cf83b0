"""The edits, one file each: the file's name is the edit's key in a recipe."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from imagebuilder.edits.edit import Edit


@cache
def all_edits() -> Mapping[str, type[Edit]]:
    """Every edit by its name in recipes: the class that each file in this folder defines."""
    found: dict[str, type[Edit]] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name == "edit":
            continue
        contents = vars(importlib.import_module(f"{__name__}.{module.name}"))
        [found[module.name]] = [
            value
            for value in contents.values()
            if isinstance(value, type) and issubclass(value, Edit) and value.__module__.endswith(f".{module.name}")
        ]
    return MappingProxyType(found)
