"""The check against TensorRT's list finds what it must."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from aweigh.export.graph.operators import check_operators, tensorrt_table

FLOAT, INT64, UINT8, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL


def graph(
    nodes: list[Any], inputs: dict[str, tuple[int, list[int]]], constants: dict[str, Any], opset: int = 20
) -> Any:
    last = nodes[-1].output[0]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(last, FLOAT, None)],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("my.ops", 1)],
    )


def problems(*arguments: Any, **keywords: Any) -> list[str]:
    return [
        f"{f.operator}: {f.problem}" for f in check_operators(ir.from_proto(graph(*arguments, **keywords))).findings
    ]


def test_the_table_names_its_source() -> None:
    table = tensorrt_table()
    assert "onnx-tensorrt" in table["source"]
    assert table["tensorrt"] == "10.15"
    assert len(table["operators"]) > 150
    assert "Unique" in table["unsupported"]


def test_a_plain_graph_is_ready() -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=FLOAT), helper.make_node("Relu", ["y"], ["z"])]
    assert problems(nodes, {"x": (UINT8, [1, 4])}, {}) == []


@pytest.mark.parametrize(
    ("nodes", "inputs", "constants", "words"),
    [
        ([helper.make_node("Unique", ["x"], ["y"])], {"x": (FLOAT, [4])}, {}, "Unique: not supported"),
        ([helper.make_node("Transpose", ["x"], ["y"])], {"x": (UINT8, [2, 2])}, {}, "Transpose: input 0 is UINT8"),
        ([helper.make_node("Abs", ["x"], ["y"])], {"x": (BOOL, [4])}, {}, "Abs: input 0 is BOOL"),
        (
            [helper.make_node("TopK", ["x", "k"], ["y", "i"])],
            {"x": (FLOAT, [9000])},
            {"k": np.array([3841])},
            "TopK: K is 3841, the limit is 3840",
        ),
        (
            [helper.make_node("TopK", ["x", "k"], ["y", "i"])],
            {"x": (FLOAT, [9000]), "k": (INT64, [1])},
            {},
            "TopK: K is unbounded",
        ),
        (
            [helper.make_node("ScatterND", ["x", "i", "u"], ["y"], reduction="add")],
            {"x": (FLOAT, [4]), "i": (INT64, [2, 1]), "u": (FLOAT, [2])},
            {},
            "ScatterND: reduction 'add'",
        ),
        (
            [helper.make_node("Resize", ["x", "", "s"], ["y"], mode="cubic", antialias=1)],
            {"x": (FLOAT, [1, 1, 4, 4])},
            {"s": np.array([1, 1, 2, 2], np.float32)},
            "Resize: mode 'cubic', antialias 1",
        ),
        (
            [helper.make_node("ReduceSum", ["x", "a"], ["y"])],
            {"x": (FLOAT, [4, 4]), "a": (INT64, [1])},
            {},
            "ReduceSum: input 1 (axes) must be a constant",
        ),
        ([helper.make_node("Mine", ["x"], ["y"], domain="my.ops")], {"x": (FLOAT, [4])}, {}, "a custom operator"),
    ],
)
def test_findings(nodes: list[Any], inputs: Any, constants: Any, words: str) -> None:
    found = problems(nodes, inputs, constants)
    assert len([p for p in found if words in p]) >= 1, found


def test_k_through_min_is_bounded() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["n"]),
        helper.make_node("Min", ["n", "limit"], ["k"]),
        helper.make_node("TopK", ["x", "k"], ["y", "i"]),
    ]
    assert problems(nodes, {"x": (FLOAT, [9000])}, {"limit": np.array([1000])}) == []


def test_opset_beyond_the_list() -> None:
    model = graph([helper.make_node("Relu", ["x"], ["y"])], {"x": (FLOAT, [4])}, {}, opset=25)
    assert "opset 25" in check_operators(ir.from_proto(model)).findings[0].problem
