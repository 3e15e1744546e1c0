"""Channels of different ranges before a depthwise convolution: the same network, finer steps."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from aweigh.export.precision.encoding import for_onnxruntime, for_tensorrt
from aweigh.export.precision.equalise import equalised, factors_of
from aweigh.export.precision.quantize import quantized

GENERATOR = np.random.default_rng(0)
IMAGES = list(GENERATOR.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8))
CHANNELS = 8
# Largest values of the channels, in order: from a hundredth of the range to all of it.
REACH = np.geomspace(0.05, 5, CHANNELS)


def network(activation: Literal["Relu", "Clip", "LeakyRelu"] = "Clip", groups: int = CHANNELS) -> ir.Model:
    """Convolution, activation, depthwise convolution, activation, 1x1 convolution, of uint8 images."""
    weight = GENERATOR.normal(0, 1, (CHANNELS, 3, 3, 3)) * REACH[:, None, None, None] / 2000
    weights = {
        "a.weight": weight,
        "a.bias": REACH / 8,
        # What is small before is as important behind.
        "b.weight": GENERATOR.normal(0, 0.3, (CHANNELS, CHANNELS // groups, 3, 3)) / REACH[:, None, None, None],
        "b.bias": np.full(CHANNELS, 0.5),
        "c.weight": GENERATOR.normal(0, 0.3, (4, CHANNELS, 1, 1)),
        "c.bias": np.zeros(4),
        "low": np.array(0.0),
        "high": np.array(6.0),
    }
    limits = ["low", "high"] if activation == "Clip" else []
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["input"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["input", "a.weight", "a.bias"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["a", *limits], ["cut"], name="activation"),
        helper.make_node("Conv", ["cut", "b.weight", "b.bias"], ["b"], name="second", pads=[1] * 4, group=groups),
        helper.make_node("Relu", ["b"], ["positive"], name="relu"),
        helper.make_node("Conv", ["positive", "c.weight", "c.bias"], ["output"], name="third"),
    ]
    graph = helper.make_graph(
        nodes,
        "mobile",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 16, 16, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 4, 16, 16])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def run(model: ir.Model) -> np.ndarray[Any, Any]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 3
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    [output] = session.run(["output"], {"images": np.stack(IMAGES)})
    return np.asarray(output)


def constants(model: ir.Model) -> dict[str, np.ndarray[Any, Any]]:
    return {name: value.const_value.numpy() for name, value in model.graph.initializers.items() if value.const_value}


def test_the_network_is_the_same_and_the_channels_are_alike() -> None:
    plain = network()
    before = {name: values.copy() for name, values in constants(plain).items()}
    result = equalised(plain, IMAGES, 1)
    onnx.checker.check_model(ir.to_proto(result), full_check=True)
    np.testing.assert_array_equal(run(result), run(plain))
    factors = constants(result)["a.bias"] / before["a.bias"]
    assert set(np.log2(factors)) <= set(range(7))
    assert factors[0] >= 32  # the smallest channel
    assert factors[-1] == 1  # the largest one keeps its range
    np.testing.assert_array_equal(constants(result)["b.weight"] * factors[:, None, None, None], before["b.weight"])
    said = {node.name: factors_of(node) for node in result.graph}
    np.testing.assert_array_equal(said["first"], factors)
    assert said["second"] is None
    # The graph that was given is the reference of the receipt, and stays.
    for name, values in constants(plain).items():
        np.testing.assert_array_equal(values, before[name])


def test_the_file_says_what_channels_were_multiplied_by() -> None:
    for encoding in (for_tensorrt, for_onnxruntime):
        model = ir.from_proto(ir.to_proto(encoding(quantized(network(), IMAGES, 1))))
        [first] = [node for node in model.graph if node.name == "first"]
        factors = factors_of(first)
        assert factors is not None
        assert factors.max() >= 32


@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_int8_loses_less(activation: Literal["Relu", "Clip"]) -> None:
    plain = network(activation)
    expected = run(plain)
    for encoding in (for_tensorrt, for_onnxruntime):
        with_it, without = (
            np.square(run(encoding(quantized(plain, IMAGES, 1, equalise=equalise))) - expected).mean()
            for equalise in (True, False)
        )
        assert with_it < without / 10


def test_what_is_no_depthwise_convolution_behind_an_activation_stays() -> None:
    dense, leaky = network(groups=1), network("LeakyRelu")
    for plain in (dense, leaky):
        result = equalised(plain, IMAGES, 1)
        for name, values in constants(plain).items():
            np.testing.assert_array_equal(constants(result)[name], values)


def test_a_channel_that_is_never_on_does_not_overflow() -> None:
    plain = network("Relu")
    bias = plain.graph.initializers["a.bias"]
    bias.const_value = ir.tensor(np.r_[np.float32(-100), constants(plain)["a.bias"][1:]], name="a.bias")
    result = equalised(plain, IMAGES, 1)
    assert np.isfinite(constants(result)["a.weight"]).all()
    np.testing.assert_array_equal(run(result), run(plain))
