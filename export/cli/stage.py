"""Whether the packages of this stage are installed, asked without loading them."""

from __future__ import annotations

from importlib.util import find_spec

_MODULES = ("torch", "lightning_fabric", "pycocotools", "onnx", "onnx_ir", "onnxscript", "onnxruntime")


def require_stage() -> None:
    """Raises ModuleNotFoundError for the first that is missing."""
    for module in _MODULES:
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
