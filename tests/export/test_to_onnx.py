"""What stands in the file, and that a broken or interrupted export leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from aweigh.export import to_onnx
from aweigh.export.graph.operators import check_operators
from aweigh.export.jobs.contract import file_spec
from aweigh.export.jobs.options import ExportOptions
from aweigh.export.precision.table import OPSET
from aweigh.export.proof.stages import rows
from aweigh.export.to_onnx import export_onnx
from aweigh.runtime.agreement.match import match_detections
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.golden import GOLDEN_KEY, decode_golden
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.spec import Category, InputSpec, ModelSpec
from aweigh.train.checkpoint import Checkpoint
from aweigh.train.methods import make_method

MakeExport = Callable[..., Path]


def test_a_method_trained_one_to_one_by_option_needs_no_nms() -> None:
    post = make_method("ala", 1, {"one_to_one": True}).post()
    spec = ModelSpec("ala", "nano", (Category(1, "a"),), InputSpec((64, 64)), post)
    one_to_one = Checkpoint(spec, {}, {"one_to_one": True}, {}, {}, {})
    assert file_spec(one_to_one, ExportOptions()).post.kind == "none"
    assert file_spec(one_to_one, ExportOptions(post="nms")).post.nms_form == "matrix"
    many = replace(one_to_one, spec=replace(spec, post=make_method("ala", 1).post()))
    with pytest.raises(BadInput, match="ala predicts several boxes per object"):
        file_spec(many, ExportOptions(post="none"))


def test_one_file_names_types_and_shapes(make_export: MakeExport) -> None:
    path = make_export("fcos", post="auto")
    assert [p.name for p in path.parent.glob(f"{path.name}*")] == [path.name]  # no file of weights beside it
    model = onnx.load(path)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert model.producer_name == "aweigh"

    def described(values: Any) -> list[tuple[str, int, list[Any]]]:
        return [
            (
                v.name,
                v.type.tensor_type.elem_type,
                [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim],
            )
            for v in values
        ]

    types = onnx.TensorProto
    assert described(model.graph.input) == [("images", types.UINT8, ["batch", 128, 160, 3])]
    outputs = described(model.graph.output)
    assert [(name, kind) for name, kind, _ in outputs] == [
        ("num_dets", types.INT64),
        ("boxes", types.FLOAT),
        ("scores", types.FLOAT),
        ("labels", types.INT64),
        ("converged", types.BOOL),
    ]
    assert [shape[1:] for _, _, shape in outputs] == [[], [100, 4], [100], [100], []]
    by_operator = onnx.load(make_export("fcos", nms="onnx"))
    assert [o.name for o in by_operator.graph.output] == ["num_dets", "boxes", "scores", "labels"]


def test_dynamic_axes_have_names(make_export: MakeExport) -> None:
    model = onnx.load(make_export("dw", dynamic_size=True))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", "height", "width", 3]


def test_metadata_round_trip(make_export: MakeExport, checkpoint: Checkpoint) -> None:
    path = make_export("fcos", post="auto")
    spec = read_onnx(path).spec(path)
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert spec.categories == checkpoint.spec.categories
    assert spec.best_conf == checkpoint.spec.best_conf != ()
    assert spec.batch == (1, 4)
    assert spec.parents["checkpoint_sha256"] == checkpoint.sha256
    assert set(spec.versions) == {"aweigh", "torch", "onnx", "onnxscript"}


def test_golden_pictures_give_their_outputs(make_export: MakeExport) -> None:
    """What a self-test on another machine does."""
    path = make_export("fcos", post="auto")
    [(picture, expected)] = decode_golden(read_onnx(path).metadata[GOLDEN_KEY])
    with OnnxRuntimeBackend(path, threads=1) as backend:
        outputs = backend.infer(picture.image_u8[None])
    names = ("boxes", "scores", "labels")
    # Type: ignore[arg-type].
    match = match_detections(tuple(expected[n] for n in names), rows(outputs, 0), moved_px=0.01)
    assert match.compared > 20
    assert match.differing == 0
    assert match.max_score_error < 1e-5


def test_golden_of_a_raw_file_are_its_best_points(make_export: MakeExport) -> None:
    path = make_export("fcos", post="raw")
    [(picture, expected)] = decode_golden(read_onnx(path).metadata[GOLDEN_KEY])
    with OnnxRuntimeBackend(path, threads=1) as backend:
        outputs = backend.infer(picture.image_u8[None])
    np.testing.assert_allclose(outputs["scores"][0, expected["points"]], expected["scores"], atol=1e-5)


def test_broken_golden_metadata_is_bad_input() -> None:
    for text in ("{", "[]", '{"schema": "2.0"}', '{"schema": "1.0", "pictures": [{"name": "x"}]}'):
        with pytest.raises(BadInput, match="golden images"):
            decode_golden(text)


def test_nothing_of_this_machine_is_in_the_file(make_export: MakeExport) -> None:
    """The exporter notes stack traces beside every node."""
    content = make_export("fcos", post="auto").read_bytes()
    for trace in (b"site-packages", b".py", os.fsencode(Path.cwd()), os.fsencode(Path.home()) + b"/"):
        assert trace not in content


def test_other_programs_open_the_file_without_a_warning(
    make_export: MakeExport, capfd: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime with its own settings writes a line on each constant that nothing reads, branches included."""
    paths = [make_export(method, post="auto") for method in ("fcos", "dw", "paa")]
    capfd.readouterr()
    for path in paths:
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert capfd.readouterr().err == ""


