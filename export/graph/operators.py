"""Would TensorRT take this graph? Operator by operator, without TensorRT.

The list is that of the parser of one version of full TensorRT, corrected where TensorRT for RTX takes more or less: it
has the same parser, and a test asks it. What only TensorRT for RTX lacks is listed apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from aweigh.export.graph.inference import dtype_of, with_types

_TYPES: dict[ir.DataType, str] = {
    ir.DataType.FLOAT: "FP32",
    ir.DataType.FLOAT16: "FP16",
    ir.DataType.BFLOAT16: "BF16",
    ir.DataType.INT64: "INT64",
    ir.DataType.INT32: "INT32",
    ir.DataType.INT8: "INT8",
    ir.DataType.UINT8: "UINT8",
    ir.DataType.BOOL: "BOOL",
    ir.DataType.DOUBLE: "FP32",  # cast by the parser
}
_TOP_K_LIMIT = 3840
_NMS_LIMIT = 5000  # boxes of an image that INMSLayer looks at
_FP8 = "ONNX type FLOAT8E4M3FN"  # on GPUs from Ada on
# Position of the tensor that is quantised; its zero point is input 2 of both.
_QUANTIZED = {"QuantizeLinear": None, "DequantizeLinear": 0}
_ALIKE = 3  # findings with the same problem; more of them become one
# Inputs whose values the parser needs when the engine is built.
_CONSTANT_INPUTS = {"Unsqueeze": 1, "Squeeze": 1, "ReduceMax": 1, "ReduceMin": 1, "ReduceSum": 1, "ReduceMean": 1}
_RESIZE_MODES = {"nearest", "linear", "cubic"}


@dataclass(frozen=True)
class Finding:
    """One reason why TensorRT would refuse the graph, and the node it is about."""

    node: str
    operator: str
    problem: str


@dataclass(frozen=True)
class OperatorReport:
    """The findings against the list of one TensorRT version; ``ready`` where there are none.

    Attributes:
        tensorrt: version of full TensorRT whose list it is; corrected_by: the library that corrected it.
        opset: of the graph; operators: how many nodes of each.
        findings: hold for full TensorRT and for TensorRT for RTX.
        rtx_findings: further ones, of TensorRT for RTX.
    """

    tensorrt: str
    opset: int
    operators: dict[str, int]
    findings: tuple[Finding, ...]
    corrected_by: str = ""
    rtx_findings: tuple[Finding, ...] = ()

    @property
    def ready(self) -> bool:
        return not self.findings


@cache
def tensorrt_table() -> dict[str, Any]:
    """``source``, ``tensorrt``, ``opsets`` and, per operator, the types it takes."""
    table: dict[str, Any] = json.loads(files("aweigh.export.graph").joinpath("trt_operators.json").read_text())
    return table


def check_operators(model: ir.Model, typed: bool = False) -> OperatorReport:
    """Check operators, types, opset and the limits of TopK, NonMaxSuppression, ScatterND and Resize.

    ``typed``: the model is one of ``with_types``.
    """
    table = tensorrt_table()
    graph = (model if typed else with_types(model)).graph
    nodes = list(ir.traversal.RecursiveGraphIterator(graph))  # the bodies of branches as well
    opset = max((v for domain, v in graph.opset_imports.items() if domain in ("", "ai.onnx")), default=0)
    findings = [
        Finding(node.name or node.outputs[0].name or "", node.op_type, problem)
        for node in nodes
        for problem in _problems(node, opset, table["operators"])
    ]
    findings = _merged(findings)
    low, high = table["opsets"]
    if not low <= opset <= high:
        findings.insert(0, Finding("", "", f"opset {opset}, TensorRT {table['tensorrt']} reads {low} to {high}"))
    counts: dict[str, int] = {}
    for node in nodes:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    absent = table["absent_from_rtx"]
    rtx_findings = [
        Finding(node.name or node.outputs[0].name or "", node.op_type, absent[node.op_type])
        for node in nodes
        if node.op_type in absent
    ]
    return OperatorReport(
        table["tensorrt"],
        opset,
        dict(sorted(counts.items())),
        tuple(findings),
        table["corrected_by"],
        tuple(_merged(rtx_findings)),
    )


def _constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _upper_bound(value: ir.Value | None) -> int | None:
    """The largest value of an integer tensor, where constants and Min show it."""
    constant = _constant(value)
    if constant is not None:
        return int(constant.max())
    node = None if value is None else value.producer()
    if node is None:
        return None
    bounds = [_upper_bound(i) for i in node.inputs]
    if node.op_type == "Min":
        return min((b for b in bounds if b is not None), default=None)
    if node.op_type in ("Reshape", "Unsqueeze", "Squeeze", "Cast", "Identity"):
        return bounds[0]
    return None


def _problems(node: ir.Node, opset: int, operators: dict[str, Any]) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx"):
        yield f"domain {node.domain!r}: a custom operator"
        return
    if node.op_type not in operators:
        yield "not supported"
        return
    if node.op_type in _QUANTIZED:
        yield from _wrong_quantization(node)
    else:
        yield from _wrong_types(node, opset, set(operators[node.op_type]["types"]))
    position = _CONSTANT_INPUTS.get(node.op_type)
    if position is not None and len(node.inputs) > position and _constant(node.inputs[position]) is None:
        yield f"input {position} (axes) must be a constant"
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    if node.op_type == "TopK":
        bound = _upper_bound(node.inputs[1])
        length = _axis_length(node, attributes.get("axis", -1))
        constant = _constant(node.inputs[1])
        if constant is not None and length is not None and int(constant.max()) > length:
            yield f"K is {int(constant.max())}, the axis has {length}"
        if bound is None or bound > _TOP_K_LIMIT:
            yield f"K is {'unbounded' if bound is None else bound}, the limit is {_TOP_K_LIMIT}"
    elif node.op_type == "NonMaxSuppression":
        boxes = node.inputs[0].shape if node.inputs[0] is not None else None
        if boxes is not None and len(boxes) == 3 and isinstance(boxes[1], int) and boxes[1] > _NMS_LIMIT:
            yield f"{boxes[1]} boxes, the best {_NMS_LIMIT} are looked at"
    elif node.op_type == "ScatterND" and attributes.get("reduction", "none") != "none":
        yield f"reduction {attributes['reduction']!r}, only 'none' is taken"
    elif node.op_type == "Resize":
        mode = attributes.get("mode", "nearest")
        if mode not in _RESIZE_MODES or attributes.get("antialias", 0):
            yield f"mode {mode!r}, antialias {attributes.get('antialias', 0)}: nearest, linear or cubic without it"


def _wrong_types(node: ir.Node, opset: int, allowed: set[str]) -> Iterator[str]:
    schema = onnx.defs.get_schema(node.op_type, opset)
    alike: dict[str, set[str]] = {}
    for i, value in enumerate(node.inputs):
        formal = schema.inputs[min(i, len(schema.inputs) - 1)]
        # Sizes, counts and K have a type of their own that the list does not speak of.
        if value is None or formal.type_str == "tensor(int64)":
            continue
        type_name = _type_name(value)
        alike.setdefault(formal.type_str, set()).add(type_name)
        if type_name == "UINT8":
            if node.op_type != "Cast" or not value.is_graph_input():
                yield f"input {i} is UINT8; only a network input may be, with a Cast behind it"
        elif type_name not in allowed:
            yield f"input {i} is {type_name}, expected one of {', '.join(sorted(allowed))}"
    # Inputs whose formal type is a variable, as T, must be of one type; one that is spelled out, as tensor(bool), is.
    for variable, types in alike.items():
        if len(types) > 1 and "(" not in variable and "unknown" not in types:
            yield f"inputs of the types {', '.join(sorted(types))}, expected one type"


def _wrong_quantization(node: ir.Node) -> Iterator[str]:
    """Quantised to int8 or FP8 around 0; what it is quantised from, any float."""
    position = _QUANTIZED[node.op_type]
    types = {_type_name(node.inputs[i]) for i in (position, 2) if i is not None and i < len(node.inputs)}
    zero = _constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if len(node.inputs) < 3:
        types.add("UINT8")  # ONNX's default where there is no zero point
    if types not in ({"INT8"}, {_FP8}):
        yield f"quantised to {', '.join(sorted(types))}, expected INT8 (aweigh export --int8-encoding tensorrt)"
    elif zero is None or np.any(zero):
        yield f"zero point {'not constant' if zero is None else np.unique(zero).tolist()}, expected 0"


def _axis_length(node: ir.Node, axis: int) -> int | None:
    """Of the first input, where the graph fixes it."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    length = None if shape is None or not -len(shape) <= axis < len(shape) else shape[axis]
    return length if isinstance(length, int) else None


def _type_name(value: ir.Value | None) -> str:
    dtype = dtype_of(value)
    return "unknown" if dtype is None else _TYPES.get(dtype, f"ONNX type {dtype.name}")


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
