"""Layers by name: the convolutions of a graph, called as in the checkpoint (``backbone.layer1.0.conv2``)."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir as ir
from torch import nn

from aweigh.runtime.errors import BadInput

# Operators between a weight and its convolution where precision is lowered.
_PASSES = {"Cast", "Identity", "QuantizeLinear", "DequantizeLinear"}


def convolutions(graph: ir.Graph) -> Iterator[tuple[str, ir.Node]]:
    """(layer, node) of each convolution, in order; a layer that several pyramid levels share comes several times."""
    for node in graph:
        if node.op_type != "Conv":
            continue
        weight = node.inputs[1]
        while weight is not None and (producer := weight.producer()) is not None and producer.op_type in _PASSES:
            weight = producer.inputs[0]
        assert weight is not None
        assert weight.name is not None
        yield weight.name.removesuffix(".weight"), node


def layer_names(detector: nn.Module) -> list[str]:
    """The layers of a network that can be kept high: convolutions, and a transformer's products."""
    return [name for name, module in detector.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def is_below(layer: str, folder: str) -> bool:
    """Whether ``layer`` is ``folder`` or lies in it: ``neck.output.0`` in ``neck.output``."""
    return layer == folder or layer.startswith(folder + ".")


def require_layers(wanted: Collection[str], layers: Collection[str]) -> None:
    """Raises BadInput where a name of --keep-high is no layer and no folder of layers."""
    for name in wanted:
        if not any(is_below(layer, name) for layer in layers):
            known = list(dict.fromkeys(layers))
            raise BadInput(
                f"--keep-high {name!r}: no such layer; expected layers or their folders, "
                f"of {', '.join(known[:3])} to {known[-1]} ({len(known)}; --bisect lists them)"
            )
