"""Silence for what the exporter says without need; everything else it says is let through."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Within the block: no note about torchvision, no deprecation inside torch itself."""
    # "torchvision is not installed. Skipping torchvision::nms" (and three more): nothing here uses its operators.
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch 2.13 copies its own pytree specs by a way that it has deprecated.
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            yield
    finally:
        registration.setLevel(level)
