"""Two encodings of a quantised graph.

``tensorrt``: int8 with zero point 0 throughout, weights float with Q and DQ behind them: what its parser takes.
``onnxruntime``: activations as uint8, weights int8, biases int32: the form whose convolutions onnxruntime computes in
integers on a CPU; signed activations are computed there in float. The zero point is 128 (each integer plus 128). Behind
a relu it is 0: no value lies below, and the same range has 255 steps in place of 127.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common as passes

from aweigh.export.precision.bias import shifts
from aweigh.export.precision.kernels import whole_numbers

Encoding = Literal["onnxruntime", "tensorrt"]
ZERO_POINT = 128
_LARGEST_INTEGER = 127  # in int8, around 0
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
    quantized = _quantized_convolutions(graph)
    _float_to_float_convolutions(graph, lambda source: _made_by(source) not in quantized)
    for node in _nodes(graph, "Clip"):
        _clip_as_relu(graph, node)
    for node in _nodes(graph, "Clip"):  # that is left
        _round_within(node)
    for node in _nodes(graph, "QuantizeLinear"):
        if _operator_before(node, 0) != "Conv":
            continue
        [dequantize] = node.outputs[0].consumers()
        chains = [_chain_to_quantize(reader) for reader in dequantize.outputs[0].consumers()]
        if len(chains) == 1 and chains[0] is not None:
            _put(_input(node, 1), _array(_input(chains[0][-1], 1)))
    with_bias = [node for node in _quantized_convolutions(graph) if len(node.inputs) == 3]
    for node in with_bias:
        of_input, of_weight = _scales(node)
        least = np.abs(_array(_input(node, 2))) / (_array(of_input) * _LARGEST_BIAS)
        _put(of_weight, np.maximum(_array(of_weight), least).astype(np.float32))
    weights = {_rounded_from(node, 1): _scales(node)[1] for node in _quantized_convolutions(graph)}
    exact = {weight: _array(weight) for weight in weights}
    for weight, of_weight in weights.items():
        scale = _by_channel(_array(of_weight), exact[weight].ndim)
        rounded = whole_numbers(exact[weight] / scale, _LARGEST_INTEGER) * scale
        _put(weight, rounded.astype(np.float32))
    for node in with_bias:
        bias = _array(_input(node, 2)) - _shift(node, exact[_rounded_from(node, 1)], means)
        node.replace_input_with(2, _constant(graph, f"{node.name}.unshifted", bias.astype(np.float32)))
        integers, step = _integer_bias(node)
        node.replace_input_with(2, _constant(graph, f"{node.name}.bias", integers.astype(np.float32) * step))
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
    return shifts(exact, _array(weight), mean, convolution.attributes.get_int("group", 1))


def _by_channel(scale: npt.NDArray[Any], dimensions: int) -> npt.NDArray[np.float64]:
    """[O, 1, ...] from [O] or from one for all."""
    return scale.astype(np.float64).reshape(-1, *[1] * (dimensions - 1))


def _rounded_from(convolution: ir.Node, position: int) -> ir.Value:
    """The tensor whose rounded values a quantised convolution reads."""
    dequantize = _input(convolution, position).producer()
    assert dequantize is not None
    quantize = _input(dequantize, 0).producer()
    assert quantize is not None
    return _input(quantize, 0)


def _clip_as_relu(graph: ir.Graph, clip: ir.Node) -> None:
    low, high = (clip.inputs[position] if len(clip.inputs) > position else None for position in (1, 2))
    chain = _chain_to_quantize(clip, "Clip")
    if chain is None or low is None or low.const_value is None or _array(low) != 0:
        return
    largest = _LARGEST_INTEGER * float(_array(_input(chain[-1], 1)))
    if high is not None and (high.const_value is None or largest > float(_array(high)) * (1 + _ROUNDING)):
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
    dequantize = _input(clip, 0).producer()
    if dequantize is None or dequantize.op_type != "DequantizeLinear" or len(dequantize.outputs[0].consumers()) != 1:
        return
    if any(bound is None or bound.const_value is None for bound in bounds):
        return
    largest = max(float(np.abs(_array(bound))) for bound in bounds if bound is not None)
    quantize = _input(dequantize, 0).producer()
    assert quantize is not None
    scale = _input(quantize, 1)
    if len(quantize.outputs[0].consumers()) == 1 and 0 < largest < _LARGEST_INTEGER * float(_array(scale)):
        _put(scale, np.asarray(largest / _LARGEST_INTEGER, np.float32))


def for_tensorrt(model: ir.Model) -> ir.Model:
    """A copy in TensorRT's encoding of a graph that :func:`tidy` went over.

    Convolutions in float read the sums of a quantised one unrounded, too: TensorRT computes int8 convolutions with
    float results. ONNX Runtime does not: there the rounding is a part of the convolution, which would be computed in
    float without it.
    """
    result = model.clone()
    _float_to_float_convolutions(result.graph, lambda source: True)
    passes.RemoveUnusedNodesPass()(result)
    return result


def _float_to_float_convolutions(graph: ir.Graph, wanted: Callable[[ir.Value], bool]) -> None:
    """Convolutions in float that read a tensor quantised and dequantised: they read the tensor, where it is wanted."""
    quantized = _quantized_convolutions(graph)
    for node in _nodes(graph, "Conv"):
        dequantize = _input(node, 0).producer()
        if node in quantized or dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        quantize = _input(dequantize, 0).producer()
        assert quantize is not None
        if wanted(_input(quantize, 0)):
            node.replace_input_with(0, _input(quantize, 0))


def _made_by(value: ir.Value) -> ir.Node | None:
    """The node that computed a value, before rounding, clipping and pooling."""
    node = value.producer()
    while node is not None and node.op_type in _COMMUTE_WITH_ROUNDING:
        node = _input(node, 0).producer()
    return node


def for_onnxruntime(model: ir.Model) -> ir.Model:
    """A copy in onnxruntime's encoding of a graph that :func:`tidy` went over."""
    result = model.clone()
    graph = result.graph
    for node in _nodes(graph, "Relu"):
        _finer_behind(node)
    dequantized = [_dequantized_bias(graph, node) for node in _quantized_convolutions(graph) if len(node.inputs) == 3]
    for node in _nodes(graph, "QuantizeLinear"):
        source = _input(node, 0)
        if source.is_initializer():  # a weight: quantised here and now
            weight = _array(source)
            per_channel = _by_channel(_array(_input(node, 1)), weight.ndim)
            _put(source, np.clip(np.rint(weight / per_channel), -128, 127).astype(np.int8))
            node.outputs[0].replace_all_uses_with(source)
            graph.remove(node, safe=True)
        elif _array(_input(node, 2)).dtype != np.uint8:
            _put(_input(node, 2), np.array(ZERO_POINT, np.uint8))
    graph.insert_before(graph.node(0), dequantized)  # their inputs are constants
    for relu in _nodes(graph, "Relu"):
        _relu_in_integers(graph, relu)
    return result


