"""The list of operators against the real library: planted graphs, each built or refused by TensorRT for RTX itself."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from aweigh.export.graph.operators import check_operators

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX: pip install '.[rtx]'")

FLOAT, HALF, INT64, UINT8, BOOL = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.INT64,
    TensorProto.UINT8,
    TensorProto.BOOL,
)
node = helper.make_node
X = {"x": (FLOAT, [8])}


def quantised(zero_point: Any) -> tuple[list[Any], Any, Any]:
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    return nodes, X, {"s": np.float32(0.1), "z": zero_point}


def top_k(k: int, length: int = 9000, **attributes: Any) -> tuple[list[Any], Any, Any]:
    nodes = [node("TopK", ["x", "k"], ["y", "i"], **attributes)]
    return nodes, {"x": (FLOAT, [length])}, {"k": np.array([k])}


def resize(**attributes: Any) -> tuple[list[Any], Any, Any]:
    nodes = [node("Resize", ["x", "", "s"], ["y"], **attributes)]
    return nodes, {"x": (FLOAT, [1, 1, 4, 4])}, {"s": np.array([1, 1, 0.5, 0.5], np.float32)}


def cast(to: int, *behind: Any) -> tuple[list[Any], Any, Any]:
    return [node("Cast", ["x"], ["c"], to=to), *behind], X, {}


TAKEN = {
    "K at the limit": top_k(3840),
    "unsorted TopK": top_k(10, sorted=0),
    "cubic Resize": resize(mode="cubic"),
    "double inside": cast(TensorProto.DOUBLE, node("Relu", ["c"], ["r"]), node("Cast", ["r"], ["y"], to=FLOAT)),
    "equal truth values": cast(BOOL, node("Equal", ["c", "c"], ["e"]), node("Cast", ["e"], ["y"], to=FLOAT)),
    "FP8 around 0": quantised(np.array(0, ml_dtypes.float8_e4m3fn)),
    "INT8 around 0": quantised(np.int8(0)),
}
REFUSED = {
    "K above the limit": (top_k(3841), "K is 3841, the limit is 3840"),
    "K above the axis": (top_k(100, length=50), "K is 100, the axis has 50"),
    "two types": (cast(HALF, node("Add", ["c", "x"], ["y"])), "inputs of the types FP16, FP32, expected one type"),
    "antialias": (resize(mode="linear", antialias=1), "antialias 1"),
    "Det": (([node("Det", ["x"], ["y"])], {"x": (FLOAT, [4, 4])}, {}), "not supported"),
    "Unique": (([node("Unique", ["x"], ["y"])], X, {}), "not supported"),
    "custom": (([node("Mine", ["x"], ["y"], domain="my.ops")], X, {}), "a custom operator"),
    "uint8 inside": (
        ([node("Transpose", ["x"], ["t"]), node("Cast", ["t"], ["y"], to=FLOAT)], {"x": (UINT8, [2, 2])}, {}),
        "input 0 is UINT8",
    ),
    "ScatterND that adds": (
        (
            [node("ScatterND", ["x", "i", "u"], ["y"], reduction="add")],
            {"x": (FLOAT, [4]), "i": (INT64, [2, 1]), "u": (FLOAT, [2])},
            {},
        ),
        "reduction 'add'",
    ),
    "axes that are computed": (
        ([node("ReduceSum", ["x", "a"], ["y"])], {"x": (FLOAT, [4, 4]), "a": (INT64, [1])}, {}),
        "input 1 (axes) must be a constant",
    ),
    "uint8 around 128": (quantised(np.uint8(128)), "quantised to UINT8, expected INT8"),
    "INT8 around 3": (quantised(np.int8(3)), "zero point [3], expected 0"),
}
# Full TensorRT lists these.
REFUSED_BY_RTX = {
    "NonMaxSuppression": (
        [node("NonMaxSuppression", ["b", "s", "m", "i", "t"], ["y"])],
        {"b": (FLOAT, [1, 50, 4]), "s": (FLOAT, [1, 3, 50])},
        {"m": np.array([10]), "i": np.array([0.5], np.float32), "t": np.array([0.1], np.float32)},
    ),
    "NonZero": ([node("NonZero", ["x"], ["y"])], X, {}),
    "DeformConv": (
        [node("DeformConv", ["x", "w", "o"], ["y"], kernel_shape=[3, 3])],
        {"x": (FLOAT, [1, 2, 8, 8]), "o": (FLOAT, [1, 18, 6, 6])},
        {"w": np.ones((2, 2, 3, 3), np.float32)},
    ),
}


def model(nodes: list[Any], inputs: dict[str, Any], constants: dict[str, Any]) -> Any:
    kind = INT64 if nodes[-1].op_type in ("NonMaxSuppression", "NonZero") else FLOAT
    return helper.make_model(
        helper.make_graph(
            nodes,
            "planted",
            [helper.make_tensor_value_info(name, element, shape) for name, (element, shape) in inputs.items()],
            [helper.make_tensor_value_info("y", kind, None)],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("my.ops", 1)],
        ir_version=10,
    )


def builds(proto: Any) -> bool:
    """Whether the library makes a plan for Ada."""

    class Silent(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: Any, message: str) -> None:
            pass

    logger = Silent()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(proto.SerializeToString()):
        return False
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    return builder.build_serialized_network(network, config) is not None


@pytest.mark.parametrize("name", TAKEN)
def test_what_the_library_builds_is_ready(name: str) -> None:
    proto = model(*TAKEN[name])
    assert builds(proto)
    report = check_operators(ir.from_proto(proto))
    assert (report.findings, report.rtx_findings) == ((), ())


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_library_refuses_is_found(name: str) -> None:
    planted, words = REFUSED[name]
    proto = model(*planted)
    assert not builds(proto)
    report = check_operators(ir.from_proto(proto))
    assert any(words in finding.problem for finding in report.findings), report.findings


@pytest.mark.parametrize("name", REFUSED_BY_RTX)
def test_what_only_rtx_refuses_is_found_apart(name: str) -> None:
    proto = model(*REFUSED_BY_RTX[name])
    assert not builds(proto)
    report = check_operators(ir.from_proto(proto))
    assert report.ready
    assert [finding.operator for finding in report.rtx_findings] == [name]


def test_the_parser_knows_the_operators_of_the_list() -> None:
    """``supports_operator`` answers by name alone, so that types and limits are left to the planted graphs."""
    table = json.loads(files("aweigh.export.graph").joinpath("trt_operators.json").read_text())
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    parser = trt.OnnxParser(builder.create_network(0), logger)
    unknown = {name for name in table["operators"] if not parser.supports_operator(name)}
    assert unknown == {"DeformConv"}  # through a plugin, in full TensorRT
    assert not any(parser.supports_operator(name) for name in table["unsupported"])
    assert table["corrected_by"] in f"TensorRT for RTX {trt.__version__}"
