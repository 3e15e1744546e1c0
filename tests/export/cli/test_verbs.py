"""``aweigh export`` and ``aweigh verify``: what they print, write, and refuse."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from aweigh.runtime.agreement.tolerances import TOLERANCES
from aweigh.runtime.cli.main import main

MakeExport = Callable[..., Path]
MakeCheckpoint = Callable[[str], Path]


@pytest.fixture
def place(make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with fcos.pt and o2f.pt."""
    for method in ("fcos", "o2f"):
        shutil.copy(make_checkpoint(method), tmp_path / f"{method}.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"weights": Path("x")}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


@pytest.mark.slow
def test_export_writes_file_receipt_and_page(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p.name for p in place.iterdir()}
    assert main(["export", "--model", "fcos.pt", "--batch", "1-3", "--threads", "1", "--golden", "1", "--json"]) == 0
    out, _ = said(capsys)
    result: dict[str, Any] = json.loads(out)
    assert {p.name for p in place.iterdir()} - before == {"fcos.onnx", "fcos.receipt.json", "fcos.receipt.html"}
    assert result["artifact"] == "fcos.onnx"
    assert result["receipt"] == "fcos.receipt.json"
    assert result["verdict"] == "passed"
    assert result["detections_compared"] > 100
    assert result["detections_on"] == {"pictures": 6, "runs": 2}
    assert main(["inspect", "--model", "fcos.onnx", "--json"]) == 0
    assert json.loads(said(capsys)[0])["receipt"] == {
        "file": "fcos.receipt.json",
        "verdict": "passed",
        "sha256_matches": True,
        "parent_matches": False,
    }


def test_verify_on_a_device_that_is_not_there(place: Path, make_export: MakeExport) -> None:
    shutil.copy(make_export("fcos", post="auto"), "fcos.onnx")
    command = ["verify", "--against", "fcos.pt", "--pictures", "1", "--batches", "1"]
    for model, device, code in (("fcos.onnx", "cuda:99", 3), ("fcos.onnx", "tpu", 2), ("fcos.pt", "cuda:99", 3)):
        against = ["--against", "fcos.onnx"] if model == "fcos.pt" else []
        assert main([*command, *against, "--model", model, "--device", device]) == code
    assert not Path("fcos.receipt.json").exists()


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device and onnxruntime-gpu")
@pytest.mark.parametrize("method", ["fcos", "o2f"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_verify_on_a_gpu(
    method: str, precision: str, place: Path, make_export: MakeExport, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(make_export(method, post="auto", precision=precision), "best.onnx")
    command = ["verify", "--model", "best.onnx", "--against", f"{method}.pt", "--device", "cuda", "--json"]
    assert main(command) == 0, said(capsys)
    receipt = json.loads(Path("best.receipt.json").read_text())
    assert (receipt["runs_in"], receipt["verdict"]) == ("ONNX Runtime on cuda", "passed")
    assert main(["verify", "--model", f"{method}.pt", "--against", "best.onnx", "--device", "cuda", "--json"]) == 0


def test_verify_again_and_after_an_edit(
    place: Path, make_export: MakeExport, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(make_export("fcos", post="auto"))
    onnx.save(model, "best.onnx")
    assert main(["verify", "--model", "best.onnx", "--against", "fcos.pt", "--threads", "1"]) == 0
    assert "receipt passed" in said(capsys)[0]
    weight = next(i for i in model.graph.initializer if i.name == "head.outputs.cls.weight")
    weight.raw_data = bytes(len(weight.raw_data))
    onnx.save(model, "best.onnx")
    assert main(["verify", "--model", "best.onnx", "--against", "fcos.pt", "--threads", "1", "--json"]) == 1
    result = json.loads(said(capsys)[0])
    assert result["verdict"] == "failed"
    assert any(line.startswith("stages") for line in result["failed"])
    assert json.loads((place / "best.receipt.json").read_text())["verdict"] == "failed"
    assert "Do not ship it" in (place / "best.receipt.html").read_text()


def test_verify_refuses_another_parent(
    place: Path, make_export: MakeExport, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(make_export("fcos", post="auto"), "best.onnx")
    command = ["verify", "--model", "best.onnx", "--against", "o2f.pt", "--threads", "1"]
    assert main(command) == 2
    assert "best.onnx does not come from it, nor both from one checkpoint" in said(capsys)[1]
    assert not (place / "best.receipt.json").exists()
    assert main([*command, "--force"]) == 1
    out = said(capsys)[0]
    assert "does not come from" in out
    assert "FAILED contract: differs in method" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "against", "name"),
    [
        ("matrix.onnx", "best.onnx", "matrix-against-best.onnx.receipt.json"),
        ("best.onnx", "half.onnx", "best-against-half.onnx.receipt.json"),
        ("fcos.pt", "best.onnx", "fcos-against-best.onnx.receipt.json"),
        ("fcos.pt", "copy.pt", "fcos.receipt.json"),
    ],
)
def test_verify_any_two(
    model: str, against: str, name: str, place: Path, make_export: MakeExport, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two exports of one checkpoint, and a checkpoint and its file, are related."""
    shutil.copy("fcos.pt", "copy.pt")
    shutil.copy(make_export("fcos", post="auto"), "best.onnx")
    if model == "matrix.onnx":
        shutil.copy(make_export("fcos", post="nms", nms="matrix"), model)
    if against == "half.onnx":
        shutil.copy(make_export("fcos", post="auto", precision="fp16"), against)
    command = ["verify", "--model", model, "--against", against, "--threads", "1", "--batches", "2", "--pictures", "2"]
    assert main([*command, "--json"]) == 0
    result = json.loads(said(capsys)[0])
    assert (result["artifact"], result["receipt"], result["verdict"]) == (model, name, "passed")
    receipt = json.loads(Path(name).read_text())
    assert receipt["against"].startswith(f"{against} (")
    assert receipt["tolerances"]["score"] == TOLERANCES["fp16" if against == "half.onnx" else "fp32"].score
    assert [(run["batch"], run["pictures"]) for run in receipt["runs"]] == [(2, 2)]
    assert receipt["runs"][0]["stages"]
    assert receipt["detections_compared"] > 50
    assert (receipt["tensorrt_ready"] is None) == (model == "fcos.pt")
    assert receipt["against"] in Path(name).with_suffix(".html").read_text()


def test_verify_refuses(place: Path, make_export: MakeExport, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(make_export("fcos", post="auto"), "best.onnx")
    shutil.copy(make_export("fcos", post="raw"), "raw.onnx")
    before = sorted(place.iterdir())
    for arguments, words in (
        (["--against", "raw.onnx"], "has post-processing 'nms', raw.onnx (ONNX Runtime) 'raw'"),
        (["--against", "best.onnx"], "is --model itself"),
        (["--against", "fcos.pt", "--batches", "9"], "--batches: batch 9, but 1 to 4 can be compared"),
        (["--against", "fcos.pt", "--pictures", "0"], "--pictures 0: expected at least 1"),
        (["--against", "fcos.pt", "--out", "here.txt"], "--out here.txt: expected a name that ends in .json"),
    ):
        assert main(["verify", "--model", "best.onnx", *arguments]) == 2
        assert words in said(capsys)[1]
    assert sorted(place.iterdir()) == before


def test_triton_wraps_an_exported_file(
    place: Path, make_export: MakeExport, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(make_export("fcos", post="auto"), "best.onnx")
    assert main(["export", "--model", "best.onnx", "--format", "triton", "--json"]) == 0
    result = json.loads(said(capsys)[0])
    assert result == {"artifact": "triton/best", "wrapped": "best.onnx", "verdict": "written"}
    assert (place / "triton" / "best" / "1" / "model.onnx").read_bytes() == (place / "best.onnx").read_bytes()
    assert main(["export", "--model", "best.onnx", "--format", "triton", "--conf", "0.3", "--out", "other"]) == 2
    assert "exported already" in said(capsys)[1]
    assert not (place / "other").exists()


def test_none_on_a_method_that_needs_nms(
    place: Path, make_export: MakeExport, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--model", "fcos.pt", "--post", "none"]) == 2
    assert "fcos predicts several boxes per object" in said(capsys)[1]
    assert not (place / "fcos.onnx").exists()
    shutil.copy(make_export("fcos", post="none", force=True), "best.onnx")
    assert main(["verify", "--model", "best.onnx", "--against", "fcos.pt", "--threads", "1", "--json"]) == 0
    assert "several boxes per object" in json.loads(said(capsys)[0])["warnings"][0]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "absent.pt"], 2, "absent.pt: no such checkpoint"),
        (["--model", "pickle.pt"], 2, "loaded safely"),
        (["--model", "fcos.pt", "--format", "triton", "--builder-level", "3"], 2, "goes with --format engine"),
        (["--model", "absent.onnx", "--format", "triton"], 2, "absent.onnx"),
        (
            ["--model", "fcos.pt", "--format", "caffe"],
            2,
            "--format 'caffe': expected onnx, engine, torch-trt, triton or web",
        ),
        (["--model", "fcos.pt", "--builder-level", "3"], 2, "--builder-level: goes with --format engine"),
        (["--model", "fcos.pt", "--format", "engine", "--builder-level", "6"], 2, "--builder-level 6"),
        (["--model", "fcos.pt", "--format", "engine", "--opt-batch", "9"], 2, "--opt-batch 9: expected rising numbers"),
        (["--model", "fcos.pt", "--format", "engine", "--workspace-gb", "-1"], 2, "--workspace-gb -1.0"),
        (["--model", "fcos.pt", "--format", "engine", "--out", "best.onnx"], 2, "ends in .engine or .plan"),
        (["--model", "fcos.pt", "--format", "torch-trt", "--nms", "onnx"], 2, "use --nms matrix"),
        (["--model", "fcos.pt", "--format", "torch-trt", "--opt-batch", "1,8"], 2, "one profile per engine"),
        (["--model", "fcos.pt", "--precision", "bf16"], 2, "--precision bf16: is for engines"),
        (["--model", "fcos.pt", "--precision", "int8"], 2, "--precision int8: ranges are measured on images"),
        (["--model", "fcos.pt", "--precision", "fp16", "--calib", "9"], 2, "--calib 9: belongs to --precision int8"),
        (["--model", "fcos.pt", "--keep-high", "neck"], 2, "--keep-high neck: with --precision fp32"),
        (["--model", "fcos.pt", "--precision", "fp16", "--keep-high", "nek"], 2, "--keep-high 'nek': no such layer"),
        (["--model", "fcos.pt", "--int8-encoding", "tensorrt"], 2, "--int8-encoding tensorrt: belongs to"),
        (["--model", "fcos.pt", "--bisect"], 2, "--bisect: looks for what breaks in a lower precision"),
        (["--model", "fcos.pt", "--tol-ap", "-1"], 2, "--tol-ap -1.0: expected 0 or more"),
        (["--model", "fcos.pt", "--tol-ap", "1", "--no-verify"], 2, "--tol-ap: with --no-verify"),
        (["--model", "fcos.pt", "--batch", "0"], 2, "--batch '0'"),
        (["--model", "fcos.pt", "--batch", "8-1"], 2, "--batch '8-1'"),
        (["--model", "fcos.pt", "--batch", "many"], 2, "--batch 'many'"),
        (["--model", "fcos.pt", "--imgsz", "0"], 2, "--imgsz '0'"),
        (["--model", "fcos.pt", "--imgsz", "100", "--dynamic-size"], 2, "multiples of 32"),
        (["--model", "o2f.pt", "--nms", "matrix"], 2, "there is no NMS"),
        (["--model", "fcos.pt", "--conf", "1.5"], 2, "--conf 1.5"),
        (["--model", "fcos.pt", "--iou", "-1"], 2, "--iou -1.0"),
        (["--model", "fcos.pt", "--max-det", "0"], 2, "--max-det 0"),
        (["--model", "fcos.pt", "--top-k", "0"], 2, "--top-k 0: expected at least 1"),
        (["--model", "fcos.pt", "--top-k", "3841", "--nms", "matrix"], 2, "on 3841 candidates per image: at most 3840"),
        (["--model", "fcos.pt", "--golden", "7"], 2, "--golden 7: expected 0 to 6"),
        (["--model", "fcos.pt", "--out", "best.engine"], 2, "a name that ends in .onnx"),
        (["--model", "fcos.pt", "--data", "absent"], 2, "absent"),
    ],
)
def test_bad_usage(
    arguments: list[str], code: int, words: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.iterdir())
    assert main(["export", *arguments]) == code
    out, err = said(capsys)
    assert words in err
    assert out == ""
    assert sorted(place.iterdir()) == before


def test_verify_of_a_file_not_ours(place: Path, make_export: MakeExport, capsys: pytest.CaptureFixture[str]) -> None:
    content = make_export("fcos", post="auto").read_bytes()
    Path("cut.onnx").write_bytes(content[: len(content) // 2])
    model = onnx.load(make_export("fcos", post="auto"))
    del model.metadata_props[:]
    onnx.save(model, "foreign.onnx")
    for name, words in (
        ("x.engine", "x.engine: no such model file"),
        ("cut.onnx", "truncated"),
        ("foreign.onnx", "not one of aweigh's"),
        ("gone.onnx", "no such"),
    ):
        assert main(["verify", "--model", name, "--against", "fcos.pt"]) == 2
        assert words in said(capsys)[1]
