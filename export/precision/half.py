"""The trunk in 16 bits: a copy of a detector whose layers compute in half or bfloat16, everything behind them in FP32.

Precision lives in the graph. It is set here, in torch, before tracing: converters of finished graphs put the decoding
of boxes into 16 bits or write files that ONNX Runtime refuses.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from aweigh.export.graph.layers import is_below
from aweigh.export.precision.kernels import sixteen_bits
from aweigh.train.models.detector import DenseDetector

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
# Norms too: ONNX wants a norm's input and its scale in one type.
_LAYERS = (nn.Conv2d, nn.GroupNorm, nn.LayerNorm, nn.Linear)


def lowered(detector: DenseDetector, dtype: torch.dtype, keep_high: Collection[str] = ()) -> DenseDetector:
    """A copy of ``detector`` for evaluation with its convolutions and norms in ``dtype``.

    Each layer casts its own input, and nothing casts its output: what is between two layers (relu, sums, resizing)
    stays in the higher precision of the two, so that a value too large for 16 bits survives behind a layer kept high
    until the next layer that is not. Normalisation of the input, scales of the regression, softmax and blur of ALA's
    foreground, decoding and all behind it are FP32.

    Args:
        keep_high: layers, or folders of layers (``backbone.layer4``), that stay in FP32; a group norm goes with the
            convolution before it, a layer norm by its own folder.
    """
    result = _folded(detector)
    low = set(_low_layers(result, keep_high))
    for layer in result.modules():
        if isinstance(layer, _LAYERS):
            if layer in low:
                _lower(layer, dtype)
            layer.register_forward_pre_hook(_cast_to_weight)
    return result


def rounded(detector: DenseDetector, dtype: torch.dtype, keep_high: Collection[str] = ()) -> DenseDetector:
    """A copy of ``detector`` that computes in FP32 what ``dtype`` would make of it: weights, inputs and outputs of each
    layer are rounded to nearest, sums are not.

    Like ``lowered``, whose weights are rounded with more care, as ONNX Runtime computes it on a CPU. It shows what
    rounding alone does to a network, whatever exported it.
    """
    result = _folded(detector)
    for layer in _low_layers(result, keep_high):
        layer.to(dtype).float()
        layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(dtype).float(), *inputs[1:]))
        layer.register_forward_hook(lambda _, inputs, output: output.to(dtype).float())
    return result


def _folded(detector: DenseDetector) -> DenseDetector:
    """A copy for evaluation, its batch norms folded while in FP32: 1 / sqrt(variance + 1e-5) overflows in 16 bits."""
    result = copy.deepcopy(detector).eval()
    _fold_batch_norm(result)
    return result


def _low_layers(detector: DenseDetector, keep_high: Collection[str]) -> Iterator[nn.Module]:
    """The layers that compute in 16 bits; a group norm goes with the convolution before it."""
    high = False
    for name, layer in detector.named_modules():
        if not isinstance(layer, _LAYERS):
            continue
        if not isinstance(layer, nn.GroupNorm):
            high = any(is_below(name, kept) for kept in keep_high)
        if not high:
            yield layer


def _lower(layer: nn.Module, dtype: torch.dtype) -> None:
    """In place, its kernels keeping their sums."""
    weight = sixteen_bits(layer.weight, dtype) if isinstance(layer, nn.Conv2d) else None
    layer.to(dtype)
    if weight is not None:
        layer.weight.data = weight


def _cast_to_weight(layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].to(layer.weight.dtype), *inputs[1:])


def _fold_batch_norm(module: nn.Module) -> None:
    """Every batch norm into the convolution registered before it, in place."""
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            if before is None or not isinstance(before[1], nn.Conv2d):
                raise TypeError(f"batch norm {name}: expected a convolution before it")
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, nn.Identity())
        else:
            _fold_batch_norm(child)
        before = (name, child)
