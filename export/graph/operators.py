"""Would TensorRT's ONNX parser take this graph? Operator by operator, without TensorRT."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT64: "INT64",
    TensorProto.INT32: "INT32",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.BOOL: "BOOL",
    TensorProto.DOUBLE: "DOUBLE",
}
_TOP_K_LIMIT = 3839  # "K must be less than 3840"
_NMS_LIMIT = 5000  # boxes of an image that INMSLayer looks at
# Position of the tensor that is int8; its zero point stands at 2 in both.
_QUANTIZED = {"QuantizeLinear": None, "DequantizeLinear": 0}
_ALIKE = 3  # findings that say the same; more of them become one
# Inputs that the parser wants to know when the engine is built.
_CONSTANT_INPUTS = {"Unsqueeze": 1, "Squeeze": 1, "ReduceMax": 1, "ReduceMin": 1, "ReduceSum": 1, "ReduceMean": 1}
_RESIZE_MODES = {"nearest", "linear"}


@dataclass(frozen=True)
class Finding:
    """One reason why the graph would be refused, and the node it is about."""

    node: str
    operator: str
    problem: str


@dataclass(frozen=True)
class OperatorReport:
    """What was found against the list of one TensorRT version; ``ready`` where nothing was."""

    tensorrt: str
    opset: int
    operators: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        return not self.findings


@cache
def tensorrt_table() -> dict[str, Any]:
    """``source``, ``tensorrt``, ``opsets`` and, per operator, the types it takes."""
    table: dict[str, Any] = json.loads(files("aweigh.export.graph").joinpath("trt_operators.json").read_text())
    return table


def check_operators(model: onnx.ModelProto) -> OperatorReport:
    """Check operators, types, opset and the limits of TopK, NonMaxSuppression, ScatterND and Resize."""
    table = tensorrt_table()
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    graph = _Graph(inferred.graph, opset)
    findings = [
        Finding(node.name or node.output[0], node.op_type, problem)
        for node in inferred.graph.node
        for problem in _problems(node, graph, table["operators"])
    ]
    findings = _merged(findings)
    low, high = table["opsets"]
    if not low <= opset <= high:
        findings.insert(0, Finding("", "", f"opset {opset}, TensorRT {table['tensorrt']} reads {low} to {high}"))
    counts: dict[str, int] = {}
    for node in inferred.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return OperatorReport(table["tensorrt"], opset, dict(sorted(counts.items())), tuple(findings))


class _Graph:
    """Types, constants and producers of the tensors of a graph."""

    def __init__(self, graph: onnx.GraphProto, opset: int) -> None:
        self.opset = opset
        self.initializers = {i.name: i for i in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output}
        self.inputs = {value.name for value in graph.input}
        values = (*graph.input, *graph.output, *graph.value_info)
        self.shapes = {v.name: v.type.tensor_type.shape.dim for v in values}
        self.types = {v.name: v.type.tensor_type.elem_type for v in values}
        self.types |= {name: tensor.data_type for name, tensor in self.initializers.items()}

    def constant(self, name: str) -> np.ndarray[Any, Any] | None:
        if name in self.initializers:
            return np.asarray(numpy_helper.to_array(self.initializers[name]))
        producer = self.producers.get(name)
        if producer is not None and producer.op_type == "Constant" and producer.attribute[0].name == "value":
            return np.asarray(numpy_helper.to_array(producer.attribute[0].t))
        return None

    def upper_bound(self, name: str) -> int | None:
        """The largest value of an integer tensor, where constants and Min tell it."""
        value = self.constant(name)
        if value is not None:
            return int(value.max())
        node = self.producers.get(name)
        if node is None:
            return None
        bounds = [self.upper_bound(i) for i in node.input]
        if node.op_type == "Min":
            return min((b for b in bounds if b is not None), default=None)
        if node.op_type in ("Reshape", "Unsqueeze", "Squeeze", "Cast", "Identity"):
            return bounds[0]
        return None


def _problems(node: NodeProto, graph: _Graph, operators: dict[str, Any]) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx"):
        yield f"domain {node.domain!r}: a custom operator"
        return
    if node.op_type not in operators:
        yield "not supported"
        return
    if node.op_type in _QUANTIZED:
        yield from _wrong_quantization(node, graph)
    else:
        yield from _wrong_types(node, graph, set(operators[node.op_type]["types"]))
    position = _CONSTANT_INPUTS.get(node.op_type)
    if position is not None and len(node.input) > position and graph.constant(node.input[position]) is None:
        yield f"input {position} (axes) must be a constant"
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "TopK":
        bound = graph.upper_bound(node.input[1])
        if attributes.get("sorted", 1) != 1:
            yield "sorted must be 1"
        if bound is None or bound > _TOP_K_LIMIT:
            yield f"K is {'unbounded' if bound is None else bound}, the limit is {_TOP_K_LIMIT}"
    elif node.op_type == "NonMaxSuppression":
        boxes = graph.shapes.get(node.input[0])
        if boxes is not None and len(boxes) == 3 and boxes[1].dim_value > _NMS_LIMIT:
            yield f"{boxes[1].dim_value} boxes, the best {_NMS_LIMIT} are looked at"
    elif node.op_type == "ScatterND" and attributes.get("reduction", b"none") != b"none":
        yield f"reduction {attributes['reduction'].decode()!r}, only 'none' is taken"
    elif node.op_type == "Resize":
        mode = attributes.get("mode", b"nearest").decode()
        if mode not in _RESIZE_MODES or attributes.get("antialias", 0):
            yield f"mode {mode!r}, antialias {attributes.get('antialias', 0)}: only nearest and linear without it"


def _wrong_types(node: NodeProto, graph: _Graph, allowed: set[str]) -> Iterator[str]:
    schema = onnx.defs.get_schema(node.op_type, graph.opset)
    for i, name in enumerate(node.input):
        formal = schema.inputs[min(i, len(schema.inputs) - 1)]
        # Sizes, counts and K have a type of their own that the list does not speak of.
        if not name or formal.type_str == "tensor(int64)":
            continue
        element = graph.types.get(name, 0)
        type_name = _TYPES.get(element, f"ONNX type {element}")
        if type_name == "UINT8":
            if node.op_type != "Cast" or name not in graph.inputs:
                yield f"input {i} is UINT8; only a network input may be, with a Cast behind it"
        elif type_name not in allowed:
            yield f"input {i} is {type_name}, expected one of {', '.join(sorted(allowed))}"


def _wrong_quantization(node: NodeProto, graph: _Graph) -> Iterator[str]:
    """Integers must be int8 around 0; what they are quantised from, any float."""
    position = _QUANTIZED[node.op_type]
    names = [node.input[i] for i in (position, 2) if i is not None and i < len(node.input)]
    types = {_TYPES.get(graph.types.get(name, 0), "unknown") for name in names}
    zero = graph.constant(node.input[2]) if len(node.input) > 2 else None
    if len(node.input) < 3:
        types.add("UINT8")  # what ONNX says where no zero point does
    if types != {"INT8"}:
        yield f"quantised to {', '.join(sorted(types))}, expected INT8 (aweigh export --int8-encoding tensorrt)"
    elif zero is None or np.any(zero):
        yield f"zero point {'not constant' if zero is None else np.unique(zero).tolist()}, expected 0"


def _merged(findings: list[Finding]) -> list[Finding]:
    """Where more than a few nodes have one problem, one finding that counts them."""
    alike: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.operator, finding.problem), []).append(finding)
    return [
        merged
        for same in alike.values()
        for merged in (
            same
            if len(same) <= _ALIKE
            else [Finding(f"{same[0].node} and {len(same) - 1} more", same[0].operator, same[0].problem)]
        )
    ]
