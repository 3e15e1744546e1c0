"""INT8 behind clips: ranges are measured behind the activation, and where the rounding saturates it does the clip."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from aweigh.export.precision.encoding import for_onnxruntime, for_tensorrt
from aweigh.export.precision.quantize import quantized

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
_SPREAD = 0.02  # of the weights: what comes out of the first convolution reaches beyond -20 and 20


def clipped(low: float, high: float) -> ir.Model:
    """Two convolutions with a clip between, of uint8 images; the last one gives the output."""
    weights = {
        "a.weight": GENERATOR.normal(0, _SPREAD, (8, 3, 3, 3)),
        "a.bias": GENERATOR.normal(0, 1, 8),
        "b.weight": GENERATOR.normal(0, _SPREAD, (4, 8, 1, 1)),
        "b.bias": GENERATOR.normal(0, 1, 4),
        "low": np.array(low),
        "high": np.array(high),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["input"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["input", "a.weight", "a.bias"], ["sums"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["sums", "low", "high"], ["cut"], name="clip"),
        helper.make_node("Conv", ["cut", "b.weight", "b.bias"], ["output"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "clipped",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 8, 8, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def rounding_of(model: ir.Model, consumer: str) -> tuple[float, int]:
    """Scale and zero point of what a convolution reads."""
    [node] = [node for node in model.graph if node.name == consumer]
    dequantize = node.inputs[0].producer()
    assert dequantize is not None
    scale, zero = (dequantize.inputs[i].const_value.numpy() for i in (1, 2))
    return float(scale), int(zero)


def run(model: ir.Model) -> np.ndarray[Any, Any]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 3
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    [output] = session.run(["output"], {"images": IMAGES})
    return np.asarray(output)


def test_relu6_is_done_by_the_rounding() -> None:
    plain = clipped(0, 6)
    common = quantized(plain, list(IMAGES), 1)
    assert "Clip" not in operators(common)
    for model, steps, zero in ((for_tensorrt(common), 127, 0), (for_onnxruntime(common), 255, 0)):
        onnx.checker.check_model(ir.to_proto(model), full_check=True)
        assert rounding_of(model, "second") == (pytest.approx(6 / steps), zero)  # the range is the activation's
        # The sums are rounded by the same steps: nothing is lost on values that the clip takes away.
        scales = [
            float(node.inputs[1].const_value.numpy())
            for node in model.graph
            if node.op_type == "QuantizeLinear" and node.inputs[0].name == "sums"
        ]
        assert scales == [pytest.approx(6 / steps)]
    assert not {"Relu", "Max"} & {*operators(for_onnxruntime(common))}
    expected = run(plain)
    errors = [np.square(run(model) - expected).mean() for model in (for_tensorrt(common), for_onnxruntime(common))]
    assert errors[1] < errors[0] < 0.03**2 * np.square(expected).mean()


@pytest.mark.parametrize(("low", "high"), [(-1.0, 6.0), (0.5, 6.0)])
def test_a_clip_that_rounding_does_not_do_stays(low: float, high: float) -> None:
    plain = clipped(low, high)
    for model in (for_tensorrt, for_onnxruntime):
        result = model(quantized(plain, list(IMAGES), 1))
        assert "Clip" in operators(result)
        assert np.abs(run(result) - run(plain)).max() < 0.1 * np.abs(run(plain)).max()


def test_what_a_clip_takes_away_takes_no_steps_where_the_next_layer_stays_in_float() -> None:
    """The sums reach beyond -20 and 20, the clip leaves 0 to 6: rounded by their own range they had 19 steps for it."""
    plain = clipped(0, 6)
    common = quantized(plain, list(IMAGES), 1, keep_high=("b",))
    for model in (for_tensorrt(common), for_onnxruntime(common)):
        onnx.checker.check_model(ir.to_proto(model), full_check=True)
        assert np.abs(run(model) - run(plain)).max() < 0.02 * np.abs(run(plain)).max()
    scales = [
        float(node.inputs[1].const_value.numpy())
        for node in for_onnxruntime(common).graph
        if node.op_type == "QuantizeLinear" and node.inputs[0].name == "sums"
    ]
    assert scales == [pytest.approx(6 / 127)]
