"""Faults planted in an exported file, as a wrong export would have them. All edit the graph in place.

They take files of every precision: weights are changed in the type that they have.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from aweigh.runtime.spec import ModelSpec

# Of the weights that are scaled so that sums overflow in half precision: below its largest number, 65504.
_LARGEST_WEIGHT = 2.0**15
_TORCHVISION_MEAN = (123.675, 116.28, 103.53)


def wrong_mean(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """The means of red and blue exchanged; torchvision's where all are equal."""
    [subtraction] = [node for node in model.graph.node if node.op_type == "Sub" and "permute" in node.input[0]]

    def wrong(mean: Any) -> Any:
        if (mean != mean[:, ::-1]).any():
            return mean[:, ::-1]
        return np.broadcast_to(np.array(_TORCHVISION_MEAN, mean.dtype)[:, None, None], mean.shape)

    edit(model, subtraction.input[1], wrong)


def swapped_channels(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Red and blue exchanged."""
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    edit(model, weight_name(model, first), lambda weight: weight[:, ::-1])


def transposed_boxes(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """x and y exchanged by the decoding."""
    behind(model, "stage_boxes", "Gather", np.array([1, 0, 3, 2]), axis=2)


def zeroed_layer(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """No weights in the pyramid's finest output."""
    edit(model, "neck.output.0.weight", np.zeros_like)


def nms_threshold_of_0_3(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """In either form of NMS; in the matrix form in the branches of its early exit too."""
    branches = [a.g for node in model.graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    graphs = (model.graph, *branches)
    constants = {i.name: i for graph in graphs for i in graph.initializer}
    nodes = [node for graph in graphs for node in graph.node]
    names = {node.input[3] for node in nodes if node.op_type == "NonMaxSuppression"}
    names |= {
        node.input[1]
        for node in nodes
        if node.op_type == "Greater"
        and node.input[1] in constants
        and np.isclose(numpy_helper.to_array(constants[node.input[1]]), spec.post.iou_threshold).all()
    }
    assert names, "no threshold of NMS in the graph"
    for name in names:
        constants[name].CopyFrom(numpy_helper.from_array(np.full(constants[name].dims, 0.3, np.float32), name))


def overflow_in_half(model: onnx.ModelProto, spec: ModelSpec, largest: float = _LARGEST_WEIGHT) -> None:
    """A layer's weights so large, and the next one's so small, that nothing changes but in half precision: infinity.

    A relu between the two keeps what a factor does to it, as does nothing between them.
    """
    nodes = list(model.graph.node)
    biased = [node for node in nodes if node.op_type == "Conv" and len(node.input) > 2]
    for relu, first in itertools.product((True, False), biased):
        second = _only_reader(nodes, first, relu)
        if second is None:
            continue
        name, next_name = weight_name(model, first), weight_name(model, second)
        factor = float(largest / np.abs(array(model, name).astype(np.float32)).max())
        for scaled in (name, first.input[2]):
            edit(model, scaled, partial(_times, factor=factor))
        edit(model, next_name, partial(_times, factor=1 / factor))
        return
    raise AssertionError("no two convolutions with a relu or nothing between them")


def off_by_one_resize(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Every column is the one to its right."""
    width = spec.input.size_hw[1]
    columns = np.minimum(np.arange(width) + 1, width - 1)
    model.graph.initializer.append(numpy_helper.from_array(columns, "columns"))
    for node in model.graph.node:
        node.input[:] = ["images_moved" if name == "images" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Gather", ["images", "columns"], ["images_moved"], axis=2))


def one_class_dropped(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """The first that the model was seen to find: to drop another changes nothing."""
    known = spec.best_conf or ()
    keep = np.ones(len(spec.categories), np.float32)
    keep[next((i for i, score in enumerate(known) if score is not None), 0)] = 0
    behind(model, "stage_scores", "Mul", keep)


def squared_scores(model: onnx.ModelProto, spec: ModelSpec) -> None:
    node = _producer(model, "scores")
    node.output[list(node.output).index("scores")] = "scores_before"
    model.graph.node.append(helper.make_node("Mul", ["scores_before", "scores_before"], ["scores"]))


def shifted_by_two_pixels(model: onnx.ModelProto, spec: ModelSpec) -> None:
    behind(model, "boxes", "Add", np.array([2], np.float32))


@dataclass(frozen=True)
class Fault:
    """``plant`` in files of these precisions; ``needs_nms``: only where there is NMS."""

    plant: Callable[[onnx.ModelProto, ModelSpec], None]
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    needs_nms: bool = False

    def fits(self, spec: ModelSpec) -> bool:
        """Whether a file of this contract can have it."""
        return spec.precision in self.precisions and (spec.post.kind in ("nms", "vote") or not self.needs_nms)


FAULTS: dict[str, Fault] = {
    "wrong mean": Fault(wrong_mean),
    "swapped channels": Fault(swapped_channels),
    "transposed box": Fault(transposed_boxes),
    "zeroed layer": Fault(zeroed_layer),
    "NMS 0.3": Fault(nms_threshold_of_0_3, needs_nms=True),
    "FP16 overflow": Fault(overflow_in_half, precisions=("fp16",)),
    "off-by-one resize": Fault(off_by_one_resize),
    "one class dropped": Fault(one_class_dropped),
    "scores squared": Fault(squared_scores),
    "2 px shift": Fault(shifted_by_two_pixels),
}


def _times(values: Any, factor: float) -> Any:
    return (values.astype(np.float32) * factor).astype(values.dtype)


def behind(model: onnx.ModelProto, tensor: str, operator: str, value: Any, **attributes: Any) -> None:
    """An operator with a constant behind a tensor, which keeps its name."""
    node = _producer(model, tensor)
    node.output[list(node.output).index(tensor)] = f"{tensor}_before"
    model.graph.initializer.append(numpy_helper.from_array(value, f"{tensor}_value"))
    at = list(model.graph.node).index(node) + 1
    added = helper.make_node(operator, [f"{tensor}_before", f"{tensor}_value"], [tensor], **attributes)
    model.graph.node.insert(at, added)


def edit(model: onnx.ModelProto, name: str, change: Callable[[Any], Any]) -> None:
    """Replace a constant by what ``change`` makes of it, of the same shape and type."""
    [tensor] = [i for i in model.graph.initializer if i.name == name]
    before = numpy_helper.to_array(tensor)
    changed = np.ascontiguousarray(change(before))
    assert (changed.shape, changed.dtype) == (before.shape, before.dtype)
    tensor.CopyFrom(numpy_helper.from_array(changed, name))


def array(model: onnx.ModelProto, name: str) -> Any:
    """A constant's values."""
    [tensor] = [i for i in model.graph.initializer if i.name == name]
    return numpy_helper.to_array(tensor)


def weight_name(model: onnx.ModelProto, convolution: onnx.NodeProto) -> str:
    """The constant that a convolution's weight comes from, through casts and dequantisation."""
    constants = {i.name for i in model.graph.initializer}
    name = convolution.input[1]
    while name not in constants:
        name = _producer(model, name).input[0]
    return str(name)


def _producer(model: onnx.ModelProto, tensor: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if tensor in node.output)


def _only_reader(nodes: list[onnx.NodeProto], convolution: onnx.NodeProto, relu: bool) -> onnx.NodeProto | None:
    """The one convolution that reads a convolution through casts, and through a relu or not; None where others read it
    too.
    """
    reader, relus = convolution, 0
    while True:
        readers = list(_readers(nodes, reader.output[0]))
        if len(readers) != 1 or readers[0].op_type not in ("Relu", "Cast", "Conv"):
            return None
        [reader] = readers
        relus += reader.op_type == "Relu"
        if reader.op_type == "Conv":
            return reader if (relus > 0) == relu else None


def _readers(nodes: list[onnx.NodeProto], tensor: str) -> Iterator[onnx.NodeProto]:
    return (node for node in nodes if tensor in node.input)
