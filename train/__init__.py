"""Train and evaluate object detectors.

The names below are the Python API; each is imported on first use, so that importing this package loads no torch.
``aweigh train`` and ``aweigh val`` call the same functions.

Example:
    >>> from aweigh.train import METHODS
    >>> list(METHODS)
    ['fcos', 'dw', 'o2f', 'autoassign', 'paa', 'ala']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aweigh.train.checkpoint import load_checkpoint
    from aweigh.train.config import TrainConfig, make_config, read_recipe
    from aweigh.train.data.shapes import generate_shapes
    from aweigh.train.evaluation.run import evaluate
    from aweigh.train.methods import METHODS
    from aweigh.train.run.session import train

__all__ = [
    "METHODS",
    "TrainConfig",
    "evaluate",
    "generate_shapes",
    "load_checkpoint",
    "make_config",
    "read_recipe",
    "train",
]

_ON_FIRST_USE = {
    "METHODS": "aweigh.train.methods",
    "TrainConfig": "aweigh.train.config",
    "evaluate": "aweigh.train.evaluation.run",
    "generate_shapes": "aweigh.train.data.shapes",
    "load_checkpoint": "aweigh.train.checkpoint",
    "make_config": "aweigh.train.config",
    "read_recipe": "aweigh.train.config",
    "train": "aweigh.train.run.session",
}


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(import_module(_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
