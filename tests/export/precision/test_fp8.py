"""FP8, which TensorRT takes and no export offers: why, held against the library that a receipt would be made with."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from aweigh.runtime.cli.main import main


def relu_then_fp8(level: Any) -> list[float]:
    """-2, -1, 1 and 2 through a relu and FP8, at a level of ONNX Runtime's optimisation."""
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Relu", ["x"], ["r"]),
            node("QuantizeLinear", ["r", "scale", "zero"], ["q"]),
            node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ],
        "relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [
            numpy_helper.from_array(np.float32(1 / 64), "scale"),
            numpy_helper.from_array(np.zeros((), ml_dtypes.float8_e4m3fn), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    [y] = session.run(None, {"x": np.array([-2, -1, 1, 2], np.float32)})
    return [float(value) for value in y]


def test_onnxruntime_leaves_out_a_relu_before_fp8() -> None:
    """Where this fails, ONNX Runtime has mended it, and FP8 can be thought of again."""
    levels = onnxruntime.GraphOptimizationLevel
    assert relu_then_fp8(levels.ORT_ENABLE_BASIC) == [0, 0, 1, 2]
    assert relu_then_fp8(levels.ORT_ENABLE_ALL) == [-2, -1, 1, 2]


def test_it_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--model", "absent.pt", "--precision", "fp8"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--precision fp8: is not offered" in error
