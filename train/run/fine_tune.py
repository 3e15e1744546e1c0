"""``--weights best.pt``: start from an aweigh checkpoint, also one of other classes, method or network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import ModelSpec
from aweigh.train.checkpoint import FORMAT, Checkpoint, load_checkpoint
from aweigh.train.config import TrainConfig
from aweigh.train.loop.optim import WeightAverage
from aweigh.train.models.detector import DenseDetector, build_detector
from aweigh.train.process.console import say
from aweigh.train.weights.backbone import load_backbone
from aweigh.train.weights.imagenet import PUBLISHED, WORD, imagenet_source
from aweigh.train.weights.origin import RANDOM, origin_of_checkpoint, origin_of_weights
from aweigh.train.weights.source import fetch_weights
from aweigh.train.weights.tensor_file import read_tensors


@dataclass(frozen=True)
class Transfer:
    """The tensors that a network took from a checkpoint.

    Attributes:
        loaded: tensors taken as they are.
        class_names: classes whose rows of the class-wise tensors were taken, by name.
        new_classes: classes that start afresh.
        unfit: tensors of the network that start afresh, by name: shape in the file (None: not there), in the network.
        unused: tensors of the file that the network does not have, by name with their shape.
    """

    loaded: int
    class_names: list[str]
    new_classes: list[str]
    unfit: dict[str, tuple[list[int] | None, list[int]]]
    unused: dict[str, list[int]]

    def lines(self) -> list[str]:
        """For the log: the tensors taken, and the others by name with shapes."""
        lines = [f"{self.loaded} tensors taken as they are"]
        if self.class_names:
            lines.append(f"outputs of classes known by name: {', '.join(self.class_names)}")
        if self.new_classes:
            lines.append(f"new classes, outputs start afresh: {', '.join(self.new_classes)}")
        for name, (there, here) in self.unfit.items():
            stored = "not in the file" if there is None else f"{there} in the file"
            lines.append(f"starts afresh: {name}: {stored}, {here} in the network")
        lines += [f"not used: {name} {shape}" for name, shape in self.unused.items()]
        return lines

    def to_dict(self) -> dict[str, Any]:
        return {
            "loaded": self.loaded,
            "class_names": self.class_names,
            "new_classes": self.new_classes,
            "unfit": {name: {"file": there, "network": here} for name, (there, here) in self.unfit.items()},
            "unused": self.unused,
        }


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    Attributes:
        origin: entries for the parents of the model's spec.
        transfer: the tensors taken from a checkpoint; None for a backbone, or where the recipe names no weights.
    """

    origin: dict[str, str]
    transfer: Transfer | None = None


def load_weights(detector: DenseDetector, average: WeightAverage, spec: ModelSpec, config: TrainConfig) -> Start:
    """Start from ``--weights``: every fitting tensor of an aweigh checkpoint, or the backbone's of any other file.

    Raises:
        BadInput, CannotRun: as ``fetch_weights``, ``start_from`` and ``load_backbone``.
    """
    if not config.weights:
        if spec.architecture in PUBLISHED:
            say("starts from random weights; --weights imagenet reaches the same AP in far fewer iterations")
        return Start(RANDOM)
    path = fetch_weights(imagenet_source(config.model) if config.weights == WORD else config.weights)
    if is_checkpoint(path):
        checkpoint = load_checkpoint(path)
        transfer = start_from(detector, spec, config, checkpoint)
        start = Start(origin_of_checkpoint(path, checkpoint.sha256, checkpoint.spec.parents), transfer)
        say(f"weights from {config.weights}")
        for line in transfer.lines():
            say(f"  {line}")
    else:
        start = Start(origin_of_weights(config.weights, path))
        say(f"backbone weights from {config.weights}: {load_backbone(detector.backbone, str(path))}")
    average.update(detector, -1)  # decay 0: the average starts from these weights
    return start


def is_checkpoint(path: Path) -> bool:
    """Whether the file is an aweigh checkpoint (and not, say, a backbone's weights).

    Raises:
        BadInput: as :func:`~aweigh.train.weights.tensor_file.read_tensors`.
    """
    if path.suffix == ".safetensors":
        return False
    content = read_tensors(path, "--weights")
    return isinstance(content, dict) and content.get("format") == FORMAT


def start_from(detector: DenseDetector, spec: ModelSpec, config: TrainConfig, checkpoint: Checkpoint) -> Transfer:
    """Load what fits of a checkpoint's averaged weights into a network.

    Class-wise tensors (one row for each class) are taken row by row, by the names of the classes: equal numbers of
    classes do not make them the same classes.

    Args:
        detector: of ``spec`` and ``config``, with fresh weights; its values change.

    Raises:
        BadInput: nothing of the backbone fits.
    """
    own = detector.state_dict()
    class_wise = _class_wise(detector, spec, config)
    taken: dict[str, Tensor] = {}
    unfit: dict[str, tuple[list[int] | None, list[int]]] = {}
    ours, theirs = [list(s.names.values()) for s in (spec, checkpoint.spec)]
    known = [name for name in ours if name in theirs]
    rows_taken = False
    for name, fresh in own.items():
        there = checkpoint.weights.get(name)
        if there is not None and name in class_wise and _rows_fit(there, fresh, checkpoint, spec) and known:
            taken[name] = fresh.clone()
            for class_name in known:
                taken[name][ours.index(class_name)] = there[theirs.index(class_name)].to(fresh.device)
            rows_taken = True
        elif there is not None and name not in class_wise and there.shape == fresh.shape:
            taken[name] = there
        else:
            unfit[name] = (None if there is None else list(there.shape), list(fresh.shape))
    if not any(name.startswith("backbone.") and tensor.ndim > 1 for name, tensor in taken.items()):
        raise BadInput(
            f"--weights {checkpoint.path}: nothing of its backbone ({checkpoint.spec.architecture}) fits "
            f"{spec.architecture}; train --model {checkpoint.spec.architecture}, or start from other weights"
        )
    detector.load_state_dict(taken, strict=False)
    return Transfer(
        loaded=len(set(taken) - class_wise),
        class_names=known if rows_taken else [],
        new_classes=[name for name in ours if name not in known] if rows_taken else ours,
        unfit=unfit,
        unused={name: list(tensor.shape) for name, tensor in checkpoint.weights.items() if name not in own},
    )


def _class_wise(detector: DenseDetector, spec: ModelSpec, config: TrainConfig) -> set[str]:
    """Names of the tensors whose first side is the number of classes: those that one class more makes longer."""
    size = len(spec.categories)
    with torch.device("meta"):
        larger = build_detector(spec.architecture, spec.method, size + 1, spec.input, config.network, config.options)
    shapes = {name: tensor.shape for name, tensor in larger.state_dict().items()}
    return {name for name, tensor in detector.state_dict().items() if shapes[name] != tensor.shape}


def _rows_fit(there: Tensor, here: Tensor, checkpoint: Checkpoint, spec: ModelSpec) -> bool:
    """One row for each class on both sides, and rows of one shape."""
    if not there.ndim:
        return False
    counted = len(there) == len(checkpoint.spec.categories) and len(here) == len(spec.categories)
    return counted and there.shape[1:] == here.shape[1:]