def _finer_behind(relu: ir.Node) -> None:
    """What a relu leaves, in uint8 from 0 on; the rounding before it too where it has the relu's scale."""
    chain = _chain_to_quantize(relu)
    if chain is None:
        return
    nodes, scale = [chain[-1]], _array(_input(chain[-1], 1))
    before = _rounding_before(relu, scale)
    if before is not None and len(_input(relu, 0).uses()) == 1:
        nodes.append(before)
    for node in nodes:
        _put(_input(node, 1), (scale * np.float32(_LARGEST_INTEGER / 255)).astype(np.float32))
        _put(_input(node, 2), np.array(0, np.uint8))


def _rounding_before(relu: ir.Node, scale: npt.NDArray[Any]) -> ir.Node | None:
    """The QuantizeLinear whose dequantised value a relu reads, where it has this scale."""
    dequantize = _input(relu, 0).producer()
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    quantize = _input(dequantize, 0).producer()
    assert quantize is not None
    return quantize if np.array_equal(_array(_input(quantize, 1)), scale) else None


def _dequantized_bias(graph: ir.Graph, node: ir.Node) -> ir.Node:
    """The bias of a convolution as int32, and the node that gives it back as float, not yet in the graph."""
    integers, step = _integer_bias(node)
    bias = _input(node, 2)
    scale = _constant(graph, f"{bias.name}_scale", step)
    zero = _constant(graph, f"{bias.name}_zero_point", np.zeros(len(step), np.int32))
    _put(bias, integers)
    as_float = ir.val(f"{bias.name}_float", ir.DataType.FLOAT, integers.shape)
    node.replace_input_with(2, as_float)
    return ir.node("DequantizeLinear", [bias, scale, zero], {"axis": 0}, outputs=[as_float], name=f"{bias.name}_DQ")


