"""Calibration images of int8: read once, and from outside of the data set's folder where that is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from aweigh.export.precision import choice
from aweigh.runtime.errors import BadInput
from aweigh.train.checkpoint import load_checkpoint


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A COCO data set with an image inside of its folder and one beside it."""
    root = tmp_path / "data"
    (root / "train").mkdir(parents=True)
    (root / "annotations").mkdir()
    for path in (root / "train" / "inside.png", tmp_path / "beside.png"):
        cv2.imwrite(str(path), np.full((40, 60, 3), 90, np.uint8))
    names = ("inside.png", "../../beside.png")
    content = {
        "images": [{"id": i, "file_name": name, "width": 60, "height": 40} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [5, 5, 30, 20]} for i in range(2)],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return root


def test_calibration_reads_outside_images_where_asked(
    data: Path, make_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    load = choice.load_split_of

    def counted(*arguments: Any, **options: Any) -> Any:
        reads.append("train")
        return load(*arguments, **options)

    monkeypatch.setattr(choice, "load_split_of", counted)
    spec = replace(load_checkpoint(make_checkpoint("fcos")).spec, precision="int8")
    calibration = choice.choose_lowering(spec, str(data), outside_images=True).calibration
    assert calibration is not None
    assert len(calibration.images_u8) == 2
    assert len(reads) == 1
    with pytest.raises(BadInput, match="outside of the data set's folder"):
        choice.choose_lowering(spec, str(data))
