"""aweigh.runtime: run exported detectors, without torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aweigh.runtime.errors import AweighError, BadInput, CannotRun, CheckFailed
from aweigh.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from aweigh.runtime.detector import Detector
    from aweigh.runtime.results.detections import Detections
    from aweigh.runtime.views.augmented import Augmented
    from aweigh.runtime.views.sliced import Sliced

__all__ = [
    "Augmented",
    "AweighError",
    "BadInput",
    "CannotRun",
    "CheckFailed",
    "Detections",
    "Detector",
    "ModelSpec",
    "Sliced",
]

# Loaded on first use: training and the command line import this package for its errors and spec alone, and OpenCV
# costs a tenth of a second.
_ON_FIRST_USE = {
    "Augmented": "aweigh.runtime.views.augmented",
    "Detections": "aweigh.runtime.results.detections",
    "Detector": "aweigh.runtime.detector",
    "Sliced": "aweigh.runtime.views.sliced",
}


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(import_module(_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
