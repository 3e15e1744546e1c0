"""Engines built by the real TensorRT for RTX, on a CPU: all forms of export, what they compute in, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

import aweigh.export.jobs.export as export_job
from aweigh.export import to_onnx
from aweigh.export.engine.build import build_engine
from aweigh.export.engine.network import parse_network
from aweigh.export.engine.options import EngineOptions
from aweigh.runtime.backends.tensorrt.library import load
from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import CannotRun, CheckFailed
from aweigh.runtime.files.engine import read_plan, read_sidecar, sidecar_path
from aweigh.runtime.files.flavours import RTX
from aweigh.runtime.files.onnx import read_onnx
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.dense.postprocess import MATRIX_CANDIDATES

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX: pip install '.[rtx]'")

MakeExport = Callable[..., Path]
OPTIONS = EngineOptions(flavour="rtx")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "export", "convolutions"),
    [
        ("fcos", {"post": "raw"}, {"fp32": 46}),
        ("o2f", {}, {"fp32": 61}),
        ("fcos", {"post": "auto", "nms": "matrix"}, {"fp32": 46}),
        ("paa", {"nms": "matrix", "precision": "fp16"}, {"fp16": 46}),
        ("fcos", {"nms": "matrix", "precision": "bf16", "for_engine": True}, {"bf16": 46}),
        ("fcos", {"post": "raw", "precision": "fp16", "dynamic_size": True}, {"fp16": 46}),
        # As many as TensorRT sorts at once; these images have twice as many pairs.
        ("fcos", {"nms": "matrix", "top_k": MATRIX_CANDIDATES, "size_hw": (256, 256)}, {"fp32": 46}),
    ],
    ids=["raw", "none", "nms", "vote-fp16", "nms-bf16", "raw-fp16-dynamic", "most-candidates"],
)
def test_every_form_is_built_and_computes_what_the_file_says(
    method: str, export: dict[str, Any], convolutions: dict[str, int], make_export: MakeExport, tmp_path: Path
) -> None:
    out = tmp_path / "best.engine"
    engine = build_engine(make_export(method, **export), out, OPTIONS)
    assert engine.audit is not None
    assert engine.audit.convolutions == convolutions
    assert engine.audit.warnings == ()
    assert (engine.flavour, engine.built.gpu) == ("rtx", "")
    assert engine.targets == ("8.0", "8.6", "8.9", "12.0", "12.1")
    expected = {"images": "uint8", **{output.name: output.dtype for output in engine.spec.post.outputs}}
    assert {t.name: t.dtype for t in engine.tensors} == expected
    assert read_sidecar(out) == engine
    assert len(read_plan(out, engine)) == engine.plan_bytes > 1e6


def test_a_test_that_writes_what_the_parser_refuses_fails(
    make_export: MakeExport, make_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under whatever name it exports: see parsed_exports.py."""
    planted = ir.load(make_export("fcos", post="raw"))
    planted.metadata_props.clear()
    found = ir.node("NonZero", [planted.graph.outputs[0]], outputs=[ir.val("found", ir.DataType.INT64, (None, None))])
    planted.graph.append(found)
    planted.graph.outputs.append(found.outputs[0])
    for module in (to_onnx, export_job):
        monkeypatch.setattr(module, "make_graph", lambda *arguments, **options: planted)
    checkpoint = load_checkpoint(make_checkpoint("fcos"))
    with pytest.raises(pytest.fail.Exception, match=r"best.onnx: .*refuses the graph: node .*NonZero"):
        to_onnx.export_onnx(checkpoint.detector(), checkpoint.spec, tmp_path / "best.onnx")
    with pytest.raises(pytest.fail.Exception, match=r"other.onnx: .*NonZero"):
        main(["export", "--model", str(checkpoint.path), "--out", str(tmp_path / "other.onnx"), "--golden", "0"])


@pytest.mark.slow
def test_int8_and_what_is_left_in_float(make_export: MakeExport, tmp_path: Path) -> None:
    data = str(generate_shapes(tmp_path / "data", train=4, val=3, size_hw=(96, 128)))
    onnx = make_export("fcos", precision="int8", encoding="tensorrt", data=data, calib=3, nms="matrix")
    engine = build_engine(onnx, tmp_path / "best.engine", OPTIONS)
    assert engine.audit is not None
    lowered = json.loads(read_onnx(onnx).metadata["aweigh.precision"])["lowered"]
    assert engine.audit.convolutions == {"int8": lowered, "fp32": 46 - lowered}
    assert engine.audit.coarsest == "int8"

    other = make_export("fcos", precision="int8", encoding="onnxruntime", data=data, calib=3, post="raw")
    with pytest.raises(CannotRun, match=r"parser of TensorRT for RTX refuses the graph: node .* must have type FP8"):
        build_engine(other, tmp_path / "other.engine", OPTIONS)
    assert not (tmp_path / "other.engine").exists()


def test_a_convolution_in_another_type_than_the_file_says_is_found(make_export: MakeExport) -> None:
    half, full = (make_export("fcos", post="raw", **more) for more in ({"precision": "fp16"}, {}))
    module, spec = load(RTX), read_onnx(full).spec(full)
    parsed = parse_network(module, RTX, full.read_bytes(), "full.onnx", read_onnx(full), spec)
    assert {count.precision: count.convolutions for count in parsed.layers} == {"fp32": 46, "integer": 0}
    with pytest.raises(CheckFailed, match=r"would compute \d+ of 46 convolutions otherwise .*fp16 in the ONNX file"):
        parse_network(module, RTX, full.read_bytes(), "full.onnx", read_onnx(half), spec)


