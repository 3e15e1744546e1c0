"""What a method makes of a batch, in the same terms for all methods: for telemetry and for the pages of assign."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from aweigh.train.methods.candidates import Pairs
from aweigh.train.methods.values import Targets

# COCO's limits of small and medium objects, as areas; here in pixels of the network input.
SMALL_PX2, MEDIUM_PX2 = 32.0**2, 96.0**2
SIZES = ("S", "M", "L")
# An object with less positive weight than a tenth of one plain positive point is starved: it is hardly trained on.
STARVED_MASS = 0.1


@dataclass(frozen=True)
class Explanation:
    """Weights of the (point, truth) pairs a method looks at, all without gradient.

    Attributes:
        pairs: the pairs; a pair that is not listed is a plain negative.
        positive: [N] weight as a positive of the truth's class; 1 is one plain positive point.
        negative: [N] weight as a negative of that class; 1 is one plain negative point.
        prior: [N] weight that depends on the position only, 0 to 1; None for a method without a prior.
        quantities: the method's own numbers, means over the batch, by name.
        mixtures: one for each truth that was split (PAA), by index of the truth.
    """

    pairs: Pairs
    positive: Tensor
    negative: Tensor
    prior: Tensor | None
    quantities: dict[str, float] = field(default_factory=dict)
    mixtures: dict[int, Mixture] = field(default_factory=dict)

    def mass(self) -> Tensor:
        """[G] positive weight of each truth."""
        return self.pairs.sum(self.positive)

    def starved(self) -> Tensor:
        """[G] bool: objects with a mass below STARVED_MASS."""
        return self.mass() < STARVED_MASS


@dataclass(frozen=True)
class Mixture:
    """How PAA splits the candidates of one truth.

    Attributes:
        pair: index of each candidate into the pairs, by rising loss.
        score_loss: of each candidate.
        weights, means, variances: of the two components, the good one first.
    """

    pair: list[int]
    score_loss: list[float]
    weights: tuple[float, float]
    means: tuple[float, float]
    variances: tuple[float, float]


def size_classes(targets: Targets) -> Tensor:
    """[G] int64 index into SIZES, by the area of the box in pixels of the network input."""
    size = targets.boxes_xyxy[:, 2:] - targets.boxes_xyxy[:, :2]
    area = size[:, 0] * size[:, 1]
    return (area >= SMALL_PX2).long() + (area >= MEDIUM_PX2).long()


def mean_of(values: Tensor) -> float:
    """Mean of a tensor of any shape; 0 where there is nothing."""
    return float(values.double().mean()) if values.numel() else 0.0


def mean_prior(mu: Tensor, sigma: Tensor) -> dict[str, float]:
    """The learned centre prior [G, 2], over the truths, in strides."""
    prior = {}
    for name, values in (("mu", mu), ("sigma", sigma)):
        for axis, letter in enumerate("xy"):
            prior[f"{name}_{letter}"] = mean_of(values[:, axis])
    return prior


def ones(pairs: Pairs) -> Tensor:
    """[N] weight 1 for every pair."""
    return torch.ones(len(pairs), device=pairs.point.device)
