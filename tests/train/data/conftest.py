"""Small data sets in every format, written by the tests that read them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split
from aweigh.train.data.shapes import generate_shapes


def write_picture(path: Path, size_hw: tuple[int, int] = (40, 60), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), noise)
    return path


class CocoTree:
    """annotations/instances_SPLIT.json and a folder SPLIT of 60x40 pictures."""

    categories = ({"id": 90, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 1000003, "name": "bird"})

    def __init__(self, root: Path, split: str = "train2017", pictures: int = 3) -> None:
        self.root, self.split = root, split
        self.content: dict[str, Any] = {"images": [], "annotations": [], "categories": list(self.categories)}
        for i in range(pictures):
            write_picture(root / split / f"{i}.jpg", seed=i)
            self.content["images"].append({"id": 100 + i, "file_name": f"{i}.jpg", "width": 60, "height": 40})

    def add(self, image_id: Any, bbox: Any, category_id: Any = 7, **more: Any) -> CocoTree:
        annotation = {"id": len(self.content["annotations"]) + 1, "image_id": image_id, "bbox": bbox}
        self.content["annotations"].append({**annotation, "category_id": category_id, **more})
        return self

    def write(self) -> Path:
        (self.root / "annotations").mkdir(exist_ok=True)
        (self.root / "annotations" / f"instances_{self.split}.json").write_text(json.dumps(self.content))
        return self.root

    def load(self, **options: Any) -> Split:
        return load_split(self.write(), self.split, **options)


@pytest.fixture
def picture() -> Callable[..., Path]:
    return write_picture


@pytest.fixture
def coco_tree(tmp_path: Path) -> Callable[..., CocoTree]:
    def make(**options: Any) -> CocoTree:
        return CocoTree(tmp_path, **options)

    return make


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 + 9 generated pictures of 96 px."""
    return generate_shapes(tmp_path_factory.mktemp("data") / "shapes", train=24, val=9, size_hw=(96, 96), seed=5)


@pytest.fixture(scope="session")
def shapes_train(shapes_dir: Path) -> Split:
    return load_split(shapes_dir, "train")


@pytest.fixture(scope="session")
def bccd_dir() -> Path:
    material = os.environ.get("AWEIGH_TEST_DATA")
    if not material:
        pytest.skip("AWEIGH_TEST_DATA names no folder with test material")
    return Path(material) / "datasets" / "bccd"
