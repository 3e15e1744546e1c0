"""A run goes on with the data it began with, wherever it lies now, and with no other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.train.config import TrainConfig
from aweigh.train.run.result import TrainResult
from aweigh.train.run.session import train


@pytest.fixture
def moved(finished: tuple[TrainConfig, TrainResult], tmp_path: Path) -> TrainConfig:
    """The recipe of a copy of the finished run, and of a copy of its data."""
    config, _ = finished
    shutil.copytree(config.run_dir, tmp_path / "runs" / config.name)
    data = shutil.copytree(config.data, tmp_path / "moved")
    return replace(config, project=str(tmp_path / "runs"), data=str(data))


def test_moved_data_is_accepted(moved: TrainConfig, capsys: pytest.CaptureFixture[str]) -> None:
    named = ["--project", moved.project, "--name", moved.name]
    assert main(["train", "--resume", *named, "--data", moved.data, "--json"]) == 0
    assert "this run is finished" in capsys.readouterr().err


def _swap_names(content: dict[str, Any]) -> None:
    first, second = content["categories"][:2]
    first["name"], second["name"] = second["name"], first["name"]


def _add_class(content: dict[str, Any]) -> None:
    content["categories"].append({"id": 99, "name": "cow"})


def _remove_image(content: dict[str, Any]) -> None:
    content["images"].pop(0)


def _swap_images(content: dict[str, Any]) -> None:
    content["images"].reverse()


def _move_box(content: dict[str, Any]) -> None:
    content["annotations"][0]["bbox"][0] += 1


@pytest.mark.parametrize("change", [_remove_image, _swap_images, _move_box])
def test_another_validation_split_is_refused(moved: TrainConfig, change: Callable[[dict[str, Any]], None]) -> None:
    file = Path(moved.data) / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(BadInput, match=r"the validation split of .* is not what the run began with"):
        train(moved, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_swap_names, "classes of .* are not those that the run began with"),
        (_add_class, "99 cow now"),
        (_remove_image, "is not what the run began with"),
        (_swap_images, "is not what the run began with"),
        (_move_box, "is not what the run began with"),
    ],
)
def test_other_data_is_refused(moved: TrainConfig, change: Callable[[dict[str, Any]], None], message: str) -> None:
    for split in ("train", "val") if change in (_swap_names, _add_class) else ("train",):
        file = Path(moved.data) / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
    with pytest.raises(BadInput, match=message):
        train(moved, resume=True)
