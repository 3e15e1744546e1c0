"""Two encodings of the same quantised integers.

``tensorrt``: int8 with zero point 0 throughout, weights float with Q and DQ behind them: what its parser takes.
``onnxruntime``: activations as uint8 with zero point 128 (each integer plus 128), weights int8, biases int32: the form
whose convolutions onnxruntime computes in integers on a CPU. Signed activations are computed there in float.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Encoding = Literal["onnxruntime", "tensorrt"]
ZERO_POINT = 128
_LARGEST_BIAS = 1 << 30  # as an integer; room for the sum it is added to


def tidy(model: onnx.ModelProto) -> None:
    """Changes in value that both encodings share, in place.

    * A convolution that only a relu reads is quantised by the relu's scale: what the range of negative values would
      take of the 8 bits is lost in the relu, and the second rounding finds whole numbers.
    * Biases become multiples of the scale of their convolution's sums, as integer arithmetic has them. A channel with
      next to no weights has so small a scale that its bias would not fit in 32 bits; its scale is raised.
    """
    parts = _Parts(model)
    for node in parts.nodes("QuantizeLinear"):
        if node.input[0] in parts.values or parts.producers[node.input[0]].op_type != "Conv":
            continue
        [dequantize] = parts.readers(node.output[0])
        chains = [parts.chain_to_quantize(reader) for reader in parts.readers(dequantize.output[0])]
        if len(chains) == 1 and chains[0] is not None:
            parts.put(node.input[1], parts.values[chains[0][-1].input[1]])
    with_bias = [node for node in parts.quantized_convolutions() if len(node.input) == 3]
    for node in with_bias:
        of_input, of_weight = (parts.producers[name].input[1] for name in node.input[:2])
        least = np.abs(parts.values[node.input[2]]) / (parts.values[of_input] * _LARGEST_BIAS)
        parts.put(of_weight, np.maximum(parts.values[of_weight], least).astype(np.float32))
    for node in with_bias:
        integers, step = parts.bias(node)
        node.input[2] = parts.add(f"{node.name}.bias", integers.astype(np.float32) * step)
    parts.drop_unused()


def for_onnxruntime(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in onnxruntime's encoding of a graph that :func:`tidy` went over."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    parts = _Parts(result)
    dequantized = []
    for node in parts.quantized_convolutions():
        if len(node.input) == 3:
            integers, step = parts.bias(node)
            name = node.input[2]
            zero = parts.add(f"{name}_zero_point", np.zeros(len(step), np.int32))
            scale = parts.add(f"{name}_scale", step)
            parts.put(name, integers)
            node.input[2] = f"{name}_float"
            dequantized.append(
                helper.make_node("DequantizeLinear", [name, scale, zero], [node.input[2]], name=f"{name}_DQ", axis=0)
            )
    for node in parts.nodes("QuantizeLinear"):
        if node.input[0] in parts.values:  # a weight: quantised here and now
            [reader] = parts.readers(node.output[0])
            weight = parts.values[node.input[0]]
            per_channel = parts.values[node.input[1]].reshape(-1, *[1] * (weight.ndim - 1))
            parts.put(node.input[0], np.clip(np.rint(weight / per_channel), -128, 127).astype(np.int8))
            reader.input[0] = node.input[0]
            result.graph.node.remove(node)
        else:
            parts.put(node.input[2], np.array(ZERO_POINT, np.uint8))
    _replace_nodes(result.graph, [*dequantized, *result.graph.node])  # their inputs are constants
    _relus_in_integers(result)
    return result


def _relus_in_integers(model: onnx.ModelProto) -> None:
    """relu(x), then quantised, is max(quantised x, zero point): the same integers, and no way through float.

    A max pooling between the two commutes with both. The dequantised value takes the name of the relu's output.
    """
    parts = _Parts(model)
    gone: list[onnx.NodeProto] = []
    instead: dict[str, list[onnx.NodeProto]] = {}
    renamed: dict[str, str] = {}
    for relu in parts.nodes("Relu"):
        chain = parts.chain_to_quantize(relu)
        if chain is None:
            continue
        *pools, quantize = chain
        scale, zero = quantize.input[1:3]
        source = relu.input[0]
        before = parts.producers.get(source)
        new: list[onnx.NodeProto] = []
        if before is not None and before.op_type == "DequantizeLinear" and parts.same(before.input[1], scale):
            integers = before.input[0]
        else:
            integers = f"{relu.output[0]}_before_relu"
            new.append(helper.make_node("QuantizeLinear", [source, scale, zero], [integers], name=f"{relu.name}_Q"))
        for node in (relu, *pools):
            last = node.output[0] + "_quantized"
            if node is relu:
                new.append(helper.make_node("Max", [integers, zero], [last], name=relu.name))
            else:
                new.append(helper.make_node("MaxPool", [integers], [last], name=node.name))
                new[-1].attribute.extend(node.attribute)
            integers = last
        for reader in parts.readers(quantize.output[0]):
            reader.input[0] = integers
            renamed[reader.output[0]] = quantize.input[0]
        gone += [relu, *chain]
        instead[relu.output[0]] = new
    nodes = []
    for node in model.graph.node:
        if node not in gone:
            nodes.append(node)
        nodes += instead.get(node.output[0], [])
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    _replace_nodes(model.graph, nodes)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


class _Parts:
    """A graph's nodes and constants by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.values: dict[str, npt.NDArray[Any]] = {}
        self._initializers = {i.name: i for i in model.graph.initializer}
        self.producers = {name: node for node in model.graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
            if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Conv"):
                for name in node.input:
                    if name in self._initializers:
                        self.values[name] = numpy_helper.to_array(self._initializers[name])

    def nodes(self, operator: str) -> list[onnx.NodeProto]:
        return [node for node in self.graph.node if node.op_type == operator]

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        return self._readers.get(tensor, [])

    def quantized_convolutions(self) -> list[onnx.NodeProto]:
        return [
            node
            for node in self.nodes("Conv")
            if all(n in self.producers and self.producers[n].op_type == "DequantizeLinear" for n in node.input[:2])
        ]

    def chain_to_quantize(self, relu: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        """The nodes from a relu to its quantisation, with nothing but a max pooling before it; None where none is."""
        chain: list[onnx.NodeProto] = []
        readers = self.readers(relu.output[0]) if relu.op_type == "Relu" else []
        while len(readers) == 1 and readers[0].op_type == "MaxPool" and len(readers[0].output) == 1:
            chain.append(readers[0])
            readers = self.readers(readers[0].output[0])
        return [*chain, readers[0]] if len(readers) == 1 and readers[0].op_type == "QuantizeLinear" else None

    def same(self, first: str, second: str) -> bool:
        return bool(np.array_equal(self.values[first], self.values[second]))

    def bias(self, node: onnx.NodeProto) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Bias of a quantised convolution as whole numbers, and the step of each channel."""
        scales = [self.values[self.producers[name].input[1]] for name in node.input[:2]]
        step = (scales[0] * scales[1]).astype(np.float32)
        return np.rint(self.values[node.input[2]].astype(np.float64) / step).astype(np.int32), step

    def add(self, name: str, value: npt.NDArray[Any]) -> str:
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        self._initializers[name], self.values[name] = self.graph.initializer[-1], value
        return name

    def put(self, name: str, value: npt.NDArray[Any]) -> None:
        self._initializers[name].CopyFrom(numpy_helper.from_array(value, name))
        self.values[name] = value

    def drop_unused(self) -> None:
        used = {name for node in self.graph.node for name in node.input}
        for initializer in [i for i in self.graph.initializer if i.name not in used]:
            self.graph.initializer.remove(initializer)
