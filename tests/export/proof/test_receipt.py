"""A good export passes; every sabotage is caught."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from aweigh.export.precision.calibration import calibration_images
from aweigh.export.proof.images import golden_images
from aweigh.export.proof.page import render
from aweigh.export.proof.prove import batches, make_receipt
from aweigh.export.proof.receipt import Receipt, page_path
from aweigh.runtime.agreement.tolerances import TOLERANCES
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256, receipt_path
from aweigh.runtime.spec import InputSpec, ModelSpec
from aweigh.train.checkpoint import Checkpoint, load_checkpoint
from aweigh.train.data.open import load_split
from aweigh.train.data.shapes import generate_shapes
from support.receipts import planted

MakeExport = Callable[..., Path]


@pytest.fixture(scope="module")
def good(make_export: MakeExport, make_checkpoint: Callable[[str], Path]) -> Receipt:
    return make_receipt(make_export("fcos", post="auto"), load_checkpoint(make_checkpoint("fcos")), threads=1)


def failed(receipt: Receipt) -> list[str]:
    return [check.name for check in receipt.checks if not check.passed]


def test_a_good_export_passes(good: Receipt) -> None:
    assert failed(good) == []
    assert good.verdict == "passed"
    assert good.warnings == ()
    assert good.detections > 500
    assert [run.batch for run in good.runs] == [1, 3]
    assert [stage.stage for stage in good.runs[0].stages] == [
        *("input", "c3", "c4", "c5", "p3", "p4", "p5", "p6", "p7", "boxes", "scores")
    ]
    assert good.operators.ready


def test_json_has_the_hash_of_the_file(good: Receipt, make_export: MakeExport, tmp_path: Path) -> None:
    path = make_export("fcos", post="auto")
    good.write(receipt_path(tmp_path / "best.onnx"))
    content = json.loads((tmp_path / "best.receipt.json").read_text())
    assert content["verdict"] == "passed"
    assert content["sha256"] == file_sha256(path)
    assert content["parents"]["checkpoint_sha256"] == content["spec"]["parents"]["checkpoint_sha256"]
    assert content["detections_compared"] == good.detections
    assert content["ap"] is None
    assert content["tensorrt_ready"] is True
    assert content["machine"]["torch"]


def nan_weight(model: onnx.ModelProto, spec: ModelSpec) -> None:
    planted.edit(model, "head.outputs.obj.weight", lambda weight: weight * np.float32("nan"))


def other_nms_threshold(model: onnx.ModelProto, spec: ModelSpec) -> None:
    [nms] = [n for n in model.graph.node if n.op_type == "NonMaxSuppression"]
    planted.edit(model, nms.input[3], lambda iou: iou - np.float32(0.1))


def nms_threshold_of_0_3(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Of the operator."""
    planted.nms_threshold_of_0_3(model, spec)


