"""What both encodings of a quantised graph share (:mod:`aweigh.export.precision.encoding`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common as passes

from aweigh.export.precision.bias import shifts
from aweigh.export.precision.kernels import whole_numbers
from aweigh.export.precision.qdq import (
    array_of,
    by_channel,
    chain_to_quantize,
    connect_float_convolutions,
    constant,
    input_of,
    integer_bias,
    nodes_of,
    operator_before,
    put,
    quantized_convolutions,
    scales,
)

LARGEST_INTEGER = 127  # in int8, around 0
_ROUNDING = 1e-6  # of the scale, a float32
# Whole numbers stay whole numbers behind them.
_COMMUTE_WITH_ROUNDING = ("Relu", "Clip", "MaxPool", "QuantizeLinear", "DequantizeLinear")
_LARGEST_BIAS = 1 << 29  # as an integer; room for the sum it is added to, and for steps half as large behind a relu


def tidy(model: ir.Model, means: Mapping[str, npt.NDArray[np.float64]]) -> None:
    """Changes that both encodings share, in place.

    ``means``: of each channel of the tensors that convolutions read, by name; see :mod:`aweigh.export.precision.bias`.

    * A convolution that stays in float reads the float tensor where it shares its input with a quantised one: Q and DQ
      were put on the tensor, for all its readers. What comes from a quantised convolution is rounded in any case.
    * A clip from 0 on (ReLU6) that is quantised at once becomes a relu: its range was measured behind it, so that the
      rounding to whole numbers saturates where it clips, or below. The next point then holds for it too.
    * A convolution that only another clip reads, one before a convolution that stays in float, is rounded within the
      clip's bounds: its own range can be fifty times as wide.
    * A convolution that only a relu reads is quantised by the relu's scale: what the range of negative values would
      take of the 8 bits is lost in the relu, and the second rounding finds whole numbers.
    * Biases become multiples of the scale of their convolution's sums, as integer arithmetic has them. A channel with
      next to no weights has so small a scale that its bias would not fit in 32 bits; its scale is raised. Before,
      weights are rounded so that each kernel keeps its sum (:mod:`aweigh.export.precision.kernels`), and what that
      adds to the mean of a sum is taken off its bias.
    """
    graph = model.graph
    quantized = quantized_convolutions(graph)
    connect_float_convolutions(graph, lambda source: _made_by(source) not in quantized)
    for node in nodes_of(graph, "Clip"):
        _clip_as_relu(graph, node)
    for node in nodes_of(graph, "Clip"):  # that is left
        _round_within(node)
    for node in nodes_of(graph, "QuantizeLinear"):
        if operator_before(node, 0) != "Conv":
            continue
        [dequantize] = node.outputs[0].consumers()
        chains = [chain_to_quantize(reader) for reader in dequantize.outputs[0].consumers()]
        if len(chains) == 1 and chains[0] is not None:
            put(input_of(node, 1), array_of(input_of(chains[0][-1], 1)))
    with_bias = [node for node in quantized_convolutions(graph) if len(node.inputs) == 3]
    for node in with_bias:
        of_input, of_weight = scales(node)
        least = np.abs(array_of(input_of(node, 2))) / (array_of(of_input) * _LARGEST_BIAS)
        put(of_weight, np.maximum(array_of(of_weight), least).astype(np.float32))
    weights = {_rounded_from(node, 1): scales(node)[1] for node in quantized_convolutions(graph)}
    exact = {weight: array_of(weight) for weight in weights}
    for weight, of_weight in weights.items():
        scale = by_channel(array_of(of_weight), exact[weight].ndim)
        rounded = whole_numbers(exact[weight] / scale, LARGEST_INTEGER) * scale
        put(weight, rounded.astype(np.float32))
    for node in with_bias:
        bias = array_of(input_of(node, 2)) - _shift(node, exact[_rounded_from(node, 1)], means)
        node.replace_input_with(2, constant(graph, f"{node.name}.unshifted", bias.astype(np.float32)))
        integers, step = integer_bias(node)
        node.replace_input_with(2, constant(graph, f"{node.name}.bias", integers.astype(np.float32) * step))
    passes.RemoveUnusedNodesPass()(model)


def _shift(
    convolution: ir.Node, exact: npt.NDArray[Any], means: Mapping[str, npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    """Of each channel of a quantised convolution, by the rounding of its ``exact`` weights; 0 where no means are
    known.
    """
    read, weight = (_rounded_from(convolution, position) for position in (0, 1))
    mean = means.get(read.name or "")
    if mean is None:
        return np.zeros(len(exact))
    return shifts(exact, array_of(weight), mean, convolution.attributes.get_int("group", 1))


def _rounded_from(convolution: ir.Node, position: int) -> ir.Value:
    """The tensor whose rounded values a quantised convolution reads."""
    dequantize = input_of(convolution, position).producer()
    assert dequantize is not None
    quantize = input_of(dequantize, 0).producer()
    assert quantize is not None
    return input_of(quantize, 0)


def _clip_as_relu(graph: ir.Graph, clip: ir.Node) -> None:
    low, high = (clip.inputs[position] if len(clip.inputs) > position else None for position in (1, 2))
    chain = chain_to_quantize(clip, "Clip")
    if chain is None or low is None or low.const_value is None or array_of(low) != 0:
        return
    largest = LARGEST_INTEGER * float(array_of(input_of(chain[-1], 1)))
    if high is not None and (high.const_value is None or largest > float(array_of(high)) * (1 + _ROUNDING)):
        return
    relu = ir.node("Relu", [clip.inputs[0]], outputs=[ir.val(f"{clip.outputs[0].name}_relu")], name=clip.name)
    graph.insert_before(clip, relu)
    name = clip.outputs[0].name
    relu.outputs[0].type, relu.outputs[0].shape = clip.outputs[0].type, clip.outputs[0].shape
    clip.outputs[0].replace_all_uses_with(relu.outputs[0])
    graph.remove(clip, safe=True)
    relu.outputs[0].name = name


def _round_within(clip: ir.Node) -> None:
    """The rounding that only this clip reads saturates at its bounds: what lies beyond is clipped in any case."""
    bounds = [clip.inputs[position] if len(clip.inputs) > position else None for position in (1, 2)]
    dequantize = input_of(clip, 0).producer()
    if dequantize is None or dequantize.op_type != "DequantizeLinear" or len(dequantize.outputs[0].consumers()) != 1:
        return
    if any(bound is None or bound.const_value is None for bound in bounds):
        return
    largest = max(float(np.abs(array_of(bound))) for bound in bounds if bound is not None)
    quantize = input_of(dequantize, 0).producer()
    assert quantize is not None
    scale = input_of(quantize, 1)
    if len(quantize.outputs[0].consumers()) == 1 and 0 < largest < LARGEST_INTEGER * float(array_of(scale)):
        put(scale, np.asarray(largest / LARGEST_INTEGER, np.float32))


def _made_by(value: ir.Value) -> ir.Node | None:
    """The node that computed a value, before rounding, clipping and pooling."""
    node = value.producer()
    while node is not None and node.op_type in _COMMUTE_WITH_ROUNDING:
        node = input_of(node, 0).producer()
    return node
