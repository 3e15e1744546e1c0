"""Edits of an exported graph that the exporter cannot be asked for; all of them in place."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir
from onnx_ir.passes import common as passes

from aweigh.runtime.backends.base import INPUT_NAME


def drop_outputs(model: ir.Model, keep: Collection[str]) -> None:
    """Keep the outputs in ``keep``, and the nodes and weights they need."""
    outputs = [output for output in model.graph.outputs if output.name in keep]
    model.graph.outputs.clear()
    model.graph.outputs.extend(outputs)
    passes.RemoveUnusedNodesPass()(model)


def cast_input_first(model: ir.Model) -> None:
    """The uint8 input goes into one Cast to float and nowhere else.

    TensorRT takes UINT8 as a network input with a Cast behind it, and in no other operator; the exporter transposes the
    bytes and asks their shape.
    """
    graph = model.graph
    [images] = graph.inputs
    as_float = ir.val(f"{INPUT_NAME}_f32", ir.DataType.FLOAT, images.shape)
    for node in images.consumers():
        if node.op_type == "Cast":
            _bypass(node, as_float)
        elif node.op_type == "Transpose":
            [bytes_moved] = node.outputs
            for cast in bytes_moved.consumers():
                if cast.op_type == "Cast":
                    _bypass(cast, bytes_moved)
            bytes_moved.type = ir.TensorType(ir.DataType.FLOAT)
    strangers = {node.op_type for node in images.consumers()} - {"Shape", "Transpose"}
    assert not strangers, f"the exporter reads the uint8 input in {sorted(strangers)}"
    images.replace_all_uses_with(as_float)
    first = ir.node(
        "Cast", [images], {"to": ir.DataType.FLOAT.value}, outputs=[as_float], name=f"{INPUT_NAME}_to_float"
    )
    graph.insert_before(graph.node(0), first)


def name_weights(model: ir.Model, prefix: str) -> None:
    """Give weights the names they have in the checkpoint: ``prefix`` is taken off."""
    for weight in list(model.graph.initializers.values()):
        assert weight.name is not None
        weight.name = weight.name.removeprefix(prefix)


def strip_origins(model: ir.Model) -> None:
    """Take out the exporter's notes on where nodes came from: Python stack traces with the paths of this machine."""
    model.doc_string = None
    model.metadata_props.clear()
    for graph in (model.graph, *model.graph.subgraphs()):
        values = (*graph.inputs, *graph.outputs, *graph.initializers.values())
        for part in (graph, *graph, *values, *(value for node in graph for value in node.outputs)):
            part.doc_string = None
            part.metadata_props.clear()
        for weight in graph.initializers.values():
            if weight.const_value is not None:
                weight.const_value.metadata_props.clear()


def _bypass(node: ir.Node, instead: ir.Value) -> None:
    """Take a node out; what read its output reads ``instead``."""
    node.outputs[0].replace_all_uses_with(instead)
    assert node.graph is not None
    node.graph.remove(node, safe=True)
