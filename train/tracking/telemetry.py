"""Statistics of the assignment, as columns of results.csv: positive mass, starved objects, the method's own numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from aweigh.train.dense.points import Points
from aweigh.train.methods.base import Method
from aweigh.train.methods.explanation import SIZES, size_classes
from aweigh.train.methods.values import Predictions, Targets

# Iterations between two observations: each costs about as much as the forward half of the loss.
EVERY = 10
PREFIX = "assign/"

# Name -> sum and count of the observations; JSON, so that a resumed run goes on with it.
Sums = dict[str, list[float]]


@torch.no_grad()
def observe(method: Method, predictions: Predictions, points: Points, targets: Targets, progress: float) -> Sums:
    """Positive mass per object by size (S, M, L, by area in the network input), share of starved objects, quantities.

    The mass of an object is the sum of the weights with which points are positives of it: 1 is one plain positive.
    """
    explanation = method.explain(predictions, points, targets, progress)
    mass, size = explanation.mass(), size_classes(targets)
    sums: Sums = {}
    for index, name in enumerate(SIZES):
        mine = mass[size == index]
        sums[f"mass_{name}"] = [float(mine.sum()), float(len(mine))]
    sums["starved"] = [float(explanation.starved().sum()), float(len(targets))]
    if len(targets):
        sums |= {name: [value, 1.0] for name, value in explanation.quantities.items()}
    return sums


def joined(parts: Iterable[Sums]) -> Sums:
    """The sums of several processes, added up."""
    total: Sums = {}
    for part in parts:
        add(total, part)
    return total


def add(total: Sums, seen: Mapping[str, list[float]]) -> None:
    """Add in place."""
    for name, (value, count) in seen.items():
        before = total.setdefault(name, [0.0, 0.0])
        before[0] += value
        before[1] += count


def columns(total: Sums) -> dict[str, float | str]:
    """Means by column name; empty where nothing was observed."""
    return {PREFIX + name: value / count if count else "" for name, (value, count) in total.items()}