def test_batch_normalisation_is_folded(make_export: MakeExport) -> None:
    operators = {n.op_type for n in onnx.load(make_export("fcos", post="nms", nms="onnx")).graph.node}
    assert "BatchNormalization" not in operators
    assert "NonMaxSuppression" in operators
    assert "NonMaxSuppression" not in {n.op_type for n in onnx.load(make_export("o2f", post="auto")).graph.node}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("fcos", {"post": "auto"}),
        ("dw", {"post": "auto"}),
        ("o2f", {"post": "auto"}),
        ("dw", {"post": "nms", "nms": "matrix"}),
        ("dw", {"dynamic_size": True}),
    ],
)
def test_every_operator_is_on_tensorrts_list(method: str, options: dict[str, Any], make_export: MakeExport) -> None:
    report = check_operators(ir.load(make_export(method, **options)))
    assert report.findings == ()
    assert report.ready


def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, make_export: MakeExport
) -> None:
    small = ir.load(make_export("fcos", post="auto"))
    monkeypatch.setattr(
        to_onnx, "trace", lambda detector, spec, stop_early: small
    )  # the graph is not what this test is about
    path = tmp_path / "best.onnx"
    path.write_bytes(b"the old one")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        export_onnx(checkpoint.detector(), checkpoint.spec, path)
    assert [p.name for p in tmp_path.iterdir()] == ["best.onnx"]
    assert path.read_bytes() == b"the old one"


def test_too_large_for_one_file(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, make_export: MakeExport
) -> None:
    small = make_export("fcos", post="auto")
    monkeypatch.setattr(to_onnx, "trace", lambda detector, spec, stop_early: ir.load(small))
    monkeypatch.setattr(to_onnx, "_MAX_BYTES", 10)
    with pytest.raises(BadInput, match="one ONNX file holds at most"):
        export_onnx(checkpoint.detector(), checkpoint.spec, tmp_path / "best.onnx")
    assert list(tmp_path.iterdir()) == []


def test_specs_that_cannot_be_exported(tmp_path: Path, checkpoint: Checkpoint) -> None:
    spec = checkpoint.spec
    for broken, words in (
        (replace(spec, precision="int8"), "give --data DIR"),
        (replace(spec, batch=(0, 2)), "--batch 0-2"),
        (replace(spec, input=replace(spec.input, resize="keep-ratio")), "--dynamic-size"),
        (replace(spec, input=replace(spec.input, size_hw=(100, 128), dynamic_size=True)), "multiples of 32"),
        (replace(spec, post=replace(spec.post, max_det=0)), "--max-det 0"),
        (replace(spec, post=replace(spec.post, score_threshold=1.0)), "--conf 1.0"),
        (replace(spec, post=replace(spec.post, iou_threshold=-0.1)), "--iou -0.1"),
    ):
        with pytest.raises(BadInput, match=words):
            export_onnx(checkpoint.detector(), broken, tmp_path / "best.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_user_hears_nothing_of_the_exporter(make_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """In a process of its own: the exporter speaks at its first use, through warnings, logging and print."""
    out = tmp_path / "o2f.onnx"
    command = ["-W", "always", "-m", "aweigh.runtime.cli", "export", "--model", str(make_checkpoint("o2f"))]
    done = subprocess.run(
        [sys.executable, *command, "--out", str(out), "--batch", "1", "--no-verify", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "300", "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr.splitlines() == [f"export {make_checkpoint('o2f')} -> {out}"]
