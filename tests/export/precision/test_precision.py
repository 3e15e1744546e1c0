"""FP16, BF16 and INT8: what the graph holds, and that it still detects the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from aweigh.export.graph.layers import convolutions
from aweigh.export.graph.operators import check_operators
from aweigh.export.precision.calibration import Calibration
from aweigh.export.precision.count import count_precision, require_lowered
from aweigh.export.precision.encoding import for_onnxruntime
from aweigh.export.precision.half import lowered
from aweigh.export.precision.lowering import Lowering
from aweigh.export.precision.quantize import quantized
from aweigh.export.precision.table import TABLE, require_bfloat16
from aweigh.export.proof.bisect import LayerError, bisect, mark_jumps
from aweigh.export.proof.images import golden_images
from aweigh.export.proof.prove import make_receipt
from aweigh.export.proof.stages import rows
from aweigh.export.to_onnx import export_onnx, make_graph, trace
from aweigh.runtime.agreement.match import match_detections
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.backends.openvino import OpenVinoBackend
from aweigh.runtime.errors import BadInput, CheckFailed
from aweigh.runtime.inspection import inspect_model
from aweigh.runtime.machine.facts import sums_int8_exactly
from aweigh.runtime.precision import PRECISIONS
from aweigh.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.methods import METHODS

pytestmark = pytest.mark.slow
MakeCheckpoint = Callable[[str], Path]
MakeExport = Callable[..., Path]


@pytest.fixture(scope="module")
def fcos(make_checkpoint: MakeCheckpoint) -> Checkpoint:
    loaded = load_checkpoint(make_checkpoint("fcos"))
    return replace(loaded, spec=replace(loaded.spec, batch=(1, 4)))


@pytest.fixture(scope="module")
def pictures(fcos: Checkpoint) -> list[np.ndarray[Any, Any]]:
    return [p.image_u8 for p in golden_images(fcos.spec.input, 4)]


@pytest.fixture(scope="module")
def plain(fcos: Checkpoint) -> ir.Model:
    return trace(fcos.detector(), fcos.spec)


@pytest.fixture(scope="module")
def int8(plain: ir.Model, pictures: list[np.ndarray[Any, Any]]) -> ir.Model:
    """Before its encoding, and for this network the same as TensorRT's."""
    return quantized(plain, pictures, 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_shapes(tmp_path_factory.mktemp("data") / "shapes", train=4, val=3, size_hw=(96, 128))


def outputs_of(model: ir.Model, images_u8: Any, optimised: bool = True) -> list[Any]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 3
    if not optimised:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"images": images_u8}))


@pytest.mark.parametrize("method", METHODS)
def test_fp16_finds_what_the_trained_model_finds(
    method: str, make_export: MakeExport, make_checkpoint: MakeCheckpoint
) -> None:
    path = make_export(method, precision="fp16")
    receipt = make_receipt(path, load_checkpoint(make_checkpoint(method)), threads=1)
    assert [check for check in receipt.checks if not check.passed] == []
    assert receipt.detections > 300
    assert receipt.operators.ready
    model = onnx.load(path)
    count = count_precision(ir.from_proto(model), "fp16")
    assert count.lowered == count.convolutions > 30
    types = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    assert types["stage_p3"] == TensorProto.FLOAT16
    assert {types[f"stage_{name}"] for name in ("input", "boxes", "scores")} == {TensorProto.FLOAT}
    decoding = {"TopK", "NonMaxSuppression", "Exp", "Sigmoid", "Softmax", "Sub", "Div"}
    high = [n for n in model.graph.node if n.op_type in decoding]
    assert TensorProto.FLOAT16 not in {types.get(name) for node in high for name in node.output}


def test_bf16_graph_is_for_engines(fcos: Checkpoint) -> None:
    model = make_graph(fcos.detector(), replace(fcos.spec, precision="bf16"), Lowering())
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert model.graph.opset_imports[""] == 22
    assert require_lowered(model, "bf16").lowered > 30
    assert check_operators(model).ready
    [nms] = [n for n in model.graph if n.op_type == "NonMaxSuppression"]
    [pyramid] = [value for node in model.graph for value in node.outputs if value.name == "stage_p3"]
    nms.replace_input_with(0, pyramid)
    with pytest.raises(BadInput, match=r"--precision bf16: TensorRT .* has no bfloat16 form of NonMaxSuppression"):
        require_bfloat16(model)


