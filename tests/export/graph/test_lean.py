"""Graphs planted by hand: what the rewrites change, what they leave, and that the numbers stay."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx_ir.passes import common as passes

from aweigh.export.graph.lean import share_integers, share_operands, spare_layers

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node = helper.make_node
VALUES = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)


def model(nodes: list[Any], output: list[Any], **constants: Any) -> ir.Model:
    """From ``x`` [batch, 6, 4] to ``y``."""
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", 6, 4])],
        [helper.make_tensor_value_info("y", *output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return ir.from_proto(shape_inference.infer_shapes(proto))


def result(planted: ir.Model) -> Any:
    content = ir.to_proto(planted).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": VALUES})[0]


def changed(planted: ir.Model) -> Counter[str]:
    """Operators after all rewrites, which give the same numbers."""
    before = result(planted)
    share_integers(planted)
    spare_layers(planted)
    share_operands(planted)
    passes.RemoveUnusedNodesPass()(planted)
    after = result(planted)
    assert after.dtype == before.dtype
    np.testing.assert_array_equal(after, before)
    return Counter(each.op_type for each in planted.graph)


def part(start: int, end: int, axis: int, step: int = 1) -> dict[str, Any]:
    return {"start": [start], "end": [end], "axis": [axis], "step": [step]}


SLICE = node("Slice", ["x", "start", "end", "axis", "step"], ["part"])


@pytest.mark.parametrize(
    ("bounds", "operator"),
    [
        (part(1, 3, 2), "Gather"),
        (part(-2, 99, -1), "Gather"),
        (part(0, 6, 2, step=2), "Slice"),
        (part(0, 1, 0), "Slice"),  # the free axis
        (part(3, 3, 1), "Slice"),  # nothing
    ],
)
def test_a_slice_between_constants_becomes_a_gather(bounds: dict[str, Any], operator: str) -> None:
    planted = model([SLICE, node("Relu", ["part"], ["y"])], [FLOAT, None], **bounds)
    assert changed(planted) == {operator: 1, "Relu": 1}


def test_one_place_of_an_axis_is_gathered_without_it() -> None:
    nodes = [SLICE, node("Squeeze", ["part", "axis"], ["less"]), node("Neg", ["less"], ["y"])]
    planted = model(nodes, [FLOAT, None], **part(2, 3, 1))
    assert changed(planted) == {"Gather": 1, "Neg": 1}
    [gather] = (each for each in planted.graph if each.op_type == "Gather")
    assert gather.inputs[1] is not None
    assert (gather.inputs[1].dtype, len(gather.inputs[1].shape or ())) == (ir.DataType.INT32, 0)


def test_whole_rows_are_gathered_at_once() -> None:
    nodes = [
        node("ArgMax", ["x"], ["best"], axis=1),  # [batch, 1, 4]
        node("Transpose", ["best"], ["narrow"], perm=[0, 2, 1]),
        node("Expand", ["narrow", "wide"], ["index"]),
        node("GatherElements", ["x", "index"], ["y"], axis=1),
    ]
    planted = model(nodes, [FLOAT, None], wide=[1, 1, 4])
    assert changed(planted) == {"ArgMax": 1, "Transpose": 1, "GatherND": 1}


def test_an_index_that_differs_along_the_row_stays() -> None:
    nodes = [node("ArgMax", ["x"], ["index"], axis=1), node("GatherElements", ["x", "index"], ["y"], axis=1)]
    assert changed(model(nodes, [FLOAT, None]))["GatherElements"] == 1


def test_operands_get_the_rank_of_the_result_and_are_held_once() -> None:
    nodes = [
        node("Add", ["x", "one"], ["a"]),
        node("Mul", ["a", "also_one"], ["b"]),
        node("Sub", ["b", "row"], ["c"]),
        node("ReduceMax", ["c", "axes"], ["d"], keepdims=0),
        node("Add", ["d", "one"], ["y"]),
    ]
    constants = {"one": np.float32(1), "also_one": np.float32(1), "row": np.ones(4, np.float32), "axes": [1]}
    planted = model(nodes, [FLOAT, None], **constants)
    changed(planted)
    operands = [each.inputs[1] for each in planted.graph if each.op_type != "ReduceMax"]
    assert [value.const_value.shape.numpy() for value in operands if value and value.const_value] == [
        (1, 1, 1),
        (1, 1, 1),
        (1, 1, 4),
        (1, 1),
    ]
    assert operands[0] is operands[1]


def test_reshapes_need_no_shape_of_another_and_no_axes() -> None:
    nodes = [
        node("Unsqueeze", ["x", "axes"], ["wide"]),
        node("Neg", ["wide"], ["less"]),
        node("Shape", ["x"], ["shape"]),
        node("Reshape", ["less", "shape"], ["y"]),
    ]
    assert changed(model(nodes, [FLOAT, None], axes=[3])) == {"Reshape": 2, "Neg": 1}


def test_equal_weights_are_not_shared() -> None:
    weight = np.ones((6, 6, 1), np.float32)
    nodes = [node("Conv", ["x", "w", "b"], ["a"]), node("Conv", ["a", "v", "c"], ["y"])]
    planted = model(nodes, [FLOAT, None], w=weight, v=weight, b=np.zeros(6, np.float32), c=np.zeros(6, np.float32))
    changed(planted)
    assert len(planted.graph.initializers) == 4
