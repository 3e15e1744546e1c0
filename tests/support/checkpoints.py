"""Checkpoints of small untrained networks that detect much."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from aweigh.runtime.spec import InputSpec, ModelSpec
from aweigh.train.checkpoint import Checkpoint, save_checkpoint
from aweigh.train.data.shapes import SHAPES
from aweigh.train.models.detector import build_detector

NETWORK = {"width": 16, "channels": 16, "convs": 1}
SIZE_HW = (128, 160)


def save_untrained(method: str, path: Path, architecture: str = "nano", network: Mapping[str, int] = NETWORK) -> Path:
    """Write a checkpoint of ``METHOD`` or of ``METHOD-one-to-one``, whose scores and boxes differ from point to point
    as after a training.
    """
    torch.manual_seed(0)
    spec_in = InputSpec(SIZE_HW)
    base, _, variant = method.partition("-")
    options = {"one_to_one": True} if variant else {}
    detector = build_detector(architecture, base, len(SHAPES), spec_in, dict(network), options).eval()
    with torch.no_grad():
        scores, boxes = detector.head.outputs["cls"], detector.head.outputs["reg"]
        assert isinstance(scores, nn.Conv2d)
        assert isinstance(boxes, nn.Conv2d)
        assert scores.bias is not None
        scores.weight.normal_(0, 0.5)
        scores.bias.fill_(-1.0)
        boxes.weight.normal_(0, 0.15)
        for name, buffer in detector.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    best_conf = (None, *(0.5 for _ in SHAPES[1:]))
    spec = ModelSpec(base, architecture, SHAPES, spec_in, detector.method.post(), best_conf=best_conf)
    save_checkpoint(Checkpoint(spec, dict(network), options, detector.state_dict(), {}, {}), path)
    return path
