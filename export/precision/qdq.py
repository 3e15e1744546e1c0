"""What a graph with QuantizeLinear and DequantizeLinear is made of: constants, scales, and the chains between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir


def by_channel(scale: npt.NDArray[Any], dimensions: int) -> npt.NDArray[np.float64]:
    """[O, 1, ...] from [O] or from one for all."""
    return scale.astype(np.float64).reshape(-1, *[1] * (dimensions - 1))


def connect_float_convolutions(graph: ir.Graph, wanted: Callable[[ir.Value], bool]) -> None:
    """Convolutions in float that read a tensor quantised and dequantised: they read the tensor, where it is wanted."""
    quantized = quantized_convolutions(graph)
    for node in nodes_of(graph, "Conv"):
        dequantize = input_of(node, 0).producer()
        if node in quantized or dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        quantize = input_of(dequantize, 0).producer()
        assert quantize is not None
        if wanted(input_of(quantize, 0)):
            node.replace_input_with(0, input_of(quantize, 0))


def nodes_of(graph: ir.Graph, operator: str) -> list[ir.Node]:
    return [node for node in graph if node.op_type == operator]


def operator_before(node: ir.Node, position: int) -> str | None:
    producer = input_of(node, position).producer()
    return None if producer is None else producer.op_type


def quantized_convolutions(graph: ir.Graph) -> list[ir.Node]:
    return [
        node
        for node in nodes_of(graph, "Conv")
        if all(operator_before(node, position) == "DequantizeLinear" for position in (0, 1))
    ]


def chain_to_quantize(relu: ir.Node, operator: str = "Relu") -> list[ir.Node] | None:
    """The nodes from a relu (or another ``operator``) to its quantisation, at most a max pooling between; else None."""
    chain: list[ir.Node] = []
    readers = relu.outputs[0].consumers() if relu.op_type == operator else ()
    while len(readers) == 1 and readers[0].op_type == "MaxPool" and len(readers[0].outputs) == 1:
        chain.append(readers[0])
        readers = readers[0].outputs[0].consumers()
    return [*chain, readers[0]] if len(readers) == 1 and readers[0].op_type == "QuantizeLinear" else None


def scales(convolution: ir.Node) -> tuple[ir.Value, ir.Value]:
    """Of the input and of the weight of a quantised convolution."""
    first, second = (input_of(convolution, position).producer() for position in (0, 1))
    assert first is not None
    assert second is not None
    return input_of(first, 1), input_of(second, 1)


def integer_bias(convolution: ir.Node) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Bias of a quantised convolution as whole numbers, and the step of each channel."""
    of_input, of_weight = scales(convolution)
    step = (array_of(of_input) * array_of(of_weight)).astype(np.float32)
    return np.rint(array_of(input_of(convolution, 2)).astype(np.float64) / step).astype(np.int32), step


def input_of(node: ir.Node, position: int) -> ir.Value:
    value = node.inputs[position]
    assert value is not None, f"{node.op_type} {node.name}: input {position} is left out"
    return value


def array_of(value: ir.Value) -> npt.NDArray[Any]:
    assert value.const_value is not None, f"{value.name}: expected a constant"
    return value.const_value.numpy()


def put(constant: ir.Value, content: npt.NDArray[Any]) -> None:
    constant.const_value = ir.tensor(content, name=constant.name)
    # A type of its own: a copy of a graph shares the types of the graph that it was made from.
    constant.type = ir.TensorType(constant.const_value.dtype)
    constant.shape = ir.Shape(content.shape)


def constant(graph: ir.Graph, name: str, content: npt.NDArray[Any]) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(content, name=name))
    graph.register_initializer(value)
    return value
