"""benchmarks/receipts.py: what counts as a miss and as a false alarm, and one draw of an honest and a planted file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    about = {"data": data, "method": "fcos", "draw": draw, "failed": failed}
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
    [grid] = receipts.grids(Report("receipts", "what", rows, "command"))
    assert grid.header == ("data", "planted", "failed in fp32", "failed in int8", "checks that failed")
    assert grid.rows == (
        ("one", HONEST, "1 of 2", "-", "scores, stages"),
        ("one", "2 px shift", "-", "1 of 1", "scores, stages"),
    )


def test_draws_of_a_model(tmp_path: Path) -> None:
    """An untrained model: its honest file passes, the shifted one does not; what is in the log is not made again."""
    data = generate_shapes(tmp_path / "data", train=0, val=7, size_hw=(96, 128))
    checkpoint = load_checkpoint(save_untrained("fcos", tmp_path / "best.pt"))
    model = Model("generated", "fcos", tmp_path, str(data), checkpoint, load_split(data, "val"))
    trained = KeptTrained(model)
    path = tmp_path / "rows.jsonl"
    for _ in range(2):
        log = Log(path)
        measure(model, Case("fp32", HONEST), 2, log, trained)
        measure(model, Case("fp32", "2 px shift"), 1, log, trained)
        measure(model, Case("fp32", "FP16 overflow"), 1, log, trained)
    assert [(row["fault"], row["draw"], row["verdict"]) for row in Log(path).rows] == [
        (HONEST, 0, "passed"),
        (HONEST, 1, "passed"),
        ("2 px shift", 0, "failed"),
    ]
    assert receipts.wrong(Log(path).rows) == []
    assert planted(model.file("fp32", 3), "FP16 overflow", tmp_path / "planted.onnx") is None
    path.write_text(path.read_text() + '{"data": "gen')  # killed while it wrote
    assert len(Log(path).rows) == 3
