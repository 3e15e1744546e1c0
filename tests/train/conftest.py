"""A data set and a network small enough to train in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aweigh.train.config import TrainConfig, make_config
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.run.result import TrainResult
from aweigh.train.run.session import train

# A ResNet-10 of 8 channels: a step takes milliseconds.
TINY: dict[str, Any] = {"width": 8, "channels": 16, "convs": 1}


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 + 8 + 8 generated pictures of 64 pixels."""
    return generate_shapes(tmp_path_factory.mktemp("data") / "shapes", train=24, val=8, test=8, size_hw=(64, 64))


def _recipe(data: Path, project: Path) -> TrainConfig:
    return make_config(
        {
            "data": str(data),
            "model": "nano",
            "imgsz": "64",
            "epochs": 2,
            "batch": 8,
            "lr0": 0.003,
            "threads": 1,
            "workers": 0,
            "project": str(project),
            "network": TINY,
        }
    )


@pytest.fixture
def tiny_config(shapes: Path, tmp_path: Path) -> TrainConfig:
    return _recipe(shapes, tmp_path / "runs")


@pytest.fixture(scope="session")
def finished(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, TrainResult]:
    """The run of ``tiny_config``, trained once for all tests that only read it."""
    config = _recipe(shapes, tmp_path_factory.mktemp("finished"))
    return config, train(config)