def shifted_by_a_quarter(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """A quarter of a pixel, as half-pixel mistakes do."""
    planted.behind(model, "boxes", "Add", np.float32([0.25]))


@pytest.mark.parametrize(
    ("sabotage", "caught_by", "stage"),
    [
        (planted.wrong_mean, "stages", "input"),
        (planted.swapped_channels, "stages", "c3"),
        (planted.zeroed_layer, "stages", "p3"),
        (nan_weight, "finite", "scores"),
        (planted.transposed_boxes, "stages", "boxes"),
        (other_nms_threshold, "detections, batch 1, 160x128", "post-processing"),
        (nms_threshold_of_0_3, "detections, batch 1, 160x128", "post-processing"),
        (planted.nms_threshold_of_0_3, "detections, batch 1, 160x128", "post-processing"),
        (shifted_by_a_quarter, "detections, batch 3, 160x128", "post-processing"),
        (planted.shifted_by_two_pixels, "detections, batch 1, 160x128", "post-processing"),
        (planted.one_class_dropped, "stages", "scores"),
        (planted.squared_scores, "scores, batch 1, 160x128", "post-processing"),
        (planted.off_by_one_resize, "stages", "input"),
    ],
)
def test_sabotage_is_caught(
    sabotage: Callable[[onnx.ModelProto, ModelSpec], None],
    caught_by: str,
    stage: str,
    make_export: MakeExport,
    checkpoint: Checkpoint,
    tmp_path: Path,
) -> None:
    form = "onnx" if sabotage in (other_nms_threshold, nms_threshold_of_0_3) else "matrix"
    model = onnx.load(make_export("fcos", post="auto", nms=form))
    sabotage(model, checkpoint.spec)
    path = tmp_path / "best.onnx"
    onnx.save(model, path)
    receipt = make_receipt(path, checkpoint, threads=1)
    assert receipt.verdict == "failed"
    assert caught_by in failed(receipt)
    assert receipt.failed_at == stage
    receipt.write(receipt_path(path))  # a failed one must be writable too, infinite errors and all
    written = json.loads(receipt_path(path).read_text())
    assert (written["verdict"], written["failed_at"]) == ("failed", stage)
    assert f"Look first at: {stage}. Do not ship it" in render(receipt)


def test_overflow_in_half_precision_is_caught(make_export: MakeExport, checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A layer's weights large and the next one's small: the same network, but in FP16."""
    for precision, verdict in (("fp32", "passed"), ("fp16", "failed")):
        model = onnx.load(make_export("fcos", post="auto", precision=precision))
        planted.overflow_in_half(model, checkpoint.spec)
        onnx.save(model, tmp_path / "best.onnx")
        receipt = make_receipt(tmp_path / "best.onnx", checkpoint, threads=1)
        assert receipt.verdict == verdict
    assert "range" in failed(receipt)
    # What is just below the limit on these images is beyond it on others.
    value = float(next(check.measured for check in receipt.checks if check.name == "range").split()[1])
    model = onnx.load(make_export("fcos", post="auto", precision="fp16"))
    planted.overflow_in_half(model, checkpoint.spec, 2.0**15 * 45000 / value)
    onnx.save(model, tmp_path / "best.onnx")
    receipt = make_receipt(tmp_path / "best.onnx", checkpoint, threads=1)
    assert "range" in failed(receipt)
    assert "finite" not in failed(receipt)
    range_check = next(check for check in receipt.checks if check.name == "range")
    assert 40000 < float(range_check.measured.split()[1]) < 50000
    assert range_check.limit.startswith("at most 32752 ")


def test_sabotage_of_a_raw_file_is_caught(make_export: MakeExport, checkpoint: Checkpoint, tmp_path: Path) -> None:
    receipt = make_receipt(make_export("fcos", post="raw"), checkpoint, threads=1)
    assert receipt.verdict == "passed"
    assert "no detections" in receipt.warnings[0]
    assert [stage.stage for stage in receipt.runs[0].stages][-2:] == ["boxes", "scores"]
    model = onnx.load(make_export("fcos", post="raw"))
    planted.zeroed_layer(model, checkpoint.spec)
    onnx.save(model, tmp_path / "best.onnx")
    assert "stages" in failed(make_receipt(tmp_path / "best.onnx", checkpoint, threads=1))


def test_an_overridden_tolerance_is_told(make_export: MakeExport, checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = onnx.load(make_export("fcos", post="auto"))
    shifted_by_a_quarter(model, checkpoint.spec)
    path = tmp_path / "best.onnx"
    onnx.save(model, path)
    receipt = make_receipt(path, checkpoint, threads=1, given={"moved_px": 0.5, "ap": 0.001})
    assert receipt.verdict == "passed"
    assert receipt.to_dict()["tolerances_overridden"] == {"moved_px": {"default": 0.01}}
    [words] = receipt.warnings
    assert words.startswith("Tolerance moved_px was set to 0.5 by hand (--tol-moved-px); without it, fp32 is held to")
    assert words in render(receipt)
    with pytest.raises(BadInput, match=r"--tol-moved-px -1: expected 0 or more"):
        make_receipt(path, checkpoint, threads=1, given={"moved_px": -1})


def test_a_changed_contract_is_caught(make_export: MakeExport, checkpoint: Checkpoint) -> None:
    """Class names in another order give every detection another name, though all tensors agree."""
    other = replace(checkpoint, spec=replace(checkpoint.spec, categories=checkpoint.spec.categories[::-1]))
    receipt = make_receipt(make_export("fcos", post="auto"), other, threads=1)
    assert failed(receipt) == ["contract"]


def test_nothing_found_is_said(make_export: MakeExport, make_checkpoint: Callable[[str], Path]) -> None:
    path = make_export("fcos", conf=0.999, batch=(1, 1))
    receipt = make_receipt(path, load_checkpoint(make_checkpoint("fcos")), threads=1)
    assert receipt.detections == 0
    assert "found nothing" in receipt.warnings[0]
    assert receipt.verdict == "passed"  # the tensors between the stages agree, which is said
    assert [run.batch for run in receipt.runs] == [1]


def test_chain_too_long_for_the_matrix_form_fails(
    make_export: MakeExport, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """A file whose NMS does not settle is reported, not raised."""
    model = onnx.load(make_export("fcos", post="nms", nms="matrix"))
    node = next(n for n in model.graph.node if "converged" in n.output)
    node.output[list(node.output).index("converged")] = "converged_before"
    model.graph.node.append(helper.make_node("Not", ["converged_before"], ["converged"]))
    onnx.save(model, tmp_path / "best.onnx")
    receipt = make_receipt(tmp_path / "best.onnx", checkpoint, threads=1)
    assert "execution" in failed(receipt)


def test_average_precision_of_both(
    make_export: MakeExport, make_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    data = generate_shapes(tmp_path / "data", train=0, val=7, size_hw=(96, 128))
    checkpoint = load_checkpoint(make_checkpoint("fcos"))
    receipt = make_receipt(make_export("fcos", post="auto"), checkpoint, load_split(data, "val"), threads=1)
    assert receipt.verdict == "passed"
    assert receipt.ap is not None
    assert receipt.ap.images == 7
    assert len(receipt.ap.difference) == 12
    assert abs(receipt.ap.difference["AP"]) <= TOLERANCES["fp32"].ap
    assert "average precision" in [check.name for check in receipt.checks]
    page = render(receipt)
    assert "Average precision on val" in page
    assert receipt.images == 6  # the headline does not pass the images of AP off as those of the detections
    assert "detections compared on 6 images, each in 2 run(s); images: val split, 7 images, all of them for AP." in page
    assert receipt.to_dict()["detections_on"] == {"pictures": 6, "runs": 2}


def test_a_seed_draws_the_images(tmp_path: Path) -> None:
    split = load_split(generate_shapes(tmp_path / "data", train=0, val=20, size_hw=(64, 96)), "val")
    spec = InputSpec((64, 96))

    def names(seed: int | None) -> list[str]:
        return [image.name for image in golden_images(spec, 4, split, seed)]

    assert names(None) == [split.records[i].path.name for i in (0, 6, 13, 19)]
    assert len({*names(0)}) == 4
    assert names(0) == names(0) == sorted(names(0))
    assert names(0) != names(1)
    calibrated = [calibration_images(split, spec, 4, seed).images_u8 for seed in (None, 0, 1, 1)]
    assert np.array_equal(calibrated[2], calibrated[3])
    assert not np.array_equal(calibrated[0], calibrated[2])
    assert len(calibration_images(split, spec, 99, 0).images_u8) == 20


def test_batches_compared(checkpoint: Checkpoint) -> None:
    expected = {(1, 8): [1, 3], (1, 1): [1], (4, 4): [4], (2, 8): [3], (4, 8): [4, 8], (1, 2): [1]}
    for batch, compared in expected.items():
        spec = replace(checkpoint.spec, batch=batch)
        assert batches(spec, spec) == compared


class Links(HTMLParser):
    """Everything a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_page_needs_nothing_else(good: Receipt) -> None:
    page = render(good)
    links = Links()
    links.feed(page)
    assert len(links.sources) == 8  # four pictures, both models
    assert all(source.startswith("data:image/jpeg;base64,") for source in links.sources)
    assert not {"script", "link", "iframe", "object"} & set(links.tags)
    assert not re.search(r"url\(|@import|https?://", page)
    assert "prefers-color-scheme: dark" in page
    assert page.index("passed") < page.index("<table")
    assert page_path(Path("a/best.onnx")) == Path("a/best.receipt.html")


def test_page_escapes_names(good: Receipt) -> None:
    first, *rest = good.spec.categories
    spec = replace(good.spec, categories=(replace(first, name="<b>disk</b>"), *rest))
    page = render(replace(good, spec=spec))
    assert "<b>disk" not in page
    assert "&lt;b&gt;disk" in page
