"""Two-component Gaussian mixtures of many small samples at once, by expectation maximisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from aweigh.train.kernels.operators import register

# As scikit-learn's GaussianMixture, whose results these are.
REGULARISATION = 1e-6
TOLERANCE = 1e-3
MAX_ROUNDS = 100
FEWEST = 2  # values of a mixture
LEAST_MASS = 10 * torch.finfo(torch.float64).eps  # added to that of a component


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
        valid: [G, n] bool; a row of fewer than two is not fitted, and what it gets has no meaning.
    """
    state, rounds, component, log_likelihood = fitted_mixtures(values, valid)
    weights, means, variances = state.view(3, 2, -1).transpose(1, 2)
    return Mixtures(weights, means, variances, rounds, component, log_likelihood)


def _fitted(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, held = values.double(), valid.double()
    count = held.sum(dim=1)
    fitting = count >= FEWEST
    lowest, highest = x.masked_fill(~valid, torch.inf).amin(dim=1), x.masked_fill(~valid, -torch.inf).amax(dim=1)
    lowest, highest = lowest.where(fitting, 0), highest.where(fitting, 0)
    x = x.masked_fill(~valid, 0.0)
    # Weights, means and variances [6, G] of both components; these side by side in memory, never as an inner pair.
    one = torch.ones_like(lowest)
    result = torch.stack((one / 2, one / 2, lowest, highest, one, one))
    rounds = torch.zeros(len(x), dtype=torch.long, device=x.device)
    running = torch.nonzero(fitting)[:, 0]
    last = torch.full_like(lowest, -torch.inf)[running]
    state, part, part_held, part_count = result[:, running], x[running], held[running], count[running]
    for _ in range(MAX_ROUNDS if len(running) else 0):
        state, mean = _round(part, part_held, part_count, state)
        result[:, running] = state
        rounds[running] += 1
        going = torch.nonzero(~((mean - last).abs() < TOLERANCE))[:, 0]
        if not len(going):
            break
        last = mean
        if len(going) < len(running):  # rows that have ended cost no further rounds
            running, last, state = running[going], last[going], state[:, going]
            part, part_held, part_count = part[going], part_held[going], part_count[going]
    low, high = _log_joint(x, result)
    return result, rounds, (high > low).long(), torch.logaddexp(low, high)


def _round(x: Tensor, held: Tensor, count: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One round of expectation and maximisation: new state [6, G], mean log-likelihood [G] under the old one."""
    low, high = _log_joint(x, state)
    total = torch.logaddexp(low, high)
    mean = (total * held).sum(dim=1) / count
    new = []
    for joint in (low, high):
        share = (joint - total).exp_().mul_(held)
        mass = share.sum(dim=1) + LEAST_MASS
        centre = (share * x).sum(dim=1) / mass
        variance = (share * (x - centre[:, None]).square_()).sum(dim=1) / mass + REGULARISATION
        new.append((mass, centre, variance))
    masses, centres, variances = (torch.stack(both) for both in zip(*new, strict=True))
    return torch.cat((masses / masses.sum(dim=0), centres, variances)), mean


def _log_joint(x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """[G, n] log of weight times density, of either component."""
    weights, means, variances = state.view(3, 2, -1)
    constant = weights.log() - 0.5 * (math.log(2 * math.pi) + variances.log())
    low, high = (
        torch.addcmul(constant[i, :, None], (x - means[i, :, None]).square_(), (-0.5 / variances[i])[:, None])
        for i in (0, 1)
    )
    return low, high


# Of values [G, n]: state [6, G] (weights, means and variances, the low component of each first), rounds [G], and of
# each value the likelier component and its log-likelihood, [G, n].
fitted_mixtures = register(
    "fitted_mixtures(Tensor values, Tensor valid) -> (Tensor, Tensor, Tensor, Tensor)",
    _fitted,
    "mixture:fitted_mixtures",
    launches=1,
)
