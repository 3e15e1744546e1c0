"""benchmarks/receipts.py: what counts as a miss and as a false alarm, and one draw of an honest and a planted file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import receipts
from checkpoints import save_untrained

from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.data.open import load_split
from aweigh.train.data.shapes import generate_shapes
from support.receipts.draws import HONEST, Case, KeptTrained, Log, measure, planted
from support.receipts.models import Model
from support.reports.report import Report


def row(fault: str, precision: str, verdict: str, draw: int = 0, data: str = "one") -> dict[str, Any]:
    failed = [] if verdict == "passed" else ["scores, batch 1, 160x128", "stages"]
    checks = [{"name": name, "passed": False, "measured": "much", "limit": "little"} for name in failed]
    about = {"data": data, "method": "fcos", "draw": draw, "failed": failed, "checks": checks, "ap": None}
    return about | {"fault": fault, "precision": precision, "verdict": verdict}


def test_a_miss_and_a_false_alarm_are_told() -> None:
    good = [row(HONEST, precision, "passed") for precision in ("fp32", "fp16", "int8")]
    good += [row("2 px shift", "fp32", "failed"), row("wrong mean", "fp32", "refused")]
    assert receipts.wrong(good) == []
    assert receipts.wrong([*good, row("wrong mean", "int8", "passed", 3)]) == [
        "miss: wrong mean in int8, one fcos, draw 3"
    ]
    [alarm] = receipts.wrong([*good, row(HONEST, "fp16", "failed", 1)])
    assert alarm == "false alarm: fp16, one fcos, draw 1: scores, batch 1, 160x128, stages"


def test_one_of_twenty_may_fail_in_int8_by_data_set() -> None:
    twenty = [row(HONEST, "int8", "failed" if draw == 0 else "passed", draw) for draw in range(20)]
    assert receipts.wrong(twenty) == []
    assert len(receipts.wrong([*twenty[:-1], row(HONEST, "int8", "failed", 19)])) == 2
    # More draws of other data do not make up for it.
    other = [row(HONEST, "int8", "passed", draw, "two") for draw in range(20)]
    assert len(receipts.wrong([*twenty[:-1], row(HONEST, "int8", "failed", 19), *other])) == 2


def test_the_table_counts_draws() -> None:
    rows = [row(HONEST, "fp32", "passed"), row(HONEST, "fp32", "failed", 1), row("2 px shift", "int8", "failed")]
    rows.append(row("2 px shift", "int8", "refused", 1))
    summed = receipts.summed(rows)
    assert summed[0]["checks"] == {"scores": 1, "stages": 1}
    assert [(alarm["draw"], alarm["name"]) for alarm in summed[0]["alarms"]] == [
        (1, "scores, batch 1, 160x128"),
        (1, "stages"),
    ]
    assert "alarms" not in summed[1]
    [grid] = receipts.grids(Report("receipts", "what", summed, "command"))
    assert grid.header == ("data", "planted", "failed in fp32", "failed in int8", "checks that failed")
    assert grid.rows == (
        ("one", HONEST, "1 of 2", "-", "scores, stages"),
        ("one", "2 px shift", "-", "2 of 2", "refused, scores, stages"),
    )


@pytest.mark.parametrize(
    ("high", "failing"),
    [(0.001, {"point": 1}), (-0.001, {"point": 1, "any": 1}), (-0.006, {"point": 1, "any": 1, "beyond": 1})],
)
def test_rules_for_a_loss_of_ap(high: float, failing: dict[str, int]) -> None:
    """Of INT8, where 0.005 is allowed."""
    metrics = {"AP": 0.001, "AP50": None, "AP75": -0.012, "AR100": -0.004}
    beside = {"-0.0001": metrics | {"AP75": -0.011}}
    ap = {"difference": metrics, "difference_beside": beside, "interval": {"AP75": (-0.02, high)}}
    within = {"difference": metrics, "difference_beside": {}, "interval": {}}
    rows = [row(HONEST, "int8", "passed") | {"ap": each} for each in (ap, within, None)]
    rows.append(row("2 px shift", "int8", "failed") | {"ap": ap})
    expected = {"point": 0, "any": 0, "beyond": 0} | failing
    assert receipts.ap_rules(rows) == [
        {"precision": "int8", "files_are": "honest", "files": 2} | expected,
        {"precision": "int8", "files_are": "planted", "files": 1} | expected,
    ]


def test_draws_of_a_model(tmp_path: Path) -> None:
    """An untrained model: its honest file passes, the shifted one does not; what is in the log is not made again."""
    data = generate_shapes(tmp_path / "data", train=0, val=7, size_hw=(96, 128))
    (tmp_path / "weights").mkdir()
    checkpoint = load_checkpoint(save_untrained("fcos", tmp_path / "weights" / "best.pt"))
    model = Model("generated", "fcos", tmp_path, str(data), checkpoint, load_split(data, "val"))
    trained = KeptTrained(model)
    path = tmp_path / "rows.jsonl"
    for _ in range(2):
        log = Log(path)
        measure(model, Case("fp32", HONEST), 0, log, trained)
        measure(model, Case("fp32", HONEST), 1, log, trained)
        measure(model, Case("fp32", "2 px shift"), 0, log, trained)
        measure(model, Case("fp32", "FP16 overflow"), 0, log, trained)
    assert len(trained.ap) == 2  # the AP of a file is computed once for all draws
    assert [(row["fault"], row["draw"], row["verdict"]) for row in Log(path).rows] == [
        (HONEST, 0, "passed"),
        (HONEST, 1, "passed"),
        ("2 px shift", 0, "failed"),
    ]
    assert receipts.wrong(Log(path).rows) == []
    assert planted(model.file("fp32", 3), "FP16 overflow", tmp_path / "planted.onnx") is None
    path.write_text(path.read_text() + '{"data": "gen')  # killed while it wrote
    assert len(Log(path).rows) == 3
