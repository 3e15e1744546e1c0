"""Rounded weights keep the sum of each kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from aweigh.export.precision.kernels import sixteen_bits, whole_numbers


def weights(seed: int, kernel: int) -> np.ndarray[Any, Any]:
    """Differences of nearly equal values, up to 120 steps."""
    drawn = np.random.default_rng(seed).normal(0, 30, (40, 3, kernel, kernel))
    return np.clip(drawn - drawn.mean(axis=(2, 3), keepdims=True), -120, 120)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_whole_numbers_keep_sums_to_half_a_step(kernel: int) -> None:
    values = weights(kernel, kernel)
    whole = whole_numbers(values, 127)
    assert np.array_equal(whole, np.rint(whole))
    assert np.abs(whole - values).max() < 1
    assert np.abs((whole - values).sum(axis=(2, 3))).max() <= 0.5 + 1e-9
    plain = np.abs((np.rint(values) - values).sum(axis=(2, 3))).max()
    assert plain > 0.5 or kernel == 1  # else it would keep them by itself
    # No more than needed are moved: what is within half a step already is rounded to nearest.
    kept = np.abs((np.rint(values) - values).sum(axis=(2, 3))) <= 0.5
    assert np.array_equal(whole[kept], np.rint(values)[kept])


def test_the_largest_whole_number_is_not_passed() -> None:
    values = np.array([127.0, 127.0, 126.6, 0.45, 0.45, 0.45, 0.45, 0.0, 0.0]).reshape(1, 1, 3, 3)
    whole = whole_numbers(values, 127)
    assert whole.max() == 127
    assert whole.sum() == pytest.approx(values.sum(), abs=0.5)
    beyond = whole_numbers(values * 2, 127)
    assert beyond.max() == 127


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_keep_sums_better_than_rounding_to_nearest(dtype: torch.dtype) -> None:
    weight = torch.from_numpy(weights(0, 3)).float() * 0.29
    kept, nearest = sixteen_bits(weight, dtype), weight.to(dtype)
    assert kept.dtype == dtype

    def off(rounded: torch.Tensor) -> float:
        return float((rounded.double() - weight.double()).sum((2, 3)).abs().mean())

    assert off(kept) < off(nearest) / 3
    # One of the two neighbours: at most one step, 2 ** -10 or 2 ** -7 of the power of two below.
    step = 2.0 ** torch.floor(torch.log2(weight.double().abs().clamp(min=1e-30))) * torch.finfo(dtype).eps
    assert ((kept.double() - weight.double()).abs() <= step).all()


def test_a_weight_alone_in_its_kernel_is_rounded_to_nearest() -> None:
    weight = torch.randn(50, 20, 1, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sixteen_bits(weight, torch.float16), weight.half())


def test_zeros_and_infinities_stay() -> None:
    weight = torch.tensor([0.0, 1e-9, 1e6, -1e6, 0.1, -0.1, 65504.0, 1.0, 3.0]).reshape(1, 1, 3, 3)
    kept = sixteen_bits(weight, torch.float16)
    assert torch.isinf(kept).sum() == 2
    assert torch.isfinite(kept[torch.isfinite(weight.half())]).all()
    assert torch.equal(sixteen_bits(torch.zeros(2, 2, 3, 3), torch.float16), torch.zeros(2, 2, 3, 3).half())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_flat_image_comes_out_closer(dtype: torch.dtype) -> None:
    """What the rounding is for: filters that subtract nearly equal values, on equal values."""
    weight = torch.from_numpy(weights(1, 3)).float()
    flat = torch.full((1, 3, 8, 8), 0.9)
    exact = torch.nn.functional.conv2d(flat.double(), weight.double())
    kept, plain = (
        (torch.nn.functional.conv2d(flat.double(), rounded.double()) - exact).abs().mean()
        for rounded in (sixteen_bits(weight, dtype), weight.to(dtype))
    )
    assert kept < plain / 3
