"""See ``kernels.mixture``: one program for each row, which ends when its row does."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from aweigh.train.kernels.mixture import FEWEST, LEAST_MASS, MAX_ROUNDS, REGULARISATION, TOLERANCE

_CONSTANT = tl.constexpr(0.5 * math.log(2 * math.pi))


def fitted_mixtures(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, length = values.shape
    state = values.new_empty(6, rows, dtype=torch.float64)
    rounds = values.new_empty(rows, dtype=torch.long)
    component = values.new_empty(rows, length, dtype=torch.long)
    log_likelihood = values.new_empty(rows, length, dtype=torch.float64)
    if rows and length:
        _fitted[(rows,)](
            values.contiguous(),
            valid.contiguous(),
            state,
            rounds,
            component,
            log_likelihood,
            rows,
            length,
            FEWEST=FEWEST,
            LEAST_MASS=LEAST_MASS,
            MAX_ROUNDS=MAX_ROUNDS,
            REGULARISATION=REGULARISATION,
            TOLERANCE=TOLERANCE,
            BLOCK=triton.next_power_of_2(length),
            num_warps=1,
        )
    return state, rounds, component, log_likelihood


@triton.jit
def _log_joint(x, weight, mean, variance):
    away = x - mean
    return tl.log(weight) - _CONSTANT - 0.5 * tl.log(variance) - 0.5 * (away * away) / variance


@triton.jit
def _log_sum(low, high):
    return tl.maximum(low, high) + tl.log(1.0 + tl.exp(-tl.abs(low - high)))


@triton.jit
def _maximised(x, share, LEAST_MASS: tl.constexpr, REGULARISATION: tl.constexpr):
    mass = tl.sum(share, axis=0) + LEAST_MASS
    mean = tl.sum(share * x, axis=0) / mass
    away = x - mean
    return mass, mean, tl.sum(share * (away * away), axis=0) / mass + REGULARISATION


@triton.jit
def _fitted(
    values,
    valid,
    state,
    rounds,
    component,
    log_likelihood,
    rows,
    length,
    FEWEST: tl.constexpr,
    LEAST_MASS: tl.constexpr,
    MAX_ROUNDS: tl.constexpr,
    REGULARISATION: tl.constexpr,
    TOLERANCE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    place = tl.arange(0, BLOCK)
    inside = place < length
    at = row.to(tl.int64) * length + place
    held = tl.load(valid + at, mask=inside, other=0).to(tl.int1)
    x = tl.load(values + at, mask=inside, other=0.0).to(tl.float64)
    count = tl.sum(held.to(tl.float64), axis=0)
    fitting = count >= FEWEST
    low_mean = tl.where(fitting, tl.min(tl.where(held, x, float("inf")), axis=0), 0.0)
    high_mean = tl.where(fitting, tl.max(tl.where(held, x, float("-inf")), axis=0), 0.0)
    x = tl.where(held, x, 0.0)
    low_variance = low_mean * 0.0 + 1.0
    high_variance = low_variance
    low_weight = low_variance * 0.5
    high_weight = low_weight
    last = low_mean * 0.0 + float("-inf")
    done = 0
    going = fitting
    while going & (done < MAX_ROUNDS):
        low = _log_joint(x, low_weight, low_mean, low_variance)
        high = _log_joint(x, high_weight, high_mean, high_variance)
        total = _log_sum(low, high)
        mean = tl.sum(tl.where(held, total, 0.0), axis=0) / count
        low_share, high_share = tl.where(held, tl.exp(low - total), 0.0), tl.where(held, tl.exp(high - total), 0.0)
        low_mass, low_mean, low_variance = _maximised(x, low_share, LEAST_MASS, REGULARISATION)
        high_mass, high_mean, high_variance = _maximised(x, high_share, LEAST_MASS, REGULARISATION)
        low_weight, high_weight = low_mass / (low_mass + high_mass), high_mass / (low_mass + high_mass)
        going = (tl.abs(mean - last) < TOLERANCE) == 0
        last = mean
        done += 1
    low = _log_joint(x, low_weight, low_mean, low_variance)
    high = _log_joint(x, high_weight, high_mean, high_variance)
    tl.store(component + at, (high > low).to(tl.int64), mask=inside)
    tl.store(log_likelihood + at, _log_sum(low, high), mask=inside)
    tl.store(rounds + row, done)
    tl.store(state + row, low_weight)
    tl.store(state + rows + row, high_weight)
    tl.store(state + 2 * rows + row, low_mean)
    tl.store(state + 3 * rows + row, high_mean)
    tl.store(state + 4 * rows + row, low_variance)
    tl.store(state + 5 * rows + row, high_variance)
