"""INT8: what rounding the weights adds to the mean of a channel is taken off its bias."""

from __future__ import annotations

from typing import Any, TypeAlias

import cv2
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from aweigh.export.precision import quantize, tidy
from aweigh.export.precision.bias import channel_means, shifts
from aweigh.export.precision.encoding import for_onnxruntime, for_tensorrt

CHANNELS = 8
Image: TypeAlias = np.ndarray[Any, Any]


def images(seed: int) -> list[np.ndarray[Any, Any]]:
    return list(np.random.default_rng(seed).integers(0, 256, (4, 24, 24, 3), dtype=np.uint8))


def network() -> ir.Model:
    """Convolution, ReLU6, depthwise convolution, relu, 1x1 convolution, of uint8 images."""
    draw = np.random.default_rng(0)
    weights = {
        "a.weight": draw.normal(0, 0.004, (CHANNELS, 3, 3, 3)),
        "a.bias": np.full(CHANNELS, 3.0),
        # Differences of large positive values, as networks of depthwise convolutions compute.
        "b.weight": (kernels := draw.normal(0, 1, (CHANNELS, 1, 5, 5))) - kernels.mean(axis=(2, 3), keepdims=True),
        "b.bias": np.full(CHANNELS, 0.5),
        "c.weight": draw.normal(0, 0.3, (4, CHANNELS, 1, 1)),
        "c.bias": np.zeros(4),
        "low": np.array(0.0),
        "high": np.array(6.0),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["input"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["input", "a.weight", "a.bias"], ["a"], name="first"),
        helper.make_node("Clip", ["a", "low", "high"], ["cut"], name="clip"),
        helper.make_node("Conv", ["cut", "b.weight", "b.bias"], ["b"], name="second", group=CHANNELS),
        helper.make_node("Relu", ["b"], ["positive"], name="relu"),
        helper.make_node("Conv", ["positive", "c.weight", "c.bias"], ["output"], name="third"),
    ]
    graph = helper.make_graph(
        nodes,
        "mobile",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 24, 24, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 4, 18, 18])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def run(model: ir.Model, pictures: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 3
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    [output] = session.run(["output"], {"images": np.stack(pictures)})
    return np.asarray(output)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_shifts_are_those_of_the_convolutions(groups: int) -> None:
    generator = torch.Generator().manual_seed(groups)
    weight = torch.randn(8, 8 // groups, 3, 3, generator=generator, dtype=torch.float64)
    rounded = (weight * 4).round() / 4
    means = torch.rand(8, generator=generator, dtype=torch.float64)
    flat = means.view(1, 8, 1, 1).expand(1, 8, 3, 3)  # an input that is its mean everywhere
    before, after = (torch.nn.functional.conv2d(flat, w, groups=groups).flatten() for w in (weight, rounded))
    found = shifts(weight.numpy(), rounded.numpy(), means.numpy(), groups)
    np.testing.assert_allclose(found, (after - before).numpy(), atol=1e-12)
    assert np.abs(found).max() > 0.1


def test_means_of_channels() -> None:
    model, pictures = network(), images(1)
    means = channel_means(model, ["input", "cut", "nowhere"], pictures, 2)
    assert set(means) == {"input", "cut"}
    np.testing.assert_allclose(means["input"], np.stack(pictures).mean(axis=(0, 1, 2)), rtol=1e-5)
    assert 0 < means["cut"].min() < means["cut"].max() < 6
    assert [value.name for value in model.graph.outputs] == ["output"]  # the graph that was given stays


def to_nearest(values: np.ndarray[Any, Any], largest: int) -> np.ndarray[Any, Any]:
    """As ``whole_numbers``, each weight by itself."""
    return np.clip(np.rint(values), -largest, largest)


def smooth(seed: int) -> list[np.ndarray[Any, Any]]:
    """As photographs are, for the most part."""
    return [cv2.resize(image[:5, :5], (24, 24), interpolation=cv2.INTER_CUBIC) for image in images(seed)]


def errors(plain: ir.Model, measured: list[Image], others: list[Image]) -> list[tuple[float, float]]:
    """Mean square, and largest mean of a channel, in both encodings."""
    expected, found = run(plain, others), []
    for encoded in (for_tensorrt, for_onnxruntime):
        model = encoded(quantize.quantized(plain, measured, 1))
        onnx.checker.check_model(ir.to_proto(model), full_check=True)
        error = run(model, others) - expected
        found.append((float(np.square(error).mean()), float(np.abs(error.mean(axis=(0, 2, 3))).max())))
    return found


def test_int8_loses_less_on_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """By biases alone: each weight is rounded by itself."""
    monkeypatch.setattr(tidy, "whole_numbers", to_nearest)
    corrected = errors(network(), images(1), images(2))
    monkeypatch.setattr(quantize, "channel_means", lambda *_: {})
    for (square, mean), (square_without, mean_without) in zip(
        corrected, errors(network(), images(1), images(2)), strict=True
    ):
        assert square < 0.7 * square_without
        assert mean < 0.5 * mean_without


def test_kernels_that_keep_their_sums_lose_less_with_and_without_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for biases in (True, False):
        if not biases:
            monkeypatch.setattr(quantize, "channel_means", lambda *_: {})
        for sums in (True, False):
            with monkeypatch.context() as patch:
                if not sums:
                    patch.setattr(tidy, "whole_numbers", to_nearest)
                found[biases, sums] = [square for square, _ in errors(network(), smooth(1), smooth(2))]
    for place in (0, 1):  # the encodings
        assert found[False, True][place] < 0.75 * found[False, False][place]
        assert found[True, True][place] < 0.95 * found[True, False][place]


def test_biases_stay_whole_numbers_of_steps() -> None:
    model = for_onnxruntime(quantize.quantized(network(), images(1), 1))
    biases = [node for node in model.graph if node.op_type == "Conv" for _ in node.inputs[2:]]
    assert len(biases) == 3
    for node in biases:
        assert node.inputs[2] is not None
        dequantize = node.inputs[2].producer()
        assert dequantize is not None
        integers = dequantize.inputs[0]
        assert integers is not None
        assert integers.const_value is not None
        assert integers.const_value.numpy().dtype == np.int32
