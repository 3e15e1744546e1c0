"""Dataclasses from mappings: of parsed JSON, where every type must be exact, or of what a user wrote.

One builder for model specs, sidecars, training configurations, networks, methods and augmentation. A field's help text
stands next to it, in its metadata: ``field(default=8, metadata={"help": "images per step"})``; see :func:`help_texts`.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from aweigh.runtime.errors import BadInput

T = TypeVar("T")

_CUT = reprlib.Repr()
_CUT.maxlevel, _CUT.maxlong = 4, 40
_CUT.maxtuple = _CUT.maxlist = _CUT.maxdict = 12
_CUT.maxstring = _CUT.maxother = 120


def build(cls: type[T], values: object, where: str, *, coerce: bool = False, noun: str = "fields") -> T:
    """A dataclass from a mapping of its fields; nested dataclasses likewise.

    Args:
        cls: the dataclass.
        values: a dictionary.
        where: begins every error message: what is being read, such as ``model spec`` or ``method paa``.
        coerce: take what a user writes for a number (``3.0`` for 3, ``"8"`` for 8), as YAML and the command line give
            it. Without it a value must have the annotated type itself (an int is a float too).
        noun: what the fields are called in an error message.

    Raises:
        BadInput: no mapping, unknown or missing fields, or a value of another type.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Crop:
        ...     width: int
        ...     scale: float = 1.0
        >>> build(Crop, {"width": "64"}, "crop", coerce=True)
        Crop(width=64, scale=1.0)
        >>> build(Crop, {"width": 64, "depth": 2}, "crop")
        Traceback (most recent call last):
        aweigh.runtime.errors.BadInput: crop: unknown fields ['depth']; known are width, scale
    """
    if not isinstance(values, dict):
        raise BadInput(f"{where}: expected an object, got {shown(values)}")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(map(str, values)) - set(fields))
    if unknown:
        raise BadInput(f"{where}: unknown {noun} {shown(unknown)}; known are {', '.join(fields)}")
    missing = sorted(name for name, f in fields.items() if name not in values and _is_required(f))
    if missing:
        raise BadInput(f"{where}: missing {noun} {missing}")
    hints = get_type_hints(cls)
    separator = ": " if coerce else "."
    return cls(**{n: read_value(hints[n], v, f"{where}{separator}{n}", coerce=coerce) for n, v in values.items()})


def help_texts(cls: type) -> dict[str, str]:
    """The help text of every field of a dataclass, by name.

    Example:
        >>> @dataclasses.dataclass
        ... class Crop:
        ...     width: int = dataclasses.field(default=64, metadata={"help": "in pixels"})
        >>> help_texts(Crop)
        {'width': 'in pixels'}
    """
    return {f.name: f.metadata["help"] for f in dataclasses.fields(cls)}


def read_value(annotation: Any, value: Any, where: str, *, coerce: bool = False) -> Any:
    """A single value as its annotation demands it; see :func:`build` for the arguments.

    Raises:
        BadInput: a value of another type.

    Example:
        >>> read_value(tuple[float, ...], [1, 2], "steps")
        (1.0, 2.0)
    """
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return value if isinstance(value, annotation) else build(annotation, value, where, coerce=coerce)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        if value not in args or isinstance(value, bool) != any(isinstance(a, bool) for a in args):
            raise BadInput(f"{where}: got {shown(value)}, expected one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or (Ellipsis not in args and len(value) != len(args)):
            raise BadInput(
                f"{where}: got {shown(value)}, expected a list{'' if Ellipsis in args else f' of {len(args)}'}"
            )
        types = [args[0]] * len(value) if Ellipsis in args else list(args)
        items = enumerate(zip(types, value, strict=True))
        return tuple(read_value(t, item, f"{where}[{i}]", coerce=coerce) for i, (t, item) in items)
    if origin is Mapping:
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise BadInput(f"{where}: expected an object of strings, got {shown(value)}")
        return dict(value)
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(key, args[0]) for key in value):
            raise _unlike(annotation, value, where)
        if args[1] is Any:
            return dict(value)
        return {key: read_value(args[1], item, f"{where}[{key!r:.40}]", coerce=coerce) for key, item in value.items()}
    if origin is list:
        if not isinstance(value, list):
            raise _unlike(annotation, value, where)
        return [read_value(args[0], item, f"{where}[{i}]", coerce=coerce) for i, item in enumerate(value)]
    if type(None) in args:  # X | None
        return None if value is None else read_value(args[0], value, where, coerce=coerce)
    if isinstance(value, bool) != (annotation is bool):  # True is a number to Python
        raise _unlike(annotation, value, where)
    if annotation is float and isinstance(value, int):
        try:
            return float(value)
        except OverflowError as error:
            raise _unlike(annotation, value, where) from error
    if isinstance(value, annotation):
        return value
    if coerce:
        return _coerced(annotation, value, where)
    raise _unlike(annotation, value, where)


def shown(value: object) -> str:
    """A value for an error message, cut short: what a file holds may be large, or nested without end.

    Example:
        >>> shown([1, "two"])
        "[1, 'two']"
        >>> len(shown("x" * 10_000))
        120
    """
    return _CUT.repr(value)


def _coerced(annotation: Any, value: Any, where: str) -> Any:
    if annotation is str:
        return str(value)
    try:
        number = annotation(value)
        same = float(number) == float(value)
    except (TypeError, ValueError, OverflowError):
        same = False
    if not same:
        raise _unlike(annotation, value, where)
    return number


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _unlike(annotation: Any, value: Any, where: str) -> BadInput:
    expected = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else annotation
    return BadInput(f"{where}: got {shown(value)}, expected {expected}")
