"""A data set and a network small enough to train in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aweigh.train.config import TrainConfig, make_config
from aweigh.train.data.shapes import generate_shapes

# A ResNet-10 of 8 channels: a step takes milliseconds.
TINY: dict[str, Any] = {"width": 8, "channels": 16, "convs": 1}


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 + 8 + 8 generated pictures of 64 pixels."""
    return generate_shapes(tmp_path_factory.mktemp("data") / "shapes", train=24, val=8, test=8, size_hw=(64, 64))


@pytest.fixture
def tiny_config(shapes: Path, tmp_path: Path) -> TrainConfig:
    return make_config(
        {
            "data": str(shapes),
            "model": "nano",
            "imgsz": "64",
            "epochs": 2,
            "batch": 8,
            "lr0": 0.003,
            "threads": 1,
            "workers": 0,
            "project": str(tmp_path / "runs"),
            "network": TINY,
        }
    )
