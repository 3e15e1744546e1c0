"""aweigh.runtime: run exported detectors, without torch.

Open a file with ``Detector`` and call it with images. ``Sliced`` and ``Augmented`` look at each image several times.
``predict_sources``, ``bench_models``, ``compare_models`` and ``inspect_model`` are what the command line calls.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aweigh.runtime.errors import AweighError, BadInput, CannotRun, CheckFailed
from aweigh.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from aweigh.runtime.bench.plan import BenchPlan
    from aweigh.runtime.bench.run import bench_models
    from aweigh.runtime.compare.comparison import compare_models
    from aweigh.runtime.detector import Detector
    from aweigh.runtime.files.fetch import fetch_model
    from aweigh.runtime.inspection import inspect_model
    from aweigh.runtime.opening import OpenOptions
    from aweigh.runtime.predict.plan import PredictEvents, PredictPlan
    from aweigh.runtime.predict.run import predict_sources
    from aweigh.runtime.results.detections import Detections
    from aweigh.runtime.views.augmented import Augmented
    from aweigh.runtime.views.options import ViewOptions
    from aweigh.runtime.views.sliced import Sliced

    __version__: str

__all__ = [
    "Augmented",
    "AweighError",
    "BadInput",
    "BenchPlan",
    "CannotRun",
    "CheckFailed",
    "Detections",
    "Detector",
    "ModelSpec",
    "OpenOptions",
    "PredictEvents",
    "PredictPlan",
    "Sliced",
    "ViewOptions",
    "bench_models",
    "compare_models",
    "fetch_model",
    "inspect_model",
    "predict_sources",
]

# Imported on first use: training and the command line import this package only for its errors and its spec, and OpenCV
# costs a tenth of a second.
_ON_FIRST_USE = {
    "Augmented": "aweigh.runtime.views.augmented",
    "BenchPlan": "aweigh.runtime.bench.plan",
    "Detections": "aweigh.runtime.results.detections",
    "Detector": "aweigh.runtime.detector",
    "OpenOptions": "aweigh.runtime.opening",
    "PredictEvents": "aweigh.runtime.predict.plan",
    "PredictPlan": "aweigh.runtime.predict.plan",
    "Sliced": "aweigh.runtime.views.sliced",
    "ViewOptions": "aweigh.runtime.views.options",
    "bench_models": "aweigh.runtime.bench.run",
    "compare_models": "aweigh.runtime.compare.comparison",
    "fetch_model": "aweigh.runtime.files.fetch",
    "inspect_model": "aweigh.runtime.inspection",
    "predict_sources": "aweigh.runtime.predict.run",
}


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(import_module(_ON_FIRST_USE[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("aweigh")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
