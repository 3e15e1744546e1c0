"""Networks beyond the plain ResNet, from a step of training to the receipt of the exported file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aweigh.export.job import ExportOptions, run_export
from aweigh.runtime.spec import InputSpec, ModelSpec
from aweigh.train.checkpoint import Checkpoint, save_checkpoint
from aweigh.train.data.shapes import SHAPES
from aweigh.train.methods import Targets
from aweigh.train.models.deform import DeformConv2d
from aweigh.train.models.detector import build_detector

# All blocks of their kind, few of them: depth is a number like any other.
NARROW = {"depth": 50, "width": 8, "channels": 16, "convs": 1}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r50-dcn", "x101-64x4d", "x152-32x8d-dcn"])
def test_trains_a_step_exports_and_passes_its_receipt_at_two_sizes(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec_in = InputSpec((96, 128))
    detector = build_detector(name, "fcos", len(SHAPES), spec_in, NARROW)
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.01)
    maps = detector(torch.randint(0, 256, (2, 96, 128, 3), dtype=torch.uint8))
    points = detector.points(maps)
    targets = Targets.join([torch.tensor([[8.0, 8.0, 70.0, 60.0]])] * 2, [torch.tensor([1])] * 2)
    predictions = detector.method.predictions(maps, points)
    torch.stack(list(detector.method.loss(predictions, points, targets, 0.0).values())).sum().backward()
    without = [n for n, p in detector.named_parameters() if p.grad is None or not 0 < float(p.grad.abs().max()) < 1e6]
    assert without == []
    optimizer.step()
    with torch.no_grad():  # what a training makes of it: scores and places that differ from point to point
        detector.head.outputs["cls"].weight.normal_(0, 0.5)
        detector.head.outputs["reg"].weight.normal_(0, 0.15)
        for module in detector.modules():
            if isinstance(module, DeformConv2d):
                module.conv_offset.weight.normal_(0, 0.02)
    spec = ModelSpec("fcos", name, SHAPES, spec_in, detector.method.post())
    save_checkpoint(Checkpoint(spec, NARROW, {}, detector.state_dict(), {}, {}), tmp_path / "best.pt")
    result = run_export(tmp_path / "best.pt", None, ExportOptions(batch=(1, 4), dynamic_size=True, golden=1, threads=1))
    assert result["verdict"] == "passed", result["failed"]
    assert result["detections_compared"] > 10
    assert result["tensorrt_ready"]
