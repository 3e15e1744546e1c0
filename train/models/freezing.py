"""Parts of a network that do not learn: first stages of the backbone, BatchNorm with the statistics it came with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.train.models.detector import DenseDetector
from aweigh.train.models.efficientnet import EfficientNetLite
from aweigh.train.models.swin import Swin

_BATCH_NORMS = nn.modules.batchnorm._BatchNorm


def freeze(detector: DenseDetector, stages: int, norm: str) -> None:
    """Fix parts of the backbone; what is fixed stays in evaluation mode in spite of ``train()``.

    Args:
        stages: -1 none, 0 the stem, 1 the first stage too, ... Their parameters learn nothing.
        norm: ``learned`` as usual; ``fixed`` keeps the running statistics of the backbone's BatchNorm, ``frozen``
            its weights and biases too.

    Raises:
        BadInput: more stages than the backbone has.
    """
    parts = _parts(detector.backbone)
    if stages >= len(parts):
        raise BadInput(f"--frozen-stages {stages}: the backbone has the stem (0) and {len(parts) - 1} stages")
    still = [module for part in parts[: stages + 1] for module in part]
    for part in still:
        part.requires_grad_(False)
    norms = [module for module in detector.backbone.modules() if isinstance(module, _BATCH_NORMS)]
    if norm != "learned":
        still += norms
    if norm == "frozen":
        for module in norms:
            module.requires_grad_(False)
    detector.fixed = tuple(still)
    detector.train(detector.training)


def _parts(backbone: nn.Module) -> list[list[nn.Module]]:
    """The stem, then each stage."""
    if isinstance(backbone, EfficientNetLite):
        return backbone.parts()
    if isinstance(backbone, Swin):
        return [[part] for part in backbone.parts()]
    children = dict(backbone.named_children())
    stem = [child for name, child in children.items() if not name.startswith("layer")]
    return [stem, *([child] for name, child in children.items() if name.startswith("layer"))]


def synchronised(detector: DenseDetector, processes: int, device: torch.device) -> DenseDetector:
    """The detector with BatchNorm over all processes; with one process it is what it was.

    Raises CannotRun on a CPU, where torch has no such layer.
    """
    if processes == 1:
        return detector
    if device.type != "cuda":
        raise CannotRun(
            f"--sync-bn on {device.type}: torch synchronises BatchNorm only on CUDA; take --backbone-norm frozen"
        )
    fixed = {id(module) for part in detector.fixed for module in part.modules()}
    convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm  # untyped in torch
    for name, module in list(detector.named_modules()):
        if isinstance(module, nn.BatchNorm2d) and id(module) not in fixed:
            parent, _, child = name.rpartition(".")
            setattr(detector.get_submodule(parent), child, convert(module))
    return detector
