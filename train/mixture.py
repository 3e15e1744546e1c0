"""Two-component Gaussian mixtures of many small samples at once, by expectation maximisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# As scikit-learn's GaussianMixture, whose results these are.
_REGULARISATION = 1e-6
_TOLERANCE = 1e-3
_MAX_ROUNDS = 100


@dataclass(frozen=True)
class Mixtures:
    """G fitted mixtures of n values each (of [G, n] values, some masked).

    Attributes:
        weights, means, variances: [G, 2]; component 0 starts at the lowest value.
        rounds: [G] int64 of expectation maximisation.
        component: [G, n] int64, the likelier one of each value.
        log_likelihood: [G, n] of each value under the mixture.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    rounds: Tensor
    component: Tensor
    log_likelihood: Tensor


@torch.no_grad()
def fit_mixtures(values: Tensor, valid: Tensor) -> Mixtures:
    """Fit each row apart, all rows together.

    Starts from equal weights, means at the lowest and the highest value, variance 1; a row ends when the mean
    log-likelihood of a round differs from the last one's by less than 0.001, or after 100 rounds.

    Args:
        values: [G, n]; computed in float64, for the sums are short and their differences small.
        valid: [G, n] bool; at least two in each row.
    """
    x = values.double()
    count = valid.sum(dim=1, keepdim=True).double()
    lowest, highest = x.masked_fill(~valid, torch.inf).amin(dim=1), x.masked_fill(~valid, -torch.inf).amax(dim=1)
    means = torch.stack((lowest, highest), dim=1)
    weights = torch.full_like(means, 0.5)
    variances = torch.ones_like(means)
    rounds = torch.zeros(len(x), dtype=torch.long, device=x.device)
    running = torch.ones(len(x), dtype=torch.bool, device=x.device)
    last = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
    x = x.masked_fill(~valid, 0.0)
    for _ in range(_MAX_ROUNDS):
        joint = _log_joint(x, weights, means, variances)  # [G, n, 2]
        total = torch.logsumexp(joint, dim=2)
        mean = (total * valid).sum(dim=1) / count[:, 0]
        share = (joint - total[..., None]).exp() * valid[..., None]
        mass = share.sum(dim=1) + 10 * torch.finfo(torch.float64).eps
        new_means = (share * x[..., None]).sum(dim=1) / mass
        spread = (x[..., None] - new_means[:, None]).square()
        new_variances = (share * spread).sum(dim=1) / mass + _REGULARISATION
        new_weights = mass / mass.sum(dim=1, keepdim=True)
        step = running[:, None]
        means = torch.where(step, new_means, means)
        variances = torch.where(step, new_variances, variances)
        weights = torch.where(step, new_weights, weights)
        rounds += running
        running = running & ~((mean - last).abs() < _TOLERANCE)
        last = mean
        if not running.any():
            break
    joint = _log_joint(x, weights, means, variances)
    return Mixtures(weights, means, variances, rounds, joint.argmax(dim=2), torch.logsumexp(joint, dim=2))


def _log_joint(x: Tensor, weights: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """[G, n, 2] log of weight times density."""
    spread = (x[..., None] - means[:, None]).square() / variances[:, None]
    return weights.log()[:, None] - 0.5 * (math.log(2 * math.pi) + variances.log()[:, None] + spread)
