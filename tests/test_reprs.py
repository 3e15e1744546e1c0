"""What a notebook shows of results."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from checkpoints import save_untrained

from aweigh.export import ExportOptions, VerifyOptions, export, verify
from aweigh.export.jobs.results import ExportResult
from aweigh.export.proof.checks import Check, Part
from aweigh.runtime import Detector
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.evaluation.metrics import ClassMetrics, Metrics
from aweigh.train.evaluation.run import Evaluation
from aweigh.train.run.result import TrainResult


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    folder = tmp_path_factory.mktemp("exported")
    data = generate_shapes(folder / "data", train=1, val=2, size_hw=(64, 64))
    return export(save_untrained("o2f", folder / "best.pt"), None, ExportOptions(data=str(data), threads=1))


def test_an_export_is_a_line_and_its_receipt_a_table(exported: ExportResult) -> None:
    receipt = exported.receipt
    assert receipt is not None
    assert receipt.ap is not None
    assert repr(exported) == f"<ExportResult passed: {exported.artifact}, {exported.bytes / 1e6:.1f} MB>"
    ap = receipt.ap.trained["AP"]
    assert repr(receipt).startswith("<Receipt passed: best.onnx against best.pt (torch), ")
    assert repr(receipt).endswith(f" detections on 2 images, AP {ap:.4f} and {receipt.ap.exported['AP']:.4f}>")
    page = exported._repr_html_()
    assert page == receipt._repr_html_()
    assert page.count("<td>passed</td>") == len(receipt.checks)


def test_failed_checks_show_and_names_are_escaped(exported: ExportResult) -> None:
    assert exported.receipt is not None
    failed = Check("scores", False, "<b>0.9</b>", "0.1", Part.OUTPUTS)
    receipt = dataclasses.replace(exported.receipt, artifact="<i>.onnx", checks=(failed,), ap=None)
    page = receipt._repr_html_()
    assert "<td>FAILED</td>" in page
    assert "&lt;b&gt;0.9&lt;/b&gt;" in page
    assert "<i>" not in page
    assert repr(receipt).endswith(" images>")


def test_what_was_not_verified_is_a_line(exported: ExportResult) -> None:
    plain = dataclasses.replace(exported, receipt=None)
    assert (
        plain._repr_html_() == f"<p>&lt;ExportResult not verified: {plain.artifact}, {plain.bytes / 1e6:.1f} MB&gt;</p>"
    )


def test_a_comparison_names_itself(exported: ExportResult, tmp_path: Path) -> None:
    copy = Path(shutil.copy(exported.artifact, tmp_path / "copy.onnx"))
    assert repr(verify(copy, exported.artifact, VerifyOptions(threads=1))).startswith("<VerifyResult passed: ")


METRICS = Metrics({"AP": 0.5, "APs": None}, (ClassMetrics(3, "a<b", {"AP": 0.25}),), 8)


def test_metrics_are_a_line_and_a_table() -> None:
    assert repr(METRICS) == "<Metrics of 8 images, 1 classes: AP 0.500>"
    assert METRICS._repr_html_() == (
        "<table><tr><th></th><th>AP</th><th>APs</th></tr><tr><td>all</td><td>0.500</td><td></td></tr>"
        "<tr><td>a&lt;b</td><td>0.250</td><td></td></tr></table>"
    )
    evaluation = Evaluation(METRICS, "best.pt", "val", (64, 64))
    assert repr(evaluation) == f"<Evaluation of best.pt on val: {METRICS!r}>"
    assert evaluation._repr_html_() == f"<p>best.pt on val</p>{METRICS._repr_html_()}"
    assert "no objects" in repr(Metrics({"AP": None}, (), 0))


def test_a_training_is_a_line() -> None:
    result = TrainResult("r", "r/best.pt", "0", "dw", "nano", 9, 9, None, 8, 1, 2.0, METRICS, 6, ("train", "val"))
    assert repr(result) == "<TrainResult r/best.pt: nano dw, AP 0.500 on val after iteration 6>"


def test_a_detector_is_a_line(exported: ExportResult) -> None:
    with Detector(exported.artifact, threads=1) as detector:
        expected = "<Detector o2f nano: 6 classes, input 160x128, fp32 on CPUExecutionProvider>"
        assert repr(detector) == expected
    assert repr(detector) == expected
