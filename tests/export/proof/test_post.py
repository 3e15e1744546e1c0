"""A file's post-processing is held against ours on the file's own points, whatever the network's precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from aweigh.export.proof.images import golden_images
from aweigh.export.proof.post import outputs_of_points
from aweigh.export.proof.prove import make_receipt
from aweigh.export.proof.receipt import Receipt
from aweigh.export.proof.sides import TAPPED_PREFIX, OnnxSide
from aweigh.export.proof.stages import rows
from aweigh.runtime.agreement.match import match_detections
from aweigh.runtime.spec import ModelSpec
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.data.shapes import generate_shapes
from support.receipts import planted

MakeExport = Callable[..., Path]
MakeCheckpoint = Callable[[str], Path]


@pytest.fixture(scope="module")
def file(make_export: MakeExport, tmp_path_factory: pytest.TempPathFactory) -> MakeExport:
    """An exported file of a method in a precision; INT8 takes its ranges from four generated images."""
    data = generate_shapes(tmp_path_factory.mktemp("shapes") / "data", train=4, val=1, size_hw=(96, 128))

    def make(method: str, precision: str = "fp32") -> Path:
        options = {"data": str(data), "calib": 4} if precision == "int8" else {}
        return make_export(method, post="auto", precision=precision, **options)

    return make


def failed(receipt: Receipt) -> set[str]:
    return {check.name.split(",")[0] for check in receipt.checks if not check.passed}


@pytest.mark.parametrize("method", ["fcos", "paa"])  # of which PAA's reads class probabilities and lets boxes vote
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_ours_finds_what_the_file_finds(method: str, precision: str, file: MakeExport) -> None:
    with OnnxSide(file(method, precision), threads=1) as side:
        images_u8 = np.stack([image.image_u8 for image in golden_images(side.spec.input, 2)])
        pair = outputs_of_points(side.with_stages(images_u8), side.spec.post, images_u8.shape[1:3])
    assert pair is not None
    ours, theirs = pair
    for image in range(2):
        match = match_detections(rows(ours, image), rows(theirs, image), moved_px=1e-3, score_limit=1e-6)
        assert match.compared > 20
        assert (match.differing, match.borderline, match.rescored) == (0, 0, 0)


def test_what_the_file_does_not_show_is_not_compared(make_export: MakeExport) -> None:
    for options, hidden in (({"post": "raw"}, ""), ({"post": "auto"}, "stage_classes"), ({"post": "auto"}, "stage_p5")):
        with OnnxSide(make_export("paa", **options), threads=1) as file:
            images_u8 = golden_images(file.spec.input, 1)[0].image_u8[None]
            staged = file.with_stages(images_u8)
            assert not hidden or outputs_of_points(staged, file.spec.post, images_u8.shape[1:3]) is not None
            shown = {name: value for name, value in staged.items() if name != hidden}
            assert outputs_of_points(shown, file.spec.post, images_u8.shape[1:3]) is None
            assert (TAPPED_PREFIX + "boxes" in staged) == file.has_stages


def test_a_file_of_an_earlier_version_is_said_to_hide_them(
    make_export: MakeExport, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    """PAA's class probabilities had no name."""
    model = onnx.load(make_export("paa", post="auto"))
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["unnamed" if name == "stage_classes" else name for name in names]
    onnx.save(model, tmp_path / "best.onnx")
    receipt = make_receipt(tmp_path / "best.onnx", load_checkpoint(make_checkpoint("paa")), threads=1)
    assert receipt.verdict == "passed"
    assert "does not name all tensors that its post-processing reads" in receipt.warnings[0]
    assert not any(check.name.startswith("post-processing") for check in receipt.checks)


def nms_threshold_of_0_55(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """A little stricter than 0.6: so few boxes fall that they are lost among those which INT8 moves."""
    for graph in (model.graph, *(a.g for node in model.graph.node for a in node.attribute if a.HasField("g"))):
        for constant in graph.initializer:
            value = numpy_helper.to_array(constant)
            if value.dtype == np.float32 and value.size == 1 and np.isclose(value, spec.post.iou_threshold).all():
                constant.CopyFrom(numpy_helper.from_array(np.full_like(value, 0.55), constant.name))


def wider_votes(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Twice PAA's sigma: every box is the mean of more of its neighbours, and moves by less than INT8 lets pass."""
    names = {name for node in model.graph.node if node.op_type == "Div" for name in node.input}
    [sigma] = [
        c
        for c in model.graph.initializer
        if c.name in names and np.isclose(np.abs(numpy_helper.to_array(c)), spec.post.vote_sigma).all()
    ]
    sigma.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(sigma), sigma.name))


@pytest.mark.parametrize(("method", "fault"), [("fcos", nms_threshold_of_0_55), ("paa", wider_votes)])
def test_a_small_fault_behind_an_int8_network_is_caught(
    method: str,
    fault: Callable[[onnx.ModelProto, ModelSpec], None],
    file: MakeExport,
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
) -> None:
    """By the post-processing alone: for the detections, rounding explains it."""
    checkpoint = load_checkpoint(make_checkpoint(method))
    honest = file(method, "int8")
    assert "post-processing" not in failed(make_receipt(honest, checkpoint, threads=1))
    model = onnx.load(honest)
    spec = next(ModelSpec.from_json(prop.value) for prop in model.metadata_props if prop.key == "aweigh")
    fault(model, spec)
    onnx.save(model, tmp_path / "best.onnx")
    receipt = make_receipt(tmp_path / "best.onnx", checkpoint, threads=1)
    assert "post-processing" in failed(receipt)
    assert receipt.to_dict()["runs"][0]["post_processing"]["compared"] > 100
    boxes = next(check for check in receipt.checks if check.name.startswith("post-processing"))
    assert boxes.limit.startswith("at most")


def test_planted_faults_are_put_down_to_the_post_processing(
    make_export: MakeExport, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    for fault in ("2 px shift", "scores squared", "NMS 0.3"):
        path = planted_file(make_export("fcos", post="auto"), fault, tmp_path / "best.onnx")
        receipt = make_receipt(path, load_checkpoint(make_checkpoint("fcos")), threads=1)
        assert "post-processing" in failed(receipt)
        assert "stages" not in failed(receipt)
        assert receipt.failed_at == "post-processing"


def planted_file(honest: Path, fault: str, path: Path) -> Path:
    model = onnx.load(honest)
    spec = next(ModelSpec.from_json(prop.value) for prop in model.metadata_props if prop.key == "aweigh")
    planted.FAULTS[fault].plant(model, spec)
    onnx.save(model, path)
    return path
