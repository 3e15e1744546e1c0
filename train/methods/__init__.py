"""Label-assignment methods. ``METHODS`` is the only registry; importing it imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aweigh.train.methods.registry import METHODS, make_method, method_class

if TYPE_CHECKING:
    from aweigh.train.methods.base import Method
    from aweigh.train.methods.values import Predictions, Targets

__all__ = ["METHODS", "Method", "Predictions", "Targets", "make_method", "method_class"]

_ON_FIRST_USE = {
    "Method": "aweigh.train.methods.base",
    "Predictions": "aweigh.train.methods.values",
    "Targets": "aweigh.train.methods.values",
}


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(import_module(_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
