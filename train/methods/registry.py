"""The registry of methods: one line each, and nothing imported before it is used.

The command line reads names from here without torch; a method's class, with its title, flags and constants, is
imported by :func:`method_class`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import build

if TYPE_CHECKING:
    from aweigh.train.methods.base import Method

# Name on the command line and in checkpoints -> module and class.
METHODS: dict[str, str] = {
    "fcos": "aweigh.train.methods.fcos:FCOS",
    "dw": "aweigh.train.methods.dw:DW",
    "o2f": "aweigh.train.methods.o2f:O2F",
    "autoassign": "aweigh.train.methods.autoassign:AutoAssign",
    "paa": "aweigh.train.methods.paa:PAA",
    "ala": "aweigh.train.methods.ala:ALA",
}


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        BadInput: a name that is not in ``METHODS``.

    Example:
        >>> method_class("paa").third_output
        'predicted IoU'
    """
    if name not in METHODS:
        raise BadInput(f"--method {name!r}: expected one of {', '.join(METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    chosen: type[Method] = getattr(import_module(module), attribute)
    return chosen


def make_method(name: str, num_classes: int, options: dict[str, Any] | None = None) -> Method:
    """A method with fresh parameters.

    Args:
        name: a key of ``METHODS``.
        num_classes: C, at least 1.
        options: fields of the method's config that differ from its defaults, such as ``{"boundary": "d"}`` for PAA.

    Raises:
        BadInput: an unknown name or field, or a value of the wrong type.

    Example:
        >>> make_method("o2f", num_classes=3, options={"radius": 2}).config.radius
        2.0
        >>> make_method("paa", 3, {"boundary": "z"})
        Traceback (most recent call last):
        aweigh.runtime.errors.BadInput: method paa: boundary: got 'z', expected one of b, c, d
    """
    chosen = method_class(name)
    return chosen(num_classes, build(chosen.config_class, options or {}, f"method {name}", coerce=True, noun="options"))
