"""Networks with random weights whose output layer yields hundreds of candidates: for times, without a training.

A trained detector, whose pictures hold fewer, pays no more for its post-processing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from aweigh.runtime.spec import Category, InputSpec, ModelSpec
from aweigh.train.checkpoint import Checkpoint, save_checkpoint
from aweigh.train.models.detector import DenseDetector, build_detector


def crowded_detector(
    architecture: str,
    method: str,
    classes: int,
    input_spec: InputSpec,
    network: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> DenseDetector:
    """In evaluation mode; the same weights at every call."""
    torch.manual_seed(0)
    detector = build_detector(architecture, method, classes, input_spec, network, options).eval()
    with torch.no_grad():
        detector.head.outputs["cls"].weight.normal_(0, 0.15)
        detector.head.outputs["cls"].bias.fill_(-3.0)
        detector.head.outputs["reg"].weight.normal_(0, 0.05)
    return detector


def write_checkpoint(
    path: Path,
    architecture: str,
    method: str,
    size_hw: tuple[int, int],
    classes: int = 80,
    resize: Literal["letterbox", "keep-ratio", "stretch"] = "letterbox",
    network: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> Path:
    """A checkpoint that ``aweigh export`` takes."""
    input_spec = InputSpec(size_hw, resize=resize)
    detector = crowded_detector(architecture, method, classes, input_spec, network, options)
    categories = tuple(Category(i + 1, f"class {i + 1}") for i in range(classes))
    spec = ModelSpec(method, architecture, categories, input_spec, detector.method.post())
    save_checkpoint(Checkpoint(spec, network or {}, options or {}, detector.state_dict(), {}, {}), path)
    return path
