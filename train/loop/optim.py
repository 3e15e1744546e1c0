"""Optimizer, learning-rate schedule and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
# What an optimizer keeps for a parameter, by the name of the optimizer.
KEPT = {"adamw": {"step", "exp_avg", "exp_avg_sq"}, "sgd": {"momentum_buffer"}}


def make_optimizer(
    model: nn.Module,
    name: str,
    lr: float,
    weight_decay: float,
    momentum: float,
    undecayed: Sequence[str] = ("norm", "bias", "scale"),
    bias_lr: float = 1.0,
    device: torch.device | None = None,
) -> torch.optim.Optimizer:
    """AdamW or SGD over what requires a gradient.

    Args:
        undecayed: kinds of parameters without weight decay: ``norm`` (of normalisation layers), ``bias``, ``scale``
            (learned scalars and vectors that are neither). A Swin's position biases are biases.
        bias_lr: factor on the learning rate of ``bias``; each group holds its own as ``lr_share``.
        device: where the model will be; on a GPU the optimizer steps in one kernel for many parameters.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {(True, 1.0): [], (False, 1.0): []}
    for kind, parameter in _kinds(model):
        share = bias_lr if kind == "bias" else 1.0
        groups.setdefault((kind not in undecayed, share), []).append(parameter)
    described: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": weight_decay if decayed else 0.0, "lr_share": share}
        for (decayed, share), parameters in groups.items()
    ]
    fused = _fused(device)
    if name == "sgd":
        return torch.optim.SGD(described, lr=lr, momentum=momentum, fused=fused)
    return torch.optim.AdamW(described, lr=lr, fused=fused)


def load_optimizer(optimizer: Any, state: Mapping[str, Any], device: torch.device) -> None:
    """Give an optimizer the state of one that may have been on another kind of device: fused on this one, or not."""
    groups = [{**group, "fused": _fused(device)} for group in state["param_groups"]]
    optimizer.load_state_dict({**state, "param_groups": groups})


def _fused(device: torch.device | None) -> bool | None:
    """None leaves a CPU's arithmetic as it is."""
    return True if device is not None and device.type == "cuda" else None


def _kinds(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Every learning parameter once, with its kind: weight, norm, bias or scale."""
    seen: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            if isinstance(module, _NORMS):
                yield "norm", parameter
            elif name == "bias" or name.endswith("position_bias_table"):
                yield "bias", parameter
            else:
                yield "weight" if parameter.ndim > 1 else "scale", parameter


def scaled_lr(lr: float, batch: int, lr_batch: int) -> float:
    """The learning rate for steps of ``batch`` images, where ``lr`` is meant for ``lr_batch``; 0 does not scale it."""
    return lr * batch / lr_batch if lr_batch else lr


@dataclass(frozen=True)
class Schedule:
    """Share of the peak learning rate at each iteration: a warm-up, then a cosine or steps of a tenth.

    Attributes:
        kind: ``cosine`` or ``step``.
        last: where the cosine ends, as a share of the peak.
        steps: shares of the run at which ``step`` divides by ten.
        warmup: share of the run; ``warmup_iterations``, where given, is its length instead.
        warmup_from: share of the peak before the first iteration of a ``linear`` warm-up, or during a ``constant`` one.
    """

    kind: str
    last: float = 0.01
    steps: Sequence[float] = ()
    warmup: float = 0.0
    warmup_iterations: int = 0
    warmup_from: float = 0.0
    warmup_kind: str = "linear"

    def __call__(self, iteration: int, total: int) -> float:
        """At an iteration, counted from 0, of ``total``."""
        rise = max(1, self.warmup_iterations or round(self.warmup * total))
        done = (iteration - rise) / max(1, total - rise)
        if iteration < rise and self.warmup_kind == "constant":
            warm = self.warmup_from if self.warmup or self.warmup_iterations else 1.0
        else:
            warm = min(1.0, self.warmup_from + (1 - self.warmup_from) * (iteration + 1) / rise)
        if self.kind == "step":  # multiplied: a warm-up may outlast the first step
            return float(warm * 0.1 ** sum(iteration >= round(share * total) for share in self.steps))
        return warm * (self.last + (1 - self.last) * (1 + math.cos(math.pi * max(0.0, done))) / 2)


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
        copies: list[Tensor] = []
        counts: list[Tensor] = []
        for name, tensor in model.state_dict().items():
            real = tensor.is_floating_point()
            (averaged if real else copies).append(self.state[name])
            (current if real else counts).append(tensor.detach())
        torch._foreach_lerp_(averaged, current, 1 - decay)
        if copies:
            torch._foreach_copy_(copies, counts)
