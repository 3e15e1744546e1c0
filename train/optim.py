"""Optimizer, learning-rate schedule and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def make_optimizer(
    model: nn.Module, name: str, lr: float, weight_decay: float, momentum: float
) -> torch.optim.Optimizer:
    """AdamW or SGD; biases, normalisation and learned scalars are not decayed."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum)
    return torch.optim.AdamW(groups, lr=lr)


def lr_factor(iteration: int, total: int, warmup: float, schedule: str, last: float, steps: Sequence[float]) -> float:
    """Share of the peak learning rate at an iteration, 0-based: linear rise, then cosine or steps of a tenth."""
    rise = max(1, round(warmup * total))
    if iteration < rise:
        return (iteration + 1) / rise
    if schedule == "step":
        return float(0.1 ** sum(iteration >= share * total for share in steps))
    done = (iteration - rise) / max(1, total - rise)
    return last + (1 - last) * (1 + math.cos(math.pi * done)) / 2


class WeightAverage:
    """Exponential moving average of parameters and buffers; what is validated, kept as best and exported.

    The decay rises with the iterations as (1 + n) / (10 + n) up to its bound, so that a short run is not held back by
    its first random weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, iteration: int) -> None:
        decay = min(self.decay, (1 + iteration) / (10 + iteration))
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                averaged.append(self.state[name])
                current.append(tensor.detach())
            else:
                self.state[name].copy_(tensor)
        torch._foreach_lerp_(averaged, current, 1 - decay)
