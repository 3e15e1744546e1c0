"""Channels of one tensor brought to one range, where a depthwise convolution is all that reads it.

INT8 has one scale for a tensor, and a channel that reaches a tenth of its range has a tenth of the steps. Between an
activation from 0 on and a depthwise convolution, whose weights have a scale for each channel anyway, a factor costs
nothing: the convolution before multiplies the channel by it, the one behind divides. Factors are powers of two, so that
the graph computes the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from aweigh.runtime.backends.base import INPUT_NAME

# Of a node's metadata: the power of two that each of its output channels is multiplied by, as whole numbers.
POWERS_KEY = "aweigh.channel_powers"
_LARGEST_POWER = 6  # a channel below 1/64 of the range is next to nothing


@dataclass(frozen=True)
class _Place:
    """A tensor between two convolutions.

    Attributes:
        first, second: the convolutions; the second one is depthwise.
        value: what the activation gives.
    """

    first: ir.Node
    second: ir.Node
    value: ir.Value


def equalised(model: ir.Model, images_u8: Sequence[npt.NDArray[np.uint8]], batch: int) -> ir.Model:
    """A copy whose channels before depthwise convolutions have one range, as far as the images show.

    A convolution whose channels were multiplied says so in its metadata (:func:`factors_of`).

    Args:
        model: FP32, as traced; left as it is.
        images_u8: [H, W, 3] network inputs.
        batch: smallest that the graph takes.
    """
    result = model.clone()
    places = _places(result.graph)
    if places:
        largest = _largest(model, [_name(place.value) for place in places], images_u8, batch)
        for place in places:
            _scale(place, largest[_name(place.value)])
    return result


def factors_of(convolution: ir.Node) -> npt.NDArray[np.float32] | None:
    """[C] what the output channels of a convolution were multiplied by; None where they were not."""
    powers = convolution.metadata_props.get(POWERS_KEY)
    return None if powers is None else np.exp2(np.array(powers.split(","), np.float32))


def _places(graph: ir.Graph) -> list[_Place]:
    """Where one reader after the other leads from a convolution to a depthwise one."""
    found = []
    for first in graph:
        if first.op_type != "Conv" or not _own_constants(first):
            continue
        activation = _only_reader(first.outputs[0])
        if activation is None or not _from_zero_on(activation):
            continue
        second = _only_reader(activation.outputs[0])
        if second is not None and second.op_type == "Conv" and _own_constants(second) and _is_depthwise(second):
            found.append(_Place(first, second, activation.outputs[0]))
    return found


def _only_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone reads a value, once, and of which no output of the graph is made."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _from_zero_on(node: ir.Node) -> bool:
    """A relu, or a clip at 0 and above: both commute with a factor up to the largest value on the images."""
    if node.op_type != "Clip":
        return node.op_type == "Relu"
    low = node.inputs[1] if len(node.inputs) > 1 else None
    return low is not None and low.const_value is not None and float(low.const_value.numpy()) == 0


def _own_constants(convolution: ir.Node) -> bool:
    """Whether weight and bias are constants that nothing else reads."""
    constants = [value for value in convolution.inputs[1:] if value is not None]
    return all(value.const_value is not None and len(list(value.uses())) == 1 for value in constants)


def _is_depthwise(convolution: ir.Node) -> bool:
    weight = _array(convolution.inputs[1])
    groups = convolution.attributes.get_int("group", 1)
    return groups == len(weight) and weight.shape[1] == 1


def _largest(
    model: ir.Model, names: Sequence[str], images_u8: Sequence[npt.NDArray[np.uint8]], batch: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Of each tensor the largest value [C] of each channel."""
    tapped = model.clone()
    values = {value.name: value for node in tapped.graph for value in node.outputs}
    tapped.graph.outputs.extend(values[name] for name in names)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    content = ir.to_proto(tapped).SerializeToString()
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    largest: dict[str, Any] = {}
    for image in images_u8:
        outputs = session.run(list(names), {INPUT_NAME: image[None].repeat(batch, axis=0)})
        for name, output in zip(names, outputs, strict=True):
            here = output.max(axis=(0, 2, 3))
            largest[name] = np.maximum(largest.get(name, here), here)
    return largest


def _scale(place: _Place, largest: npt.NDArray[np.float32]) -> None:
    """Channels up to the tensor's range; none is made smaller."""
    whole = float(largest.max())
    if whole <= 0:
        return
    least = whole / 2**_LARGEST_POWER
    powers = np.floor(np.log2(whole / np.maximum(largest, least))).astype(int)
    factors = np.exp2(powers).astype(np.float32)
    for constant in place.first.inputs[1:]:
        _multiply(constant, factors)
    _multiply(place.second.inputs[1], 1 / factors)
    place.first.metadata_props[POWERS_KEY] = ",".join(map(str, powers))


def _multiply(constant: ir.Value | None, factors: npt.NDArray[np.float32]) -> None:
    if constant is None:
        return
    content = _array(constant)
    scaled = content * factors.reshape(-1, *[1] * (content.ndim - 1))
    constant.const_value = ir.tensor(scaled.astype(content.dtype), name=constant.name)


def _array(value: ir.Value | None) -> npt.NDArray[Any]:
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def _name(value: ir.Value) -> str:
    assert value.name is not None
    return value.name
