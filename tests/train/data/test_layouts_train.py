"""Every layout that labelling tools write is examined, trained on and evaluated as it lies there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import LAYOUTS, Item, make_items

from aweigh.train.data.open import available_splits
from aweigh.train.doctor.report import examine_data
from aweigh.train.evaluation.run import evaluate
from aweigh.train.run import session
from aweigh.train.run.session import train

RECIPE: dict[str, Any] = {
    "model": "nano",
    "imgsz": 64,
    "batch": 4,
    "workers": 0,
    "threads": 1,
    "precision": "fp32",
    "network": {"width": 16, "channels": 32, "convs": 1},
}
STILL = {"flip": 0.0, "scale": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Boxes of whole pixels, which every layout can hold."""
    return [
        replace(item, boxes=tuple((name, *map(round, box)) for name, *box in item.boxes))
        for item in make_items(tmp_path_factory.mktemp("items"))
    ]


@pytest.fixture(scope="module")
def model(items: list[Item], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint that has seen the images so often that it knows some of them by heart."""
    root = tmp_path_factory.mktemp("model")
    data = LAYOUTS["coco-official"].write(root / "data", items)
    recipe = {**RECIPE, "data": str(data), "method": "fcos", "augment": STILL, "lr0": 0.01, "project": str(root)}
    return train({**recipe, "iterations": 200, "val_every": 100}).checkpoint


def average_precision(model: str, data: Path) -> float:
    values = [evaluate(model, data, split, match_names=True).metrics["AP"] for split in available_splits(data)]
    return float(np.mean([value for value in values if value is not None]))


@pytest.fixture(scope="module")
def expected(model: str, items: list[Item], tmp_path_factory: pytest.TempPathFactory) -> dict[bool, float]:
    """AP on COCO's JSON, by whether the layout keeps the two splits apart."""
    root = tmp_path_factory.mktemp("expected")
    names = {False: "coco-one-folder", True: "coco-official"}
    found = {
        splits: average_precision(model, LAYOUTS[name].write(root / name, items)) for splits, name in names.items()
    }
    assert all(0.05 < value < 0.9 for value in found.values()), found
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_doctor_an_epoch_and_val(
    name: str,
    items: Sequence[Item],
    model: str,
    expected: dict[bool, float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Three quarters of the time of a run of two steps, and no part of what a layout changes.
    monkeypatch.setattr("aweigh.train.run.record.plot_results", lambda *_: None)
    monkeypatch.setattr(session, "plot_curves", lambda *_: None)
    layout = LAYOUTS[name]
    data = layout.write(tmp_path / "data", items)
    shares = {} if layout.splits else {"val_share": 0.25}
    report = examine_data(str(data), model="nano", imgsz="64").to_dict()
    assert sum(split["pictures"] for split in report["splits"]) == len(items)
    result = train({**RECIPE, "data": str(data), "epochs": 1, "project": str(tmp_path / "runs"), **shares})
    assert result.splits == ("train", "val") if shares else len(result.splits) == 2
    assert result.iterations_done == result.iterations > 0
    assert average_precision(model, data) == pytest.approx(expected[layout.splits], abs=1e-3)