def test_int8_for_tensorrt_is_symmetric_and_per_channel(plain: ir.Model, int8: ir.Model) -> None:
    assert not any(i.external_data for i in ir.to_proto(plain).graph.initializer)  # it kept its weights
    assert check_operators(int8).findings == ()
    count = count_precision(int8, "int8")
    outputs = [layer for layer, _ in convolutions(int8.graph) if layer.startswith("head.outputs")]
    assert count.lowered == count.convolutions - len(outputs) > 20
    assert set(count.high) == set(outputs)
    graph = ir.to_proto(int8).graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    nodes = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {constants[n.input[2]].dtype for n in nodes} == {np.dtype(np.int8)}
    assert not any(constants[n.input[2]].any() for n in nodes)
    weights = [n for n in nodes if n.input[0] in constants]
    assert all(constants[n.input[1]].shape == constants[n.input[0]].shape[:1] for n in weights)
    names = {name for node in graph.node for name in node.output}
    stages = {value.name for node in plain.graph for value in node.outputs if (value.name or "").startswith("stage_")}
    assert len(stages) > 5
    assert stages <= names


def test_onnxruntime_has_finer_steps_behind_a_relu(
    plain: ir.Model, int8: ir.Model, pictures: list[np.ndarray[Any, Any]]
) -> None:
    other = for_onnxruntime(int8)
    proto = ir.to_proto(other)
    onnx.checker.check_model(proto, full_check=True)
    constants = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    quantize = [n for n in proto.graph.node if n.op_type == "QuantizeLinear"]
    assert {int(constants[n.input[2]]) for n in quantize} == {0, 128}
    assert {constants[n.input[2]].dtype for n in quantize} == {np.dtype(np.uint8)}
    assert not check_operators(other).ready
    levels = ("stage_p3", "stage_p4", "stage_p5")
    images_u8 = np.stack(pictures[:3])
    trained, symmetric, finer = (stages_of(model, levels, images_u8) for model in (plain, int8, other))
    for level in levels:
        errors = [float(np.square(found[level] - trained[level]).mean()) for found in (symmetric, finer)]
        assert errors[1] < 0.9 * errors[0], level


def stages_of(
    model: ir.Model, names: tuple[str, ...], images_u8: np.ndarray[Any, Any]
) -> dict[str, np.ndarray[Any, Any]]:
    tapped = model.clone()
    for value in [v for node in tapped.graph for v in node.outputs if v.name in names]:
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), None
        tapped.graph.outputs.append(value)
    found = outputs_of(tapped, images_u8, optimised=False)
    held = [output.name for output in tapped.graph.outputs]
    return {name: found[held.index(name)] for name in names}


def test_a_channel_without_weights_keeps_its_bias(plain: ir.Model, pictures: list[np.ndarray[Any, Any]]) -> None:
    """Its own scale is so small that the bias in steps of it would not fit in 32 bits."""
    model = plain.clone()
    [node] = [node for layer, node in convolutions(model.graph) if layer == "neck.lateral.0"]
    for constant, value in ((node.inputs[1], 1e-14), (node.inputs[2], 1.5)):
        changed = constant.const_value.numpy().copy()
        changed[3] = value
        constant.const_value = ir.tensor(changed, name=constant.name)
    for result in (quantized(model, pictures[:2], 1), for_onnxruntime(quantized(model, pictures[:2], 1))):
        [output] = [v for n in result.graph for v in n.outputs if v.name == node.outputs[0].name]
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), None
        result.graph.outputs.append(output)
        channel = outputs_of(result, pictures[0][None])[-1][0, 3]
        np.testing.assert_allclose(channel, 1.5, rtol=1e-5)


