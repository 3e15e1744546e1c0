"""benchmarks/methods_queue.py: a plan, what of it is missing, and a queue that stops and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import methods
import methods_queue
import pytest
import yaml

from aweigh.runtime.errors import BadInput
from support.methods import plan as method_plan
from support.methods import run as method_run
from support.reports import script
from support.reports.report import Report, read

SHAPES = {"train": 16, "val": 6, "test": 6, "height": 64, "width": 64}
TINY: dict[str, Any] = {
    "what": "a small plan",
    "methods": "fcos,o2f",
    "recipe": {
        "model": "nano",
        "imgsz": 64,
        "iterations": 2,
        "lr0": 0.003,
        "network": {"width": 8, "channels": 16, "convs": 1},
    },
    "data": {"generated": {"generated": SHAPES}, "few": {"folder": "few", "val_share": 0.2, "ranked": False}},
    "order": ["generated 0", "few 0", "generated 1", "generated 0"],
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}, sort_keys=False))
    return path


def test_the_shipped_plan_is_the_comparison_that_the_results_are_of() -> None:
    plan = method_plan.read_plan(methods_queue.PLAN)
    names = [variant.name for variant in plan.variants]
    assert sorted(names) == ["ala", "ala-one-to-one", "autoassign", "dw", "fcos", "o2f", "paa"]
    assert [(data, variant.name, seed) for data, variant, seed in plan.jobs[:7]] == [("bccd", n, 0) for n in names]
    assert {name: plan.seeds(name) for name in plan.data} == {
        "bccd": [0, 1, 2],
        "raccoon": [0, 1],
        "generated": [0, 1],
        "coco128": [0],
    }
    assert len(plan.jobs) == 7 * 8
    assert plan.data["raccoon"].recipe == {"val_share": 0.2, "test_share": 0.2}
    assert [name for name, data in plan.data.items() if not data.ranked] == ["coco128"]


def test_jobs_in_the_order_of_the_plan_and_once_each(tmp_path: Path) -> None:
    plan = method_plan.read_plan(written(tmp_path))
    jobs = [(data, variant.name, seed) for data, variant, seed in plan.jobs]
    assert jobs == [
        *(("generated", "fcos", 0), ("generated", "o2f", 0), ("few", "fcos", 0), ("few", "o2f", 0)),
        *(("generated", "fcos", 1), ("generated", "o2f", 1)),
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"order": ["bccd 0"]}, "order: 'bccd 0': expected a data set"),
        ({"order": ["few"]}, "order: 'few'"),
        ({"methods": ["fcos"]}, "methods: expected str"),
        ({"more": 1}, "expected the keys what, methods"),
        ({"data": {"few": {"folders": "few"}}}, "data few: unknown keys .*folders"),
    ],
)
def test_plans_that_are_none(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        method_plan.read_plan(written(tmp_path, **changes))


def test_data_sets_that_are_not_there(tmp_path: Path) -> None:
    plan = method_plan.read_plan(written(tmp_path))
    with pytest.raises(BadInput, match="few: no such folder; --data names the one that holds few"):
        plan.data["few"].place("few", tmp_path, tmp_path)


def test_what_is_missing(tmp_path: Path) -> None:
    plan = method_plan.read_plan(written(tmp_path))
    rows = [{"variant": name, "seed": seed} for name, seed in (("fcos", 0), ("fcos", 1), ("o2f", 1))]
    grid = methods_queue.missing(plan, {"generated": Report.here("methods", "w", rows, "c")})
    assert grid.title.startswith("a small plan: 3 of 6 runs are there")
    assert grid.rows == (
        ("generated", "0, 1", "1; missing 0"),
        ("few (not ranked)", "missing 0", "missing 0"),
    )


def test_no_run_begins_after_the_time() -> None:
    assert not methods_queue.until("00:00")()
    assert methods_queue.until(None)()
    with pytest.raises(BadInput, match="--until noon"):
        methods_queue.until("noon")


def test_two_processes_share_the_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[tuple[str, str, int]] = []
    monkeypatch.setattr(methods_queue, "session_of", lambda plan, options, name: name)
    monkeypatch.setattr(methods, "add_run", lambda name, variant, seed, *_: begun.append((name, variant.name, seed)))
    common = ["--plan", str(written(tmp_path)), "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert script.run("methods_queue.py", methods_queue.main, [*common, "--only", "few"]) == 0
    assert begun == [("few", "fcos", 0), ("few", "o2f", 0)]
    assert script.run("methods_queue.py", methods_queue.main, [*common, "--only", "generated"]) == 0
    assert sorted(begun[2:]) == [("generated", name, seed) for name in ("fcos", "o2f") for seed in (0, 1)]
    assert script.run("methods_queue.py", methods_queue.main, [*common, "--only", "few,many"]) == 2
    assert "--only many: expected some of generated, few" in capsys.readouterr().err


def test_first_validation_at_nine_tenths() -> None:
    def rows(*aps: str) -> list[dict[str, str]]:
        return [{"iteration": str(10 * i), "val/AP": ap} for i, ap in enumerate(aps, start=1)]

    assert method_run.progress(rows("0.1", "", "0.46", "0.45", "0.5")) == {
        "curve": [[10, 0.1], [30, 0.46], [40, 0.45], [50, 0.5]],
        "iterations_to_90": 30,
    }
    assert method_run.progress(rows("0.1", "0.0"))["iterations_to_90"] is None  # nine tenths of nothing
    assert method_run.progress([]) == {"curve": [], "iterations_to_90": None}


@pytest.mark.slow
def test_a_queue_stops_and_goes_on(
    tmp_path: Path, verbs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, data={"generated": {"generated": SHAPES}}, order=["generated 0"])
    command = [
        *("--plan", str(path), "--data", str(tmp_path), "--project", str(tmp_path / "runs")),
        *("--out", str(tmp_path / "out")),
    ]

    def run(*more: str) -> str:
        assert script.run("methods_queue.py", methods_queue.main, [*command, *more]) == 0
        return capsys.readouterr().out

    assert "0 of 2 runs" in run("--show")
    assert "0 of 2 runs" in run("--until", "00:00")
    assert verbs == []

    asked = iter([True, False])
    with monkeypatch.context() as patch:
        patch.setattr(methods_queue, "until", lambda _: lambda: next(asked))
        assert "| generated | 0 | missing 0 |" in run("--markdown")
    assert verbs == ["train", "val", "export", "val", "export", "val"]
    [fcos] = read(tmp_path / "out_generated.json", "methods").rows
    assert fcos["int8"]["bytes"] < fcos["onnx"]["bytes"]
    assert fcos["curve"][-1][0] == fcos["iterations"] == 2

    verbs.clear()
    assert "| generated | 0 | 0 |" in run("--markdown", "--bench-seconds", "0.1")
    # o2f has no NMS of its own: one file more.
    assert verbs == ["train", "val", "export", "val", "export", "val", "export", "val", "bench"]
    report = read(tmp_path / "out_generated.json", "methods")
    assert report.rows[0] == fcos
    assert set(report.about["latency"]["results"]["o2f"]) == {"onnx", "onnx_nms", "int8"}
    assert "int8 - fp32, val" in run("--show")
    assert methods.keys(report) == {("fcos", 0), ("o2f", 0)}
