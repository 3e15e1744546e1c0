"""aweigh.export: a trained checkpoint as one ONNX file or TensorRT engine, with the proof that it does the same."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aweigh.export.engine.options import EngineOptions
    from aweigh.export.jobs.engine import build_engine
    from aweigh.export.jobs.export import export
    from aweigh.export.jobs.options import ExportOptions, VerifyOptions
    from aweigh.export.jobs.verify import verify
    from aweigh.export.proof.receipt import Receipt

__all__ = [
    "EngineOptions",
    "ExportOptions",
    "Receipt",
    "VerifyOptions",
    "build_engine",
    "export",
    "verify",
]

# Loaded on first use: the command line imports this package, and an engine is built from an ONNX file without torch.
_ON_FIRST_USE = {
    "EngineOptions": "aweigh.export.engine.options",
    "ExportOptions": "aweigh.export.jobs.options",
    "Receipt": "aweigh.export.proof.receipt",
    "VerifyOptions": "aweigh.export.jobs.options",
    "build_engine": "aweigh.export.jobs.engine",
    "export": "aweigh.export.jobs.export",
    "verify": "aweigh.export.jobs.verify",
}


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(import_module(_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
