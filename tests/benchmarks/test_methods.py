"""benchmarks/methods.py: what is compared with what, and one comparison from the data to the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import methods
import pytest
import yaml

from aweigh.runtime.errors import BadInput
from aweigh.train.config import make_config
from aweigh.train.data.shapes import generate_shapes
from support.methods import comparison as method_comparison
from support.methods import run as method_run
from support.methods.tables import grids, shown
from support.reports import script
from support.reports.report import read, read_json


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fcos", [("fcos", "fcos", {})]),
        ("fcos, fcos,dw", [("fcos", "fcos", {}), ("dw", "dw", {})]),
        ("ala-one-to-one", [("ala-one-to-one", "ala", {"one_to_one": True})]),
        ("paa:boundary=d,ala", [("paa:boundary=d", "paa", {"boundary": "d"}), ("ala", "ala", {})]),
        ("dw:refine=false,sigma=2,o2f", [("dw:refine=false,sigma=2", "dw", {"refine": False, "sigma": 2.0}),
                                         ("o2f", "o2f", {})]),
        ("dw:sharpness=[5,3],refine=true", [("dw:sharpness=[5,3],refine=true", "dw",
                                             {"sharpness": [5, 3], "refine": True})]),
        ("ala:giou_scale=1e-3", [("ala:giou_scale=1e-3", "ala", {"giou_scale": 0.001})]),
    ],
)  # fmt: skip
def test_variants(text: str, expected: list[tuple[str, str, dict[str, Any]]]) -> None:
    assert [(v.name, v.method, v.options) for v in method_comparison.parse_variants(text)] == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yolo", "fcos, dw, o2f"),
        ("", "expected some of"),
        ("refine=false", "METHOD:OPTION=VALUE"),
        ("dw:refine", "'refine' is no option"),
        ("dw:refined=true", "unknown options"),
        ("dw:refine=flase", "refine: got .flase., expected bool"),
        ("dw:refine=1", "refine: got 1, expected bool"),
        ("paa:candidates_per_level=true", "got True, expected int"),
        ("ala:giou_scale=much", "got .much., expected float"),
    ],
)
def test_variants_that_are_none(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        method_comparison.parse_variants(text)


def test_run_names_hold_no_signs() -> None:
    variants = method_comparison.parse_variants("ala-one-to-one,dw:sharpness=[5,3],refine=false")
    assert [v.run_name(1) for v in variants] == ["ala-one-to-one-1", "dw-sharpness-5-3-refine-false-1"]


def row(variant: str, seed: int, ap: float | None, **more: Any) -> dict[str, Any]:
    figures = dict.fromkeys(method_comparison.FIGURES, ap)
    onnx = {"post": "nms", "receipt": "passed", "test": figures, "val": figures}
    base = {"variant": variant, "method": variant, "options": {}, "seed": seed, "test": figures, "val": figures}
    return {**base, "onnx": onnx, "images_per_s": None, "images_per_s_median": 4.0 + seed, **more}


def test_recipes_differ_by_what_matters_alone() -> None:
    values = {
        "data": "a",
        "epochs": 30,
        "threads": 1,
        "cache": "ram",
        "name": "x",
        "steps": [0.5],
        "weights": "/a/w.pth",
    }
    ours = method_comparison.recipe_of(make_config(values))
    elsewhere = {"data": "b", "threads": 8, "workers": 2, "cache": "none", "exist_ok": True, "weights": "/b/w.pth"}
    assert method_comparison.differences(method_comparison.recipe_of(make_config({**values, **elsewhere})), ours) == ""
    other = method_comparison.recipe_of(make_config({**values, "epochs": 40, "options": {"a": 1}}))
    assert (
        method_comparison.differences(other, ours) == "epochs: got 40, expected 30; options: got {'a': 1}, expected {}"
    )
    assert (
        method_comparison.differences(
            method_comparison.common({**ours, "seed": 3, "method": "o2f"}), method_comparison.common(ours)
        )
        == ""
    )


def test_reports_of_another_recipe_or_other_data_are_refused() -> None:
    report = {"recipe": {"epochs": 30}, "data": {"digests": {"train": "1"}}}
    method_comparison.require_comparable(report, {"epochs": 30}, {"train": "1"}, "out.json")
    with pytest.raises(BadInput, match=r"out\.json: .*another recipe: epochs: got 30, expected 20"):
        method_comparison.require_comparable(report, {"epochs": 20}, {"train": "1"}, "out.json")
    with pytest.raises(BadInput, match="other data"):
        method_comparison.require_comparable(report, {"epochs": 30}, {"train": "2"}, "out.json")
    # Written before there was such a field, whose default changes nothing.
    method_comparison.require_comparable(
        report, {"epochs": 30, "accumulate": 1, "frozen_stages": -1}, {"train": "1"}, "x"
    )
    with pytest.raises(BadInput, match="accumulate: got 1, expected 2"):
        method_comparison.require_comparable(report, {"epochs": 30, "accumulate": 2}, {"train": "1"}, "out.json")


def test_merging_keeps_and_replaces() -> None:
    held = [row("dw", 1, 0.1), row("fcos", 0, 0.2)]
    rows = method_comparison.merged(held, [row("fcos", 0, 0.3), row("dw", 0, 0.4)])
    assert [(*method_comparison.key_of(r), r["test"]["AP"]) for r in rows] == [
        ("dw", 0, 0.4),
        ("dw", 1, 0.1),
        ("fcos", 0, 0.3),
    ]
    with pytest.raises(BadInput, match="dw: is"):
        method_comparison.merged(held, [row("dw", 2, 0.1, options={"refine": False})])


def test_summary_spreads_and_differences_by_seed() -> None:
    figures = dict.fromkeys(method_comparison.FIGURES, 0.7)
    nms = {"post": "nms", "receipt": "failed", "test": figures, "val": figures}
    rows = [row("fcos", 0, 0.5), row("fcos", 1, 0.6), row("o2f", 0, 0.6, onnx_nms=nms), row("o2f", 2, 0.9)]
    times = {"results": {"fcos": {"onnx": {"network_p50_ms": 12.34}}}}
    summary = method_comparison.summarize(rows, times)
    assert summary["fcos"]["test"]["AP"] == pytest.approx({"mean": 0.55, "min": 0.5, "max": 0.6})
    assert summary["fcos"]["test_minus_fcos"] is None
    # Seed 2 has no fcos to be compared with, and no export with NMS.
    assert summary["o2f"]["test_minus_fcos"] == pytest.approx({"mean": 0.1, "min": 0.1, "max": 0.1})
    assert summary["o2f"]["nms_minus_own"] == pytest.approx({"mean": 0.1, "min": 0.1, "max": 0.1})
    assert summary["o2f"]["receipts"] == ["failed", "passed"]
    assert summary["o2f"]["images_per_s"] is None
    assert method_comparison.summarize([row("fcos", 0, None)], None)["fcos"]["test"]["APs"] is None
    test, _, files = grids({"summary": summary})
    assert test.rows[0][:3] == ("fcos", "2", "0.550 (0.500 to 0.600)")
    assert test.rows[1][-1] == "+0.100"
    assert files.rows[0][-3:] == ("12.3", "-", "4.5 (4.0 to 5.0)")
    assert shown({"mean": -0.01, "min": -0.02, "max": 0.0}, sign="+") == "-0.010 (-0.020 to +0.000)"


def test_seconds_of_a_resumed_run_say_nothing() -> None:
    results = [{"train/images_per_s": "4.0", "iteration": "5"}, {"train/images_per_s": "6.0", "iteration": "10"}]
    assert method_run.speed(8, {"seconds": 20.0}, results, resumed=False) == {
        "iterations": 10,
        "seconds": 20.0,
        "resumed": False,
        "images_per_s": 4.0,
        "images_per_s_median": 5.0,
    }
    assert method_run.speed(8, {"seconds": 20.0}, results, resumed=True)["images_per_s"] is None
    for seconds in (10.0, 0.0):  # 8 images per second and more, where the fastest part had 6
        assert method_run.speed(8, {"seconds": seconds}, results, resumed=False)["resumed"]


def test_the_old_form_is_read_with_all_its_rows(tmp_path: Path) -> None:
    """What was written before reports had a schema: benchmarks/results may hold one until it is written again."""
    old = {
        "what": "w",
        "date": "2026-11-20",
        "command": "c",
        "commit": "d",
        "machine": {"cpu": "x", "cores": 2, "load_1min": 0.1, "system": "s", "python": "3", "onnxruntime": "1.31.1"},
        "versions": {"torch": "2.13.0"},
        "recipe": {"epochs": 1},
        "data": {"digests": {}},
        "summary": {},
        "latency": None,
        "runs": [row("fcos", 0, 0.5), row("fcos", 1, None)],
    }
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old))
    report = methods.read_report(path)
    assert report.rows == old["runs"]
    assert report.about == {name: old[name] for name in ("recipe", "data", "summary", "latency")}
    assert report.versions == {"onnxruntime": "1.31.1", "torch": "2.13.0"}
    assert "onnxruntime" not in report.machine
    report.write(path)
    assert methods.read_report(path) == report
    path.write_text("{}")
    with pytest.raises(BadInput, match="expected a result of a benchmark"):
        methods.read_report(path)


def test_exit_codes_of_commands_pass_through() -> None:
    with pytest.raises(method_run.StepFailed, match="aweigh inspect ended with exit code 2") as caught:
        method_run.aweigh("inspect", "--model", "nowhere.onnx")
    assert caught.value.exit_code == 2
    assert method_run.StepFailed("train", -9).exit_code == 137


@pytest.mark.slow
def test_from_data_to_table(
    tmp_path: Path, verbs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = generate_shapes(tmp_path / "shapes", train=16, val=6, test=6, size_hw=(64, 64))
    out, project = tmp_path / "out.json", tmp_path / "runs"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"network": {"width": 8, "channels": 16, "convs": 1}, "lr0": 0.003}))

    def run(words: list[str]) -> int:
        return script.run("methods.py", methods.main, words)

    command = [
        *("--data", str(data), "--methods", "fcos,ala-one-to-one", "--seeds", "0", "--config", str(recipe)),
        *("--model", "nano", "--imgsz", "64", "--epochs", "1", "--threads", "1", "--workers", "0"),
        *("--project", str(project), "--out", str(out), "--bench-seconds", "0.1"),
    ]
    assert run(command) == 0
    assert verbs == ["train", "val", "export", "val", "train", "val", "export", "val", "export", "val", "bench"]
    text = out.read_text()
    assert str(tmp_path) not in text
    report = read(out, "methods")
    fcos, ala = report.rows
    assert (fcos["variant"], fcos["onnx"]["post"], "onnx_nms" in fcos) == ("fcos", "nms", False)
    assert (ala["method"], ala["options"], ala["onnx"]["post"]) == ("ala", {"one_to_one": True}, "none")
    assert ala["onnx_nms"]["receipt"] == "passed"
    assert (fcos["iterations"], fcos["threads"], fcos["machine"]["cores"] > 0) == (2, 1, True)
    assert report.about["recipe"]["lr0"] == 0.003
    assert report.about["data"]["pictures"] == {"train": 16, "val": 6, "test": 6}
    assert set(report.about["latency"]["results"]["ala-one-to-one"]) == {"onnx", "onnx_nms"}
    assert report.about["summary"]["fcos"]["seeds"] == [0]
    assert (project / "ala-one-to-one-0" / "summary.json").is_file()
    assert "AP - fcos" in capsys.readouterr().out

    # What is there is kept: nothing runs, nothing is written.
    verbs.clear()
    assert run([*command, "--markdown"]) == 0
    assert (verbs, out.read_text()) == ([], text)
    out_before = tmp_path / "before.json"
    out_before.write_text(text)
    assert "| fcos | 1 |" in capsys.readouterr().out

    # Another recipe is refused by the file, and without the file by the run.
    assert run([*command, "--batch", "4"]) == 2
    assert "batch: got 8, expected 4" in capsys.readouterr().err
    out.unlink()
    assert run([*command, "--batch", "4"]) == 2
    assert "fcos-0: a run of another recipe has this name: batch: got 8, expected 4" in capsys.readouterr().err

    # Rows made elsewhere come in; a run that is there is evaluated, one without an end resumed first.
    # The form of before there was a schema is taken as well.
    old = {
        name: value for name, value in read_json(out_before).items() if name not in ("schema", "kind", "rows", "about")
    }
    (tmp_path / "elsewhere.json").write_text(json.dumps({**old, **report.about, "runs": [ala]}))
    monkeypatch.setattr(methods, "files_of", lambda *_: {})
    for before, expected in (([], ["val", "export", "val"]), (["summary.json"], ["train", "val", "export", "val"])):
        out.unlink(missing_ok=True)
        for name in before:
            (project / "fcos-0" / name).unlink()
        verbs.clear()
        assert run([*command, "--merge", str(tmp_path / "elsewhere.json")]) == 0
        assert verbs == expected
        rows = read(out).rows
        assert [(r["sha256"], r["resumed"]) for r in rows] == [(ala["sha256"], False), (fcos["sha256"], bool(before))]
