"""The one schema of results: what it takes, what it refuses, and that everything under benchmarks/results has it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import compare
import pytest
from render import layout_of, open_report
from render import main as render

from aweigh.runtime.errors import BadInput, CheckFailed
from support.reports import script
from support.reports.grid import Column, Grid, interval, make_grid
from support.reports.layout import Layout
from support.reports.plots import draw
from support.reports.report import Report, read, read_json

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
TIMES = {"median": 1.5, "low": 1.25, "high": 2.0, "confidence": 0.96, "pairs": 9}
COMPARED: dict[str, Any] = {
    "a": {"model": "a.onnx"},
    "b": {"model": "b.onnx"},
    "a_ms": 30.0,
    "b_ms": 20.0,
    "times_as_fast": TIMES,
    "rounds": 9,
}


@pytest.fixture
def report() -> Report:
    return Report.here("compare", "a test", [COMPARED], "python benchmarks/compare.py", {"limit": None})


def test_what_is_written_is_read(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    report.write(path)
    assert read(path, "compare") == report
    content = read_json(path)
    assert list(content)[-1] == "rows"
    assert content["schema"] == "1.0"
    assert {"cpu", "cores", "load_1min"} <= set(content["machine"])
    assert {"numpy", "torch", "onnxruntime"} <= set(content["versions"])
    assert not set(content["machine"]) & set(content["versions"])
    with pytest.raises(BadInput, match=r"a report of benchmarks/compare\.py, expected one of benchmarks/latency\.py"):
        read(path, "latency")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(schema="2.0"), "schema '2.0'"),
        (lambda c: c.pop("commit"), r"missing fields \['commit'\]"),
        (lambda c: c.update(note="x"), r"unknown fields \['note'\]"),
        (lambda c: c.update(date="yesterday"), "expected YYYY-MM-DD"),
        (lambda c: c.update(rows={}), "rows: expected list"),
        (lambda c: c.update(rows=[{}]), "objects with something in them"),
        (lambda c: c.update(what=""), "what: expected str"),
        (lambda c: c.update(machine=[]), "machine: expected dict"),
    ],
)
def test_what_is_no_report_is_refused(
    report: Report, tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    path = tmp_path / "report.json"
    report.write(path)
    content = read_json(path)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput, match=words):
        read(path)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"ms": float("nan")}], "nan is no number"),
        ([{"nested": {"ms": [1.0, float("inf")]}}], "inf is no number"),
        ([{"path": Path("x")}], "is no type that JSON has"),
        ([{1: "x"}], "the key 1 is no text"),
        ([{"model": "/somewhere/else/best.onnx"}], "names a folder of this machine"),
        ([{"deep": [{"log": "~/runs/x"}]}], "names a folder of this machine"),
    ],
)
def test_values_that_have_no_place_in_a_report(report: Report, tmp_path: Path, rows: Any, words: str) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(BadInput, match=words):
        replace(report, rows=rows).write(path)
    assert not path.exists()


def test_files_that_hold_no_json(tmp_path: Path) -> None:
    for text in ("", "[1]", "{"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(BadInput):
            read(tmp_path / "x.json")
    with pytest.raises(BadInput, match="cannot be read"):
        read(tmp_path / "missing.json")


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_result_is_a_report_and_can_be_shown(path: Path, tmp_path: Path) -> None:
    report = open_report(path)
    layout = layout_of(report)
    grids = layout.grids(report)
    assert grids
    assert all(grid.rows and len(row) == len(grid.header) for grid in grids for row in grid.rows)
    drawn = draw(layout.plots, report.rows, tmp_path / "plot.png", report.what)
    assert drawn == bool(layout.plots)
    assert not drawn or (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_every_command_says_how_its_reports_are_shown() -> None:
    commands = {path.stem for path in RESULTS.parent.glob("*.py")} - {"render"}
    readme = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    assert commands == {name.removesuffix(".py") for name in re.findall(r"^\| `(\w+\.py)` \|", readme, re.MULTILINE)}
    for kind in commands:
        assert isinstance(layout_of(Report(kind, "w", [], "c")), Layout)
    for kind in ("no", "render", "support.reports.report", "../latency"):
        with pytest.raises(BadInput, match=f"kind '{kind}': expected one of accuracy, compare"):
            layout_of(Report(kind, "w", [], "c"))


def test_grids() -> None:
    assert Grid("t", ("a", "b"), (("1", "2|3"),)).markdown() == "t:\n\n| a | b |\n|---|---|\n| 1 | 2\\|3 |\n"
    columns = (
        Column("name", "deep.name"),
        Column("share", "share", ".1%"),
        Column("all", "all"),
        Column("empty", "nothing.at.all"),
        Column("fine", "fine"),
        Column("ratio", interval("ratio", ".2f")),
    )
    rows = [
        {"deep": {"name": "x"}, "share": 0.123, "all": ["p", "q"], "fine": True, "ratio": TIMES},
        {"deep": {}, "share": None, "all": [], "fine": False},
    ]
    grid = make_grid("t", columns, rows)
    assert grid.header == ("name", "share", "all", "fine", "ratio")
    assert grid.rows == (("x", "12.3%", "p, q", "yes", "1.50 (1.25 to 2.00)"), ("-", "-", "-", "no", "-"))


def test_nothing_to_draw(tmp_path: Path) -> None:
    assert not draw(compare.LAYOUT.plots, [{"other": 1}], tmp_path / "x.png", "t")
    assert not list(tmp_path.iterdir())


def test_render(report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.json"
    report.write(path)
    assert script.run("render.py", render, [str(path), "--markdown", "--plots", str(tmp_path / "plots")]) == 0
    printed = capsys.readouterr().out
    assert "| a.onnx | b.onnx | 30.00 | 20.00 | 1.500 (1.250 to 2.000) | 96.0% | 9 |" in printed
    assert [p.name for p in (tmp_path / "plots").iterdir()] == ["one.png"]
    path.write_text("{}")
    assert script.run("render.py", render, [str(path)]) == 2
    assert capsys.readouterr().err.startswith("render.py: ")


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(error: BaseException) -> Callable[[Any], int]:
        def main(arguments: Any) -> int:
            raise error

        return main

    for error, code in ((CheckFailed("no"), 1), (BadInput("no"), 2), (OSError("full"), 3), (KeyboardInterrupt(), 130)):
        assert script.run("x.py", fail(error), []) == code
        assert capsys.readouterr().err.startswith("x.py: ")


def test_the_command_names_no_folder() -> None:
    words = ["--data", "/home/me/bccd", "--project=/home/me/runs/", "--out", "results/a.json", "--config=/b/r.yaml"]
    assert script.public_command("methods.py", words, {"/home/me/bccd": "DATA", "/home/me/runs": "RUNS"}) == (
        "python benchmarks/methods.py --data DATA --project=RUNS --out results/a.json --config=r.yaml"
    )
    words = ["--a", "/m/a.onnx@threads=2", "--b", "cmd:python /m/b.py --x=/n/y", "--receipts", "/m/a.json,/m/b.json"]
    assert script.public_command("compare.py", words) == (
        "python benchmarks/compare.py --a a.onnx@threads=2 --b 'cmd:python b.py --x=y' --receipts a.json,b.json"
    )
    assert script.public_command("x.py", ["--imgsz", "800x1344", "--m", "ala:a=1/2", "../up/x.onnx"]) == (
        "python benchmarks/x.py --imgsz 800x1344 --m ala:a=1/2 x.onnx"
    )
