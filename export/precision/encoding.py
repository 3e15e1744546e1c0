"""Two encodings of a quantised graph.

``tensorrt``: int8 with zero point 0 throughout, weights float with Q and DQ behind them: what its parser takes.
``onnxruntime``: activations as uint8, weights int8, biases int32: the form whose convolutions onnxruntime computes in
integers on a CPU; signed activations are computed there in float. The zero point is 128 (each integer plus 128). Behind
a relu it is 0: no value lies below, and the same range has 255 steps in place of 127.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common as passes

from aweigh.export.precision.qdq import (
    array_of,
    by_channel,
    chain_to_quantize,
    connect_float_convolutions,
    constant,
    input_of,
    integer_bias,
    nodes_of,
    put,
    quantized_convolutions,
)
from aweigh.export.precision.tidy import LARGEST_INTEGER

Encoding = Literal["onnxruntime", "tensorrt"]
ZERO_POINT = 128


def for_tensorrt(model: ir.Model) -> ir.Model:
    """A copy in TensorRT's encoding of a graph that :func:`aweigh.export.precision.tidy.tidy` went over.

    Convolutions in float read the sums of a quantised one unrounded, too: TensorRT computes int8 convolutions with
    float results. ONNX Runtime does not: there the rounding is a part of the convolution, which would be computed in
    float without it.
    """
    result = model.clone()
    connect_float_convolutions(result.graph, lambda source: True)
    passes.RemoveUnusedNodesPass()(result)
    return result


def for_onnxruntime(model: ir.Model) -> ir.Model:
    """A copy in onnxruntime's encoding of a graph that :func:`aweigh.export.precision.tidy.tidy` went over."""
    result = model.clone()
    graph = result.graph
    for node in nodes_of(graph, "Relu"):
        _finer_behind(node)
    dequantized = [_dequantized_bias(graph, node) for node in quantized_convolutions(graph) if len(node.inputs) == 3]
    for node in nodes_of(graph, "QuantizeLinear"):
        source = input_of(node, 0)
        if source.is_initializer():  # a weight: quantised here and now
            weight = array_of(source)
            per_channel = by_channel(array_of(input_of(node, 1)), weight.ndim)
            put(source, np.clip(np.rint(weight / per_channel), -128, 127).astype(np.int8))
            node.outputs[0].replace_all_uses_with(source)
            graph.remove(node, safe=True)
        elif array_of(input_of(node, 2)).dtype != np.uint8:
            put(input_of(node, 2), np.array(ZERO_POINT, np.uint8))
    graph.insert_before(graph.node(0), dequantized)  # their inputs are constants
    for relu in nodes_of(graph, "Relu"):
        _relu_in_integers(graph, relu)
    return result


def _finer_behind(relu: ir.Node) -> None:
    """What a relu leaves, in uint8 from 0 on; the rounding before it too where it has the relu's scale."""
    chain = chain_to_quantize(relu)
    if chain is None:
        return
    nodes, scale = [chain[-1]], array_of(input_of(chain[-1], 1))
    before = _rounding_before(relu, scale)
    if before is not None and len(input_of(relu, 0).uses()) == 1:
        nodes.append(before)
    for node in nodes:
        put(input_of(node, 1), (scale * np.float32(LARGEST_INTEGER / 255)).astype(np.float32))
        put(input_of(node, 2), np.array(0, np.uint8))


def _rounding_before(relu: ir.Node, scale: npt.NDArray[Any]) -> ir.Node | None:
    """The QuantizeLinear whose dequantised value a relu reads, where it has this scale."""
    dequantize = input_of(relu, 0).producer()
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    quantize = input_of(dequantize, 0).producer()
    assert quantize is not None
    return quantize if np.array_equal(array_of(input_of(quantize, 1)), scale) else None


def _dequantized_bias(graph: ir.Graph, node: ir.Node) -> ir.Node:
    """The bias of a convolution as int32, and the node that gives it back as float, not yet in the graph."""
    integers, step = integer_bias(node)
    bias = input_of(node, 2)
    scale = constant(graph, f"{bias.name}_scale", step)
    zero = constant(graph, f"{bias.name}_zero_point", np.zeros(len(step), np.int32))
    put(bias, integers)
    as_float = ir.val(f"{bias.name}_float", ir.DataType.FLOAT, integers.shape)
    node.replace_input_with(2, as_float)
    return ir.node("DequantizeLinear", [bias, scale, zero], {"axis": 0}, outputs=[as_float], name=f"{bias.name}_DQ")


def _relu_in_integers(graph: ir.Graph, relu: ir.Node) -> None:
    """relu(x), then quantised, is max(quantised x, zero point): the same integers, and no way through float.

    With zero point 0 quantised x is that already. A max pooling between the two commutes with both. The dequantised
    value takes the name of the relu's output.
    """
    chain = chain_to_quantize(relu)
    if chain is None:
        return
    *pools, quantize = chain
    scale, zero = input_of(quantize, 1), input_of(quantize, 2)
    new: list[ir.Node] = []
    before = _rounding_before(relu, array_of(scale))
    if before is not None:
        integers, zero_before = before.outputs[0], array_of(input_of(before, 2))
        saturates = np.array_equal(zero_before, array_of(zero))
    else:
        integers, saturates = ir.val(f"{relu.outputs[0].name}_before_relu"), True
        new.append(ir.node("QuantizeLinear", [relu.inputs[0], scale, zero], outputs=[integers], name=f"{relu.name}_Q"))
    # From 0 on, the rounding itself cuts what lies below.
    nodes = pools if saturates and not array_of(zero) else [relu, *pools]
    for node in nodes:
        output = ir.val(f"{node.outputs[0].name}_quantized")
        if node is relu:
            new.append(ir.node("Max", [integers, zero], outputs=[output], name=node.name))
        else:
            new.append(ir.node("MaxPool", [integers], node.attributes, outputs=[output], name=node.name))
        integers = output
    graph.insert_before(relu, new)
    [dequantize] = quantize.outputs[0].consumers()
    dequantize.replace_input_with(0, integers)
    dequantize.outputs[0].name = input_of(quantize, 0).name
    graph.remove([relu, *chain], safe=True)