def test_every_quantised_convolution_runs_in_integers(int8: ir.Model, tmp_path: Path) -> None:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 3
    settings.optimized_model_filepath = str(tmp_path / "run.onnx")
    content = ir.to_proto(for_onnxruntime(int8)).SerializeToString()
    onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    operators = [n.op_type for n in onnx.load(tmp_path / "run.onnx").graph.node]
    assert operators.count("QLinearConv") == count_precision(int8, "int8").lowered


@pytest.mark.parametrize("encoding", ["onnxruntime", "tensorrt"])
def test_int8_file_has_its_receipt_and_says_how_it_was_made(
    encoding: str, make_export: MakeExport, fcos: Checkpoint, data: Path
) -> None:
    path = make_export("fcos", precision="int8", encoding=encoding, data=str(data), calib=3)
    # Scores of an untrained network are noise; what is asked here is that nothing is broken.
    receipt = make_receipt(path, fcos, threads=1, given={"share": 0.4, "score": 0.3, "stage": 0.95})
    assert [check for check in receipt.checks if not check.passed] == []
    assert any(check.name == "precision" for check in receipt.checks)
    assert receipt.operators.ready == (encoding == "tensorrt")
    facts = inspect_model(path).to_dict()
    assert facts["spec"]["precision"] == "int8"
    assert facts["precision"]["encoding"] == encoding
    assert facts["precision"]["calibration"]["pictures"] == 3
    assert facts["precision"]["quantize_nodes"] == facts["graph"]["operators"]["QuantizeLinear"] > 10
    assert "aweigh.golden" in facts["metadata"]


@pytest.mark.parametrize(("encoding", "all_in_integers"), [("onnxruntime", True), ("tensorrt", False)])
def test_int8_is_computed_in_integers(
    encoding: str, all_in_integers: bool, make_export: MakeExport, data: Path, pictures: list[np.ndarray[Any, Any]]
) -> None:
    path = make_export("fcos", precision="int8", encoding=encoding, data=str(data), calib=3)
    lowered = count_precision(ir.load(path), "int8").lowered
    batch = np.stack(pictures[:2])
    with OnnxRuntimeBackend(path, threads=1) as reference, OpenVinoBackend(path, threads=1) as backend:
        exact = sums_int8_exactly()  # on other CPUs ONNX Runtime computes in float between the roundings, and says so
        assert (reference.precision, backend.precision) == ("int8" if exact else "fp32", "int8")
        assert backend.layers["int8"] == lowered  # of either encoding
        assert set(backend.layers) == {"int8", "fp32"}
        # ONNX Runtime computes the other encoding mostly in float, which `layers` tells.
        assert (reference.layers.get("int8") == lowered) == (exact and all_in_integers)
        expected, got = reference.infer(batch), backend.infer(batch)
    for row in range(2):
        match = match_detections(rows(expected, row), rows(got, row), moved_px=8.0)
        assert match.compared > 20
        assert match.lost + match.new + match.relabelled <= 0.2 * match.compared, match
        assert match.max_score_error < 0.05


def test_layers_kept_high(
    plain: ir.Model, fcos: Checkpoint, pictures: list[np.ndarray[Any, Any]], tmp_path: Path
) -> None:
    kept = ("backbone.layer4", "neck.output.0")
    spec = replace(fcos.spec, precision="fp16")
    half = make_graph(fcos.detector(), spec, Lowering(keep_high=kept))
    for model, precision in ((half, "fp16"), (quantized(plain, pictures[:1], 1, kept), "int8")):
        high = {name for name in count_precision(model, precision).high if not name.startswith("head.outputs")}
        assert high == {
            *("backbone.layer4.0.conv1", "backbone.layer4.0.conv2", "backbone.layer4.0.downsample.0"),
            "neck.output.0",
        }
    with pytest.raises(BadInput, match=r"--keep-high 'neck.out': no such layer"):
        export_onnx(fcos.detector(), spec, tmp_path / "best.onnx", lowering=Lowering(("neck.out",)))


