"""Rounding a convolution's weights so that flat surroundings come out as they did.

Most of an image is flat: neighbouring values are nearly equal, and a kernel answers with their value times the sum of
its weights. Rounded one by one, weights that subtract nearly equal values leave a sum that is off by many times what is
left of it, as in the first filters of EfficientNet-Lite. So a kernel's weights are rounded to nearest, except for as
many as bring their sum back: those that lie closest to the middle of two steps go the other way. The idea is that of
SQuant (Guo et al. 2022, arXiv 2202.07471), its kernel-wise part alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def whole_numbers(values: npt.NDArray[Any], largest: int) -> npt.NDArray[np.float64]:
    """Weights in steps, as whole numbers from ``-largest`` to ``largest`` that keep the sum of each kernel.

    Args:
        values: [O, I, height, width] weights divided by their step.
        largest: absolute value of a whole number.

    Returns:
        The same shape; each is one of the two whole numbers next to its value, and each sum over a kernel is within
        0.5 of that of the values, unless ``largest`` is in the way.

    Example:
        >>> whole_numbers(np.array([0.4, 0.4, 0.4, -1.2]).reshape(1, 1, 2, 2), 127).ravel().tolist()
        [1.0, 0.0, 0.0, -1.0]
    """
    exact = values.astype(np.float64)
    nearest = np.clip(np.rint(exact), -largest, largest)
    other = nearest - np.sign(nearest - exact)
    return _keep_sums(exact, nearest, np.where(np.abs(other) <= largest, other, nearest))


def sixteen_bits(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The weights of a convolution [O, I, height, width] in a 16-bit float, keeping the sum of each kernel.

    Each is one of the two numbers next to its value; what overflows is infinite.
    """
    exact = weight.detach().double()
    nearest = weight.detach().to(dtype)
    finite = torch.isfinite(nearest)
    # Such a float is a sign and a magnitude: one bit more is the next number away from zero.
    errors = nearest.double() - exact
    outwards = torch.sign(errors) * torch.sign(nearest.double()) < 0
    next_bits = nearest.view(torch.int16) + torch.where(outwards, 1, -1).to(torch.int16)
    other = next_bits.view(dtype)
    other = torch.where((errors != 0) & (nearest != 0) & torch.isfinite(other), other, nearest)
    candidates = (torch.where(finite, each, 0.0).numpy() for each in (exact, nearest.double(), other.double()))
    return torch.where(finite, torch.from_numpy(_keep_sums(*candidates)).to(dtype), nearest)


def _keep_sums(
    exact: npt.NDArray[np.float64], nearest: npt.NDArray[np.float64], other: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """``nearest``, with ``other`` for some, so that each kernel's sum comes close to that of ``exact``.

    Large steps are decided before small ones, and among equals those that cost least come first.
    """
    shape = exact.shape
    exact, nearest, other = (array.reshape(*shape[:2], -1) for array in (exact, nearest, other))
    errors, steps = nearest - exact, other - nearest
    order = np.lexsort((-np.abs(errors), -np.abs(steps)), axis=2)
    total = errors.sum(axis=2)
    result = nearest.copy()
    for rank in range(order.shape[2]):
        tap = order[:, :, rank : rank + 1]
        step = np.take_along_axis(steps, tap, axis=2)[:, :, 0]
        better = np.abs(total + step) < np.abs(total)
        total += np.where(better, step, 0.0)
        value = np.take_along_axis(result, tap, axis=2)
        np.put_along_axis(result, tap, value + np.where(better, step, 0.0)[:, :, None], axis=2)
    return result.reshape(shape)
