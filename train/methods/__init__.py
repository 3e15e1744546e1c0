"""Label-assignment methods. METHODS is the only registry."""

from __future__ import annotations

from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import build
from aweigh.train.methods.ala import ALA, ALAConfig
from aweigh.train.methods.autoassign import AutoAssign, AutoAssignConfig
from aweigh.train.methods.base import Method, Predictions, Targets
from aweigh.train.methods.dw import DW, DWConfig
from aweigh.train.methods.fcos import FCOS, FCOSConfig
from aweigh.train.methods.o2f import O2F, O2FConfig
from aweigh.train.methods.paa import PAA, PAAConfig

METHODS: dict[str, tuple[type[Method], type]] = {
    "fcos": (FCOS, FCOSConfig),
    "dw": (DW, DWConfig),
    "o2f": (O2F, O2FConfig),
    "autoassign": (AutoAssign, AutoAssignConfig),
    "paa": (PAA, PAAConfig),
    "ala": (ALA, ALAConfig),
}


def make_method(name: str, num_classes: int, options: dict[str, Any] | None = None) -> Method:
    """A method by name; ``options`` are fields of its config.

    Raises:
        BadInput: an unknown name or field, or a value of the wrong kind.
    """
    if name not in METHODS:
        raise BadInput(f"--method {name!r}: expected one of {', '.join(METHODS)}")
    method, config = METHODS[name]
    return method(num_classes, build(config, options or {}, f"method {name}", coerce=True, noun="options"))


__all__ = ["METHODS", "Method", "Predictions", "Targets", "make_method"]