def test_nothing_lowered_is_an_error(fcos: Checkpoint, tmp_path: Path, plain: ir.Model) -> None:
    everything = ("backbone", "neck", "head", "method")
    with pytest.raises(CheckFailed, match="--precision fp16: none of"):
        require_lowered(plain, "fp16")
    calibration = Calibration([np.zeros((128, 160, 3), np.uint8)], "train", "")
    spec = replace(fcos.spec, precision="int8")
    with pytest.raises(CheckFailed, match="--precision int8: none of"):
        export_onnx(
            fcos.detector(), spec, tmp_path / "best.onnx", lowering=Lowering(everything[:3], "tensorrt", calibration)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_what_it_says_fails(make_export: MakeExport, fcos: Checkpoint, tmp_path: Path) -> None:
    model = onnx.load(make_export("fcos", post="auto"))
    entry = next(p for p in model.metadata_props if p.key == "aweigh")
    entry.value = json.dumps(json.loads(entry.value) | {"precision": "fp16"})
    onnx.save(model, tmp_path / "best.onnx")
    receipt = make_receipt(tmp_path / "best.onnx", fcos, threads=1)
    assert (receipt.verdict, receipt.failed_at) == ("failed", "precision")


def overflowing(checkpoint: Checkpoint) -> Checkpoint:
    """Values of 1e6 behind one layer, that the next takes back: nothing to FP32, too much for half."""
    weights = {name: value.clone() for name, value in checkpoint.weights.items()}
    for name in ("neck.lateral.0.weight", "neck.lateral.0.bias"):
        weights[name] *= 1e6
    weights["neck.output.0.weight"] *= 1e-6
    return replace(checkpoint, weights=weights)


def test_fp16_overflow_is_caught_found_and_cured(fcos: Checkpoint, tmp_path: Path) -> None:
    broken = overflowing(fcos)
    save_checkpoint(broken, tmp_path / "broken.pt")
    broken = load_checkpoint(tmp_path / "broken.pt")
    spec = replace(broken.spec, precision="fp16", parents={"checkpoint_sha256": broken.sha256})
    path = tmp_path / "best.onnx"
    export_onnx(broken.detector(), spec, path)
    receipt = make_receipt(path, broken, threads=1)
    assert (receipt.verdict, receipt.failed_at) == ("failed", "p3")
    assert "NaN or infinity, first in p3" in [check.measured for check in receipt.checks]
    found = bisect(path, broken.detector(), golden_images(spec.input, 1))
    assert found.first == "neck.lateral.0"
    assert set(found.keep_high) == {"neck.lateral.0", "neck.output.0"}
    json.dumps(found.to_dict(), allow_nan=False)
    export_onnx(broken.detector(), spec, path, lowering=Lowering(keep_high=found.keep_high))
    assert make_receipt(path, broken, threads=1).verdict == "passed"


def test_bisect_names_a_planted_broken_layer(int8: ir.Model, fcos: Checkpoint, tmp_path: Path) -> None:
    model = ir.to_proto(for_onnxruntime(int8))
    [weight] = [i for i in model.graph.initializer if i.name == "backbone.layer3.0.conv2.weight"]
    weight.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(weight)), weight.name))
    helper.set_model_props(model, {"aweigh": replace(fcos.spec, precision="int8").to_json()})
    onnx.save(model, tmp_path / "best.onnx")
    found = bisect(tmp_path / "best.onnx", fcos.detector(), golden_images(fcos.spec.input, 2))
    assert found.first == "backbone.layer3.0.conv2"
    assert "backbone.layer3.0.conv2" in found.keep_high


def test_every_precision_of_the_runtime_can_be_exported() -> None:
    assert set(TABLE) == set(PRECISIONS)


def test_jumps() -> None:
    rows = [LayerError(name, error, 1.0, error < 9) for name, error in (("a", 0.02), ("b", 0.05), ("c", 0.9))]
    assert [row.jumps for row in mark_jumps(rows, "int8")] == [False, False, True]
    rows = [*rows[:2], LayerError("c", float("inf"), 1.0, False), LayerError("d", float("inf"), 1.0, False)]
    assert [row.jumps for row in mark_jumps(rows, "int8")] == [False, False, True, False]


def test_the_trained_detector_is_left_as_it_is(fcos: Checkpoint) -> None:
    detector = fcos.detector()
    lowered(detector, torch.float16)
    assert {p.dtype for p in detector.parameters()} == {torch.float32}
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in detector.modules())
