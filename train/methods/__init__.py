"""Label-assignment methods. METHODS is the only registry."""

from __future__ import annotations

import dataclasses
from typing import Any

from aweigh.runtime.errors import BadInput
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
    """A method by name; ``options`` are fields of its config. Raises BadInput for unknown names and fields."""
    if name not in METHODS:
        raise BadInput(f"--method {name!r}: expected one of {', '.join(METHODS)}")
    method, config = METHODS[name]
    known = {f.name: f for f in dataclasses.fields(config)}
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise BadInput(f"method {name}: unknown options {unknown}; it has {', '.join(known)}")
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in (options or {}).items()}
    return method(num_classes, config(**values))


__all__ = ["METHODS", "Method", "Predictions", "Targets", "make_method"]
