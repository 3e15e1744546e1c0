"""Deformable convolution against its definition, in float64 and one tap at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aweigh.train.models.deform import DeformConv2d


def bilinear(plane: Tensor, row: float, column: float) -> float:
    """The value of [H, W] at a place; neighbours outside count as 0."""
    total = 0.0
    for y in (math.floor(row), math.floor(row) + 1):
        for x in (math.floor(column), math.floor(column) + 1):
            if 0 <= y < plane.shape[0] and 0 <= x < plane.shape[1]:
                total += float(plane[y, x]) * (1 - abs(row - y)) * (1 - abs(column - x))
    return total


def definition(layer: DeformConv2d, x: Tensor) -> Tensor:
    """y(p) = sum over taps k of w_k x(p + p_k + offset_k(p)) sigmoid(mask_k(p)) (arXiv 1811.11168 Eq. 1)."""
    predicted = layer.conv_offset(x)
    stride, groups = layer.stride[0], layer.groups
    outputs, per_group = layer.weight.shape[:2]
    result = torch.zeros(x.shape[0], outputs, *predicted.shape[-2:], dtype=torch.float64)
    for image in range(x.shape[0]):
        for i in range(result.shape[2]):
            for j in range(result.shape[3]):
                at = predicted[image, :, i, j]
                for k in range(9):
                    row = i * stride - 1 + k // 3 + float(at[2 * k])
                    column = j * stride - 1 + k % 3 + float(at[2 * k + 1])
                    mask = 1 / (1 + math.exp(-float(at[18 + k])))
                    read = torch.tensor([bilinear(plane, row, column) for plane in x[image]], dtype=torch.float64)
                    for o in range(outputs):
                        first = o // (outputs // groups) * per_group
                        own = read[first : first + per_group]
                        result[image, o, i, j] += mask * (layer.weight[o, :, k // 3, k % 3] * own).sum()
    return result if layer.bias is None else result + layer.bias[:, None, None]


@pytest.mark.parametrize(("stride", "groups", "bias"), [(1, 1, True), (2, 1, False), (2, 2, False)])
@torch.no_grad()
def test_equals_its_definition(stride: int, groups: int, bias: bool) -> None:
    torch.manual_seed(stride + groups)
    layer = DeformConv2d(4, 6, stride, groups, bias).double()
    # Offsets of up to some cells, which reach out of the map on every side.
    layer.conv_offset.weight.normal_(0, 0.4)
    assert layer.conv_offset.bias is not None
    layer.conv_offset.bias.normal_(0, 1.5)
    x = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    expected = definition(layer, x)
    places = layer.conv_offset(x)[:, :18]
    assert places.abs().max() > 3
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.float()(x.float()).double(), expected, rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_starts_as_half_an_ordinary_convolution() -> None:
    layer = DeformConv2d(3, 5, 2)
    x = torch.randn(1, 3, 8, 10)
    ordinary = torch.nn.functional.conv2d(x, layer.weight, stride=2, padding=1)
    torch.testing.assert_close(layer(x), ordinary / 2, rtol=1e-5, atol=1e-5)


def test_gradients_reach_offsets_masks_and_weights() -> None:
    torch.manual_seed(0)
    layer = DeformConv2d(2, 1).double()
    with torch.no_grad():
        layer.conv_offset.weight.normal_(0, 0.3)
    x = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,), eps=1e-7, atol=1e-4)
    layer(x).square().sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_bfloat16_autocast_trains() -> None:
    layer = DeformConv2d(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.randn(1, 4, 6, 6))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.conv_offset.weight.grad is not None
    assert layer.conv_offset.weight.grad.isfinite().all()
