"""YAML documents of settings: read, where whatever is wrong is a BadInput."""

from __future__ import annotations

import math
from typing import Any

import yaml

from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import shown

_DEEPEST = 20  # of lists and mappings within each other; a recipe has two levels
# What PyYAML raises on documents that are none: its own errors, and those of the constructors, as for !!int abc.
_ERRORS = (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)


class _Loader(yaml.SafeLoader):
    """Plain values only. No aliases: a few lines of them stand for gigabytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._levels = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias; write the value out")
        if self._levels > _DEEPEST:
            raise yaml.YAMLError(f"more than {_DEEPEST} levels")
        self._levels += 1
        node = super().compose_node(parent, index)
        self._levels -= 1
        return node


def parse_yaml(data: bytes, where: str) -> Any:
    """The values of a YAML document: mappings, lists, numbers, truth values, text.

    Args:
        data: the document, in UTF-8 or UTF-16.
        where: begins every error message: the file, or what is being read.

    Raises:
        BadInput: no YAML, several documents, aliases, tags of other types, more than 20 levels, NaN or infinity.

    Example:
        >>> parse_yaml(b"epochs: 3", "recipe.yaml")
        {'epochs': 3}
    """
    try:
        loader = _Loader(data)
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
    except _ERRORS as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInput(f"{where}: not YAML that can be read here ({reason})") from error
    require_plain(value, where)
    return value


def require_plain(value: Any, where: str) -> None:
    """Raises BadInput for what is no value of a setting: a number that is not finite, a date, a tensor.

    Example:
        >>> require_plain({"steps": [0.5, float("nan")]}, "recipe.yaml")
        Traceback (most recent call last):
        aweigh.runtime.errors.BadInput: recipe.yaml: got nan, expected plain values with finite numbers
    """
    if isinstance(value, dict):
        for key, item in value.items():
            require_plain(key, where)
            require_plain(item, where)
    elif isinstance(value, list):
        for item in value:
            require_plain(item, where)
    elif not isinstance(value, (str, int, float, type(None))) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise BadInput(f"{where}: got {shown(value)}, expected plain values with finite numbers")