@pytest.mark.slow
def test_the_verb_builds_for_named_gpus_and_inspect_shows_it(
    make_export: MakeExport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx, out = make_export("fcos", post="raw"), tmp_path / "best.engine"
    command = ["export", "--model", str(onnx), "--format", "engine", "--out", str(out), "--flavour", "rtx"]
    assert main([*command, "--gpus", "turing,ada", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["flavour"], result["targets"]) == ("rtx", ["7.5", "8.9"])
    assert result["audit"]["layers"][0]["convolutions"] == 46
    assert main(["inspect", "--model", str(out)]) == 0
    shown = capsys.readouterr().out
    for words in ("rtx, TensorRT for RTX 1.7", "7.5, 8.9 (turing, ada)", "46 convolutions", "without a GPU", "audit"):
        assert words in shown
    assert "workspace unlimited, TF32 off" in shown
    assert not [word for word in ("level", "compatible") if word in shown]  # what RTX does not have
    assert read_sidecar(out).settings.builder_level is None


@pytest.mark.slow
def test_receipts_have_a_section_of_the_real_library(
    make_checkpoint: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copy(make_checkpoint("fcos"), tmp_path / "fcos.pt"))
    common = ["--model", str(model), "--golden", "0", "--threads", "1", "--json"]
    assert main(["export", *common, "--format", "engine", "--flavour", "rtx", "--gpus", "ada", "--batch", "1-3"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["onnx"]["verdict"] == "passed"
    section = json.loads((tmp_path / "fcos.receipt.json").read_text())["tensorrt"]
    assert section["library"].startswith("TensorRT for RTX 1.7")
    assert (section["parsed"], section["built_for"]) == (True, ["8.9"])
    assert (section["bytes"], section["sha256"]) == (result["bytes"], result["sha256"])
    assert section["layers"][0]["convolutions"] == 46
    assert [tensor["name"] for tensor in section["inputs"]] == ["images"]
    assert section["outputs"][0]["name"] == "num_dets"
    assert (section["warnings"], section["cpu_seconds"] > 0) == ([], True)
    assert main(["inspect", "--model", str(tmp_path / "fcos.engine")]) == 0
    assert "about the ONNX file that it was built from" in capsys.readouterr().out

    # Again, by verify, into a receipt of its own.
    onnx, out = tmp_path / "fcos.onnx", tmp_path / "again.receipt.json"
    verify = ["verify", "--model", str(onnx), "--against", str(model), "--threads", "1", "--out", str(out), "--build"]
    assert main(verify) == 0
    again = json.loads(out.read_text())
    assert again["tensorrt"]["layers"] == section["layers"]
    assert again["checks"][-1]["name"] == "TensorRT"
    assert "parses and builds it" in out.with_suffix(".html").read_text()
    assert main(["verify", "--model", str(model), "--against", str(onnx), "--build"]) == 2
    assert "--build rtx: builds an engine from an ONNX file, --model is fcos.pt" in capsys.readouterr().err

    assert main(["export", *common[:-1], "--nms", "onnx", "--out", str(onnx), "--no-verify"]) == 0
    assert main(verify) == 1
    failed = json.loads(out.read_text())
    assert failed["tensorrt"] is None
    assert "--nms matrix" in failed["checks"][-1]["measured"]


@pytest.mark.parametrize(
    ("export", "arguments", "words"),
    [
        ({"nms": "onnx"}, [], "no kernel for the operator NonMaxSuppression; export the checkpoint with --nms matrix"),
        (
            {"post": "raw"},
            ["--version-compatible"],
            "--version-compatible with --flavour rtx: TensorRT for RTX lacks",
        ),
        ({"post": "raw"}, ["--hardware-compatible"], "the GPUs that a plan runs on are named by --gpus"),
        ({"post": "raw"}, ["--timing-cache", "x"], "--timing-cache with --flavour rtx"),
        ({"post": "raw"}, ["--builder-level", "3"], "it has one effort of building"),
        ({"post": "raw"}, ["--device", "cuda"], "it builds without a device"),
        ({"post": "raw"}, ["--gpus", "hopper"], "expected one or more of turing, ampere, ada, blackwell"),
        ({"post": "raw"}, ["--gpus", ""], "--gpus ''"),
        (
            {"nms": "matrix", "precision": "bf16", "for_engine": True},
            ["--gpus", "ampere,turing"],
            "--gpus turing with precision bf16: these GPUs have no arithmetic of it; leave turing out of --gpus",
        ),
    ],
)
def test_what_the_flavour_lacks_is_refused_before_any_work(
    export: dict[str, Any],
    arguments: list[str],
    words: str,
    make_export: MakeExport,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    onnx = shutil.copy(make_export("fcos", **export), tmp_path / "model.onnx")
    monkeypatch.setattr(trt, "Builder", None)  # a build would fail otherwise than by the message
    command = ["export", "--model", str(onnx), "--format", "engine", "--flavour", "rtx"]
    capsys.readouterr()  # of the export
    assert main([*command, *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.slow
def test_opening_it_without_a_driver_says_what_is_missing(
    make_export: MakeExport, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    out = tmp_path / "best.engine"
    build_engine(make_export("fcos", post="raw"), out, OPTIONS)
    assert sidecar_path(out).is_file()
    capsys.readouterr()
    assert main(["bench", "--model", str(out), "--device", "cuda", "--iters", "1"]) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is there an NVIDIA GPU and its driver?" in error or "cuda.bindings is missing" in error
