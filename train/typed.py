"""Values that users write in recipes, checked against the annotations of the dataclasses they are for."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from aweigh.runtime.errors import BadInput


def typed(annotation: Any, value: Any, where: str) -> Any:
    """A value from YAML as its annotation wants it: Literal, tuple, dict, optional, bool, str or a number.

    Args:
        where: named in the error.

    Raises:
        BadInput: a value of another kind.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        if value not in args:
            raise BadInput(f"{where}: got {value!r}, expected one of {', '.join(args)}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or (args[-1] is not ... and len(value) != len(args)):
            return _no(annotation, value, where)
        return tuple(typed(args[0], item, where) for item in value)
    if origin is dict:
        return dict(value) if isinstance(value, dict) else _no(annotation, value, where)
    if type(None) in args:
        return None if value is None else typed(args[0], value, where)
    if annotation is bool:
        return value if isinstance(value, bool) else _no(annotation, value, where)
    if isinstance(value, bool):  # a number to Python
        return _no(annotation, value, where)
    if annotation is str:
        return str(value)
    try:
        number = annotation(value)
    except (TypeError, ValueError):
        return _no(annotation, value, where)
    return number if float(number) == float(value) else _no(annotation, value, where)


def _no(annotation: Any, value: Any, where: str) -> Any:
    raise BadInput(
        f"{where}: got {value!r}, expected {annotation.__name__ if isinstance(annotation, type) else annotation}"
    )
