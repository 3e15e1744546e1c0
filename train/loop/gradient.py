"""Loss and gradient of the images of one step, at once or in parts that take less memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from aweigh.train.data.loading.loader import Batch
from aweigh.train.dense.points import Points
from aweigh.train.kernels.transfer import on_device
from aweigh.train.methods import Predictions, Targets
from aweigh.train.methods.values import Maps
from aweigh.train.models.detector import DenseDetector


@dataclass(frozen=True)
class Outcome:
    """The loss terms of a batch on this process, detached, and the values they were computed from."""

    losses: dict[str, Tensor]
    predictions: Predictions
    points: Points
    targets: Targets


def backward(
    fabric: Fabric, model: Any, detector: DenseDetector, batch: Batch, progress: float, parts: int = 1
) -> Outcome:
    """Add the gradient of a batch to that of the parameters, averaged over the processes.

    In several parts the result is that of the whole batch, except for rounding: normalisers and assignments of the
    methods count over all of it. So the loss is computed once, on the outputs of all parts, which a first pass without
    gradient gives; a second pass takes the gradient of the outputs back through the network part by part. That costs a
    further forward pass and holds the activations of only one part. (BatchNorm, unless frozen, normalises by the
    images of a part, as it does by those of a process.)

    Args:
        model: ``detector`` as Fabric set it up.
        progress: of the run, 0 to 1.
    """
    device = fabric.device
    pieces = batch.parts(parts)
    targets = Targets.join(batch.boxes_xyxy, batch.labels, device)
    if len(pieces) == 1:
        maps = model(on_device(batch.images_u8, device))
        outcome, total = _loss(detector, maps, targets, progress)
        fabric.backward(total)
        return outcome
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        joined = _joined([_outputs(model, detector, piece, device) for piece in pieces])
    outcome, total = _loss(detector, joined, targets, progress)
    # Parameters that the loss itself uses, as learned priors: their gradient goes in with the last part's.
    own = [parameter for parameter in detector.method.parameters() if parameter.requires_grad]
    outputs = [tensor for level in joined for tensor in level.values()]
    slopes = torch.autograd.grad(total, [*outputs, *own], allow_unused=True, materialize_grads=True)
    at = 0
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        with fabric.no_backward_sync(model, enabled=not last):
            maps = model(on_device(piece.images_u8, device))
            again = [tensor for level in maps for tensor in level.values()]
            rows = slice(at, at + len(piece.images_u8))
            # The gradient of this sum is the slope; the sum itself has no meaning.
            terms = [(tensor * slope[rows]).sum() for tensor, slope in zip(again, slopes, strict=False)]
            if last:
                terms += [(tensor * slope).sum() for tensor, slope in zip(own, slopes[len(outputs) :], strict=True)]
            fabric.backward(sum(terms, torch.zeros((), device=device)))
        at = rows.stop
    return outcome


def _loss(detector: DenseDetector, maps: list[Maps], targets: Targets, progress: float) -> tuple[Outcome, Tensor]:
    points, predictions = detector.read(maps)
    losses = detector.method.loss(predictions, points, targets, progress)
    total = sum(losses.values(), torch.zeros((), device=predictions.reg.device))
    return Outcome({name: value.detach() for name, value in losses.items()}, predictions, points, targets), total


@torch.no_grad()
def _outputs(model: Any, detector: DenseDetector, piece: Batch, device: torch.device) -> list[Maps]:
    """The maps of a part, as the pass with gradient will give them again; buffers stay."""
    buffers = [buffer.clone() for buffer in detector.buffers()]
    maps: list[Maps] = model(on_device(piece.images_u8, device))
    for buffer, before in zip(detector.buffers(), buffers, strict=True):
        buffer.copy_(before)
    return maps


def _joined(parts: Sequence[list[Maps]]) -> list[Maps]:
    """Maps of all parts as leaves of a graph of their own."""
    levels = range(len(parts[0]))
    return [
        {name: torch.cat([part[i][name] for part in parts]).requires_grad_() for name in parts[0][i]} for i in levels
    ]
