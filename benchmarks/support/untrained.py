"""Networks with random weights whose output layer yields many candidates: for times, without a training.

Inside a graph a trained detector, whose pictures hold fewer, pays no more for post-processing. Loops in Python pay
for every one: what is held against them has to have as many candidates as a trained detector: ``thinned``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from aweigh.runtime.images.preprocess import prepare
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
        nn.init.normal_(output_layer(detector, "cls").weight, 0, 0.15)
        output_bias(detector, "cls").fill_(-3.0)
        nn.init.normal_(output_layer(detector, "reg").weight, 0, 0.05)
    return detector


def output_layer(detector: DenseDetector, branch: str) -> nn.Conv2d:
    layer = detector.head.outputs[branch]
    assert isinstance(layer, nn.Conv2d)
    return layer


def output_bias(detector: DenseDetector, branch: str) -> Tensor:
    bias = output_layer(detector, branch).bias
    assert bias is not None
    return bias


@torch.inference_mode()
def thinned(detector: DenseDetector, image_u8: npt.NDArray[np.uint8], candidates: int, threshold: float = 0.05) -> int:
    """Lower the output layer's bias until a prepared picture [H, W, 3] has about so many candidates; returns how many.

    The nearest that bisection finds: scores of neighbours can be equal.
    """
    images = torch.from_numpy(image_u8)[None]
    bias = output_bias(detector, "cls")
    low, high = -40.0, 5.0

    def count() -> int:
        return int((detector.dense(images).scores > threshold).sum())

    for _ in range(14):
        bias.fill_((low + high) / 2)
        found = count()
        if abs(found - candidates) * 20 <= candidates:
            return found
        low, high = (low, (low + high) / 2) if found > candidates else ((low + high) / 2, high)
    return count()


def write_checkpoint(
    path: Path,
    architecture: str,
    method: str,
    size_hw: tuple[int, int],
    classes: int = 80,
    resize: Literal["letterbox", "keep-ratio", "stretch"] = "letterbox",
    network: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    thin: tuple[npt.NDArray[np.uint8], int] | None = None,
) -> Path:
    """A checkpoint that ``aweigh export`` takes; ``thin``: a picture, RGB, and how many candidates it shall have."""
    input_spec = InputSpec(size_hw, resize=resize)
    detector = crowded_detector(architecture, method, classes, input_spec, network, options)
    if thin is not None:
        thinned(detector, prepare(thin[0], input_spec)[0], thin[1])
    categories = tuple(Category(i + 1, f"class {i + 1}") for i in range(classes))
    spec = ModelSpec(method, architecture, categories, input_spec, detector.method.post())
    save_checkpoint(Checkpoint(spec, network or {}, options or {}, detector.state_dict(), {}, {}), path)
    return path
