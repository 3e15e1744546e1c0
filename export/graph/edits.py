"""Edits of an exported graph (an onnx ModelProto) that the exporter cannot be asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from aweigh.runtime.backends.base import INPUT_NAME


def drop_outputs(model: onnx.ModelProto, keep: Collection[str]) -> None:
    """Only the outputs in ``keep`` stay, and the nodes and weights they need."""
    graph = model.graph
    outputs = [o for o in graph.output if o.name in keep]
    needed = {o.name for o in outputs}
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    initializers = [i for i in graph.initializer if i.name in needed]
    produced = {name for node in nodes for name in node.output}
    known = [v for v in graph.value_info if v.name in produced]
    _replace(graph.output, outputs)
    _replace(graph.node, nodes[::-1])
    _replace(graph.initializer, initializers)
    _replace(graph.value_info, known)


def cast_input_first(model: onnx.ModelProto) -> None:
    """The uint8 input goes into one Cast to float and nowhere else.

    TensorRT takes UINT8 as a network input with a Cast behind it, and in no other operator; the exporter transposes the
    bytes and asks their shape.
    """
    graph = model.graph
    as_float = f"{INPUT_NAME}_f32"
    transposed = [n.output[0] for n in graph.node if n.op_type == "Transpose" and n.input[0] == INPUT_NAME]
    casts = {n.output[0]: n for n in graph.node if n.op_type == "Cast" and n.input[0] in (INPUT_NAME, *transposed)}
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == INPUT_NAME and node.op_type in ("Shape", "Transpose"):
                node.input[i] = as_float
            elif name in casts:
                source = casts[name].input[0]
                node.input[i] = as_float if source == INPUT_NAME else source
    nodes = [n for n in graph.node if not (n.op_type == "Cast" and n.output[0] in casts)]
    first = helper.make_node("Cast", [INPUT_NAME], [as_float], name="images_to_float", to=TensorProto.FLOAT)
    _replace(graph.node, [first, *nodes])
    # Their types were those of the bytes.
    _replace(graph.value_info, [v for v in graph.value_info if v.name not in transposed])
    strangers = sorted({n.op_type for n in graph.node if INPUT_NAME in n.input} - {"Cast"})
    assert not strangers, f"the exporter reads the uint8 input in {strangers}"


def name_weights(model: onnx.ModelProto, prefix: str) -> None:
    """Weights get the names they have in the checkpoint: ``prefix`` is taken off."""
    short = {i.name: i.name.removeprefix(prefix) for i in model.graph.initializer}
    for initializer in model.graph.initializer:
        initializer.name = short[initializer.name]
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name in short:
                node.input[i] = short[name]


def strip_origins(model: onnx.ModelProto) -> None:
    """Take out the exporter's notes on where nodes came from: Python stack traces with the paths of this machine."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    graph.ClearField("metadata_props")
    graph.ClearField("doc_string")


def _replace(field: Any, items: Sequence[Any]) -> None:
    copies = list(items)
    del field[:]
    field.extend(copies)
