"""One optimizer step: launched on a device, and what came of it once its numbers were fetched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aweigh.runtime.errors import CheckFailed
from aweigh.train.tracking import telemetry


class NotFinite(CheckFailed):
    """A loss or a gradient is infinite or NaN.

    Attributes:
        what: ``loss`` or ``gradient``.
        values: by name, over all processes.
    """

    def __init__(self, what: str, values: Mapping[str, float]) -> None:
        super().__init__(f"{what} is not finite: {values}")
        self.what, self.values = what, values


@dataclass(frozen=True)
class Step:
    """The outcome of one optimizer step, over all processes.

    Attributes:
        losses: the loss terms of the batch.
        assigned: what the assignment did; empty in most steps (:mod:`aweigh.train.tracking.telemetry`).
    """

    losses: dict[str, float]
    assigned: telemetry.Sums


@dataclass(frozen=True)
class Launched:
    """A step that a device was asked for; it may not have computed it yet.

    Attributes:
        names: of the loss terms.
        measured: [names + 1] float64 on the device, the loss terms and the norm of the gradient, over all processes.
        assigned: see :class:`Step`.
    """

    names: tuple[str, ...]
    measured: Tensor
    assigned: telemetry.Sums

    def outcome(self, values: Sequence[float]) -> Step:
        """The step, from the fetched ``measured``. Raises NotFinite."""
        *terms, gradient_norm = values
        losses = dict(zip(self.names, terms, strict=True))
        _require_finite("loss", losses)
        _require_finite("gradient", {"gradient norm": gradient_norm})
        return Step(losses, self.assigned)


def fetch(steps: Sequence[Launched]) -> list[list[float]]:
    """The ``measured`` values of some steps; the host waits for them once."""
    if not steps:
        return []
    rows = iter(torch.cat([step.measured for step in steps]).tolist())
    return [[next(rows) for _ in range(len(step.names) + 1)] for step in steps]


def _require_finite(what: str, values: dict[str, float]) -> None:
    if not all(math.isfinite(value) for value in values.values()):
        raise NotFinite(what, values)
