"""Every network by its name, from a step of training to the receipt of the exported file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from aweigh.export import ExportOptions, export
from aweigh.export.jobs.results import ExportResult
from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import InputSpec, ModelSpec
from aweigh.train.checkpoint import Checkpoint, save_checkpoint
from aweigh.train.data.shapes import SHAPES
from aweigh.train.methods import Targets
from aweigh.train.models.deform import DeformConv2d
from aweigh.train.models.detector import ARCHITECTURES, build_detector
from aweigh.train.models.swin import Block

NARROW = {"width": 8, "channels": 16, "convs": 1}


SIZES_HW = ((96, 128), (128, 96))
RESNETS = [name for name, size in ARCHITECTURES.items() if size.backbone == "resnet"]
# At free sizes the exporter takes three times as long, and minutes for a deep network. What has to do with the size of
# the input is in these: both stems, both kinds of block, deformable convolutions in a stage and in the head.
AT_FREE_SIZES = [
    *((name, NARROW) for name in ("nano", "r18", "r50")),
    ("r50", NARROW | {"deform_stages": (4,), "deform_head": True}),
]
AT_ONE_SIZE = [name for name in RESNETS if name not in ("nano", "r18", "r50")]
# They repeat the blocks of depth 101, which is exported in each kind; all of them train a step here in any case.
DEEPEST = [name for name in RESNETS if ARCHITECTURES[name].depth > 101]
LONG = "AWEIGH_LONG_TESTS"
ALL = bool(os.environ.get(LONG))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "network"), AT_FREE_SIZES)
def test_trains_a_step_exports_and_passes_its_receipt_at_two_sizes(
    name: str, network: dict[str, Any], tmp_path: Path
) -> None:
    save_trained_a_step(tmp_path / "best.pt", name, "fcos", network)
    result = export(tmp_path / "best.pt", None, ExportOptions(batch=(1, 4), dynamic_size=True, golden=1, threads=1))
    require_passed(result)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method", "network", "sizes_hw"),
    [
        *((name, "fcos", NARROW, SIZES_HW) for name in ARCHITECTURES if name not in RESNETS),
        *((name, "fcos", NARROW, SIZES_HW if ALL else (SIZES_HW[i % 2],)) for i, name in enumerate(AT_ONE_SIZE)),
        ("r18", "dw", NARROW | {"convs": 2, "head": "tood"}, SIZES_HW),
    ],
)
def test_the_same_at_fixed_sizes(
    name: str, method: str, network: dict[str, Any], sizes_hw: tuple[tuple[int, int], ...], tmp_path: Path
) -> None:
    save_trained_a_step(tmp_path / "best.pt", name, method, network)
    if name in DEEPEST and not ALL:
        pytest.skip(f"trained a step, not exported: set {LONG}=1 for the deepest networks")
    for size_hw in sizes_hw:
        options = ExportOptions(batch=(1, 4), size_hw=size_hw, golden=1, threads=1)
        require_passed(export(tmp_path / "best.pt", tmp_path / f"{size_hw[0]}.onnx", options))


def test_swin_at_free_sizes_is_refused(tmp_path: Path) -> None:
    save_trained_a_step(tmp_path / "best.pt", "swin-t", "fcos", NARROW)
    with pytest.raises(BadInput, match="train it with --resize letterbox"):
        export(tmp_path / "best.pt", None, ExportOptions(dynamic_size=True))


def require_passed(result: ExportResult) -> None:
    assert result.verdict == "passed", result.failed
    assert result.receipt is not None
    assert result.receipt.detections > 10
    assert result.receipt.operators is not None
    assert result.receipt.operators.ready


def save_trained_a_step(path: Path, name: str, method: str, network: dict[str, Any]) -> None:
    """A checkpoint whose scores and places differ from point to point; every parameter has learned."""
    torch.manual_seed(0)
    spec_in = InputSpec(SIZES_HW[0])
    detector = build_detector(name, method, len(SHAPES), spec_in, network)
    for module in detector.modules():
        if isinstance(module, Block):
            module.drop = 0.0  # a block left out of the step would learn nothing
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.01)
    maps = detector(torch.randint(0, 256, (2, *SIZES_HW[0], 3), dtype=torch.uint8))
    points, predictions = detector.read(maps)
    targets = Targets.join([torch.tensor([[8.0, 8.0, 70.0, 60.0]])] * 2, [torch.tensor([1])] * 2)
    torch.stack(list(detector.method.loss(predictions, points, targets, 0.0).values())).sum().backward()
    without = [n for n, p in detector.named_parameters() if p.grad is None or not 0 < float(p.grad.abs().max()) < 1e6]
    assert without == []
    optimizer.step()
    with torch.no_grad():  # what a training makes of it
        detector.head.outputs["cls"].weight.normal_(0, 0.5)
        detector.head.outputs["reg"].weight.normal_(0, 0.15)
        for module in detector.modules():
            if isinstance(module, DeformConv2d):
                module.conv_offset.weight.normal_(0, 0.02)
    spec = ModelSpec(method, name, SHAPES, spec_in, detector.method.post())
    save_checkpoint(Checkpoint(spec, network, {}, detector.state_dict(), {}, {}), path)
