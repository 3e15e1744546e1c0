"""aweigh.serve: exported detectors behind HTTP and gRPC, without torch.

``serve`` runs a server until it is stopped; ``build_app`` is its HTTP side alone, for any ASGI server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aweigh.serve.http.app import build_app
    from aweigh.serve.server import serve
    from aweigh.serve.settings import Limits, ModelSource, Settings

__all__ = ["Limits", "ModelSource", "Settings", "build_app", "serve"]

# Loaded on first use: the command line imports this package with every verb, and the libraries take half a second.
_ON_FIRST_USE = {
    "Limits": "aweigh.serve.settings",
    "ModelSource": "aweigh.serve.settings",
    "Settings": "aweigh.serve.settings",
    "build_app": "aweigh.serve.http.app",
    "serve": "aweigh.serve.server",
}


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(import_module(_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
