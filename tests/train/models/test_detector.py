"""Networks: names, shapes, a calm start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import InputSpec
from aweigh.train.methods import METHODS, Targets
from aweigh.train.models.detector import ARCHITECTURES, architecture, build_detector
from aweigh.train.models.fpn import Downsample
from aweigh.train.models.resnet import ResNet

NARROW = {"width": 8, "channels": 16, "convs": 1}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_architecture_builds_and_has_five_levels(name: str) -> None:
    detector = build_detector(name, "fcos", 3, InputSpec((64, 96)), NARROW).eval()
    maps = detector(torch.zeros(1, 64, 96, 3, dtype=torch.uint8))
    assert [tuple(level["cls"].shape) for level in maps] == [
        (1, 3, 8, 12),
        (1, 3, 4, 6),
        (1, 3, 2, 3),
        (1, 3, 1, 2),
        (1, 3, 1, 1),
    ]
    assert len(detector.points(maps).xy) == 8 * 12 + 4 * 6 + 2 * 3 + 2 + 1


@pytest.mark.parametrize("method", sorted(METHODS))
def test_training_starts_calm(method: str) -> None:
    """Few classes are likely at first, so that thousands of negatives do not drown the objects."""
    torch.manual_seed(0)
    detector = build_detector("nano", method, 80, InputSpec((64, 64)), NARROW)
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    maps = detector(images)
    points, predictions = detector.read(maps)
    targets = Targets.join([torch.tensor([[8.0, 8.0, 40.0, 48.0]])] * 2, [torch.tensor([3])] * 2)
    losses = detector.method.loss(predictions, points, targets, 0.0)
    assert predictions.cls_logits.sigmoid().mean() < 0.02
    # ALA sums the logarithms of its soft points over the number of the hard ones: its positives start higher.
    assert sum(float(v.detach()) for v in losses.values()) < (25 if method == "ala" else 20)


@pytest.mark.parametrize(
    ("published_name", "sizes"),
    [
        ("resnet18", {"depth": 18}),
        ("resnet34", {"depth": 34}),
        ("resnet50", {"depth": 50}),
        ("resnet101", {"depth": 101}),
        ("resnext50_32x4d", {"depth": 50, "groups": 32, "base_width": 4}),
        ("resnext101_32x8d", {"depth": 101, "groups": 32, "base_width": 8}),
        ("resnext101_64x4d", {"depth": 101, "groups": 64, "base_width": 4}),
    ],
)
def test_parameter_names_are_torchvisions(published_name: str, sizes: dict[str, int]) -> None:
    root = os.environ.get("AWEIGH_TEST_DATA")
    keys = Path(root or "") / "checkpoints" / f"torchvision_{published_name}.full.keys.txt"
    if not root or not keys.exists():
        pytest.skip("AWEIGH_TEST_DATA is not set, or has no key list of this network")
    published = {}
    for line in keys.read_text().splitlines():
        name, shape, _ = line.split("\t")
        published[name] = shape
    with torch.device("meta"):
        own = {name: "x".join(map(str, tensor.shape)) for name, tensor in ResNet(**sizes).state_dict().items()}
    assert set(own) == {name for name in published if not name.startswith("fc.")}
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    assert [name for name in own if name not in counters and own[name] != published[name]] == []


def test_unknown_names_and_sizes() -> None:
    for bad in ("r19", ""):
        with pytest.raises(BadInput, match="r18"):
            architecture(bad)
    with pytest.raises(BadInput, match="channels"):
        architecture("r18", {"chanels": 64})
    with pytest.raises(BadInput, match="category"):
        build_detector("nano", "dw", 0, InputSpec((64, 64)))


def test_normalisation_is_inside() -> None:
    detector = build_detector("nano", "fcos", 1, InputSpec((64, 64), mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 5.0)))
    seen = []
    detector.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.tensor([12, 28, 40], dtype=torch.uint8).expand(1, 64, 64, 3)
    detector(images)
    assert seen[0][0, :, 0, 0].tolist() == [1.0, 2.0, 2.0]


@pytest.mark.parametrize("shape_hw", [(1, 1), (1, 3), (3, 1), (2, 2)])
def test_bfloat16_gradient_of_a_downsampling_on_tiny_maps(shape_hw: tuple[int, int]) -> None:
    """oneDNN leaves parts of this gradient uninitialised where a map has one row or column."""
    torch.manual_seed(0)
    layer = Downsample(16, 16)
    images = torch.randn(8, 16, *shape_hw)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        for _ in range(5):  # uninitialised memory is not wrong every time
            layer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                layer(images).float().square().sum().backward()
            assert layer.weight.grad is not None
            gradients.append(layer.weight.grad.clone())
    for gradient in gradients[5:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=0.05, atol=0.05 * float(gradients[0].abs().max()))


def test_a_checkpoint_as_the_network_is_told_what_to_do() -> None:
    with pytest.raises(BadInput, match=r"or a checkpoint \(\.pt\) to go on from$"):
        architecture("runs/best.pt")
    with pytest.raises(BadInput, match=r"expected one of .*swin-t, or a checkpoint"):
        architecture("resnet")