def _relu_in_integers(graph: ir.Graph, relu: ir.Node) -> None:
    """relu(x), then quantised, is max(quantised x, zero point): the same integers, and no way through float.

    With zero point 0 quantised x is that already. A max pooling between the two commutes with both. The dequantised
    value takes the name of the relu's output.
    """
    chain = _chain_to_quantize(relu)
    if chain is None:
        return
    *pools, quantize = chain
    scale, zero = _input(quantize, 1), _input(quantize, 2)
    new: list[ir.Node] = []
    before = _rounding_before(relu, _array(scale))
    if before is not None:
        integers, zero_before = before.outputs[0], _array(_input(before, 2))
        saturates = np.array_equal(zero_before, _array(zero))
    else:
        integers, saturates = ir.val(f"{relu.outputs[0].name}_before_relu"), True
        new.append(ir.node("QuantizeLinear", [relu.inputs[0], scale, zero], outputs=[integers], name=f"{relu.name}_Q"))
    # From 0 on, the rounding itself cuts what lies below.
    nodes = pools if saturates and not _array(zero) else [relu, *pools]
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
    dequantize.outputs[0].name = _input(quantize, 0).name
    graph.remove([relu, *chain], safe=True)


def _nodes(graph: ir.Graph, operator: str) -> list[ir.Node]:
    return [node for node in graph if node.op_type == operator]


def _operator_before(node: ir.Node, position: int) -> str | None:
    producer = _input(node, position).producer()
    return None if producer is None else producer.op_type


def _quantized_convolutions(graph: ir.Graph) -> list[ir.Node]:
    return [
        node
        for node in _nodes(graph, "Conv")
        if all(_operator_before(node, position) == "DequantizeLinear" for position in (0, 1))
    ]


def _chain_to_quantize(relu: ir.Node, operator: str = "Relu") -> list[ir.Node] | None:
    """The nodes from a relu (or another ``operator``) to its quantisation, at most a max pooling between; else None."""
    chain: list[ir.Node] = []
    readers = relu.outputs[0].consumers() if relu.op_type == operator else ()
    while len(readers) == 1 and readers[0].op_type == "MaxPool" and len(readers[0].outputs) == 1:
        chain.append(readers[0])
        readers = readers[0].outputs[0].consumers()
    return [*chain, readers[0]] if len(readers) == 1 and readers[0].op_type == "QuantizeLinear" else None


def _scales(convolution: ir.Node) -> tuple[ir.Value, ir.Value]:
    """Of the input and of the weight of a quantised convolution."""
    first, second = (_input(convolution, position).producer() for position in (0, 1))
    assert first is not None
    assert second is not None
    return _input(first, 1), _input(second, 1)


def _integer_bias(convolution: ir.Node) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Bias of a quantised convolution as whole numbers, and the step of each channel."""
    of_input, of_weight = _scales(convolution)
    step = (_array(of_input) * _array(of_weight)).astype(np.float32)
    return np.rint(_array(_input(convolution, 2)).astype(np.float64) / step).astype(np.int32), step


def _input(node: ir.Node, position: int) -> ir.Value:
    value = node.inputs[position]
    assert value is not None, f"{node.op_type} {node.name}: input {position} is left out"
    return value


def _array(value: ir.Value) -> npt.NDArray[Any]:
    assert value.const_value is not None, f"{value.name}: expected a constant"
    return value.const_value.numpy()


def _put(constant: ir.Value, content: npt.NDArray[Any]) -> None:
    constant.const_value = ir.tensor(content, name=constant.name)
    # A type of its own: a copy of a graph shares the types of the graph that it was made from.
    constant.type = ir.TensorType(constant.const_value.dtype)
    constant.shape = ir.Shape(content.shape)


def _constant(graph: ir.Graph, name: str, content: npt.NDArray[Any]) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(content, name=name))
    graph.register_initializer(value)
    return value
