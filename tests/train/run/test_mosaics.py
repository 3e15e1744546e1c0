"""The images of a run show what they are said to show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aweigh.runtime.images.palette import class_colour
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.network import ImagesU8, Outputs
from aweigh.runtime.spec import Category, InputSpec, ModelSpec, PostSpec
from aweigh.train.data.loading.loader import Batch
from aweigh.train.data.records import ImageRecord, Split
from aweigh.train.run.mosaics import draw_predictions, draw_training_batch

HW = (200, 400)  # in a cell of 400x400 pixels the scale is 1
CATEGORIES = (Category(7, "cat"), Category(3, "dog"))


def split_of(folder: Path, count: int) -> Split:
    """A dog at the same place of each image."""
    records = []
    for i in range(count):
        path = folder / f"{i}.png"
        cv2.imwrite(str(path), np.full((*HW, 3), 60, np.uint8))
        box, no = np.array([[50, 80, 150, 160]], np.float32), np.array([False])
        records.append(ImageRecord(i + 1, path, HW, box, np.array([1]), no, no, np.array([8000.0])))
    return Split("val", CATEGORIES, tuple(records))


class Found:
    """Finds a cat at the right half of every image, and a dog whose score is below the best threshold."""

    def __init__(self) -> None:
        post = PostSpec("none", max_det=2)
        self.spec = ModelSpec("fcos", "nano", CATEGORIES, InputSpec(HW), post, batch=(1, 4), best_conf=(0.2, 0.6))

    def infer(self, images_u8: ImagesU8) -> Outputs:
        rows = len(images_u8)
        boxes = np.tile(np.float32([[250, 80, 350, 160], [20, 20, 40, 40]]), (rows, 1, 1))
        scores = np.tile(np.float32([0.25, 0.5]), (rows, 1))
        return {"num_dets": np.full(rows, 2), "boxes": boxes, "scores": scores, "labels": np.tile([0, 1], (rows, 1))}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("count", "cells"), [(1, 2), (3, 6), (30, 16)])
def test_ground_truth_left_and_detections_right(tmp_path: Path, count: int, cells: int) -> None:
    image = read_image(draw_predictions(Found(), split_of(tmp_path, count), tmp_path / "val.png"))
    rows, columns = -(-cells // 4), min(4, cells)
    assert image.shape == (rows * 406 - 6, columns * 406 - 6, 3)
    for pair in range(cells // 2):
        top, left = pair // 2 * 406, pair % 2 * 812
        truth, found = image[top : top + 200, left : left + 400], image[top : top + 200, left + 406 : left + 806]
        assert tuple(truth[120, 50]) == tuple(truth[160, 100]) == class_colour(1)  # edges of the dog
        assert tuple(found[120, 250]) == tuple(found[160, 300]) == class_colour(0)  # edges of the cat
        assert not (truth == class_colour(0)).all(axis=2).any()
        assert not (found == class_colour(1)).all(axis=2).any()  # below its best threshold, though above 0.3


def test_an_image_without_objects_is_taken_where_there_are_no_others(tmp_path: Path) -> None:
    split = split_of(tmp_path, 2)
    nothing = {"boxes_xyxy": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64), "areas": np.zeros(0)}
    none = np.zeros(0, bool)
    empty = replace(split, records=tuple(replace(r, **nothing, crowd=none, difficult=none) for r in split.records))
    assert read_image(draw_predictions(Found(), empty, tmp_path / "val.png")).shape == (400, 1618, 3)


def test_a_training_batch_shows_its_boxes(tmp_path: Path) -> None:
    images = torch.full((3, *HW, 3), 60, dtype=torch.uint8)
    boxes = [torch.tensor([[50.0, 80.0, 150.0, 160.0]]), torch.zeros(0, 4), torch.tensor([[10.0, 60.0, 90.0, 100.0]])]
    labels = [torch.tensor([1]), torch.zeros(0, dtype=torch.int64), torch.tensor([0])]
    batch = Batch(images, boxes, labels, torch.arange(3), epoch=0, position=0)
    image = read_image(draw_training_batch(batch, CATEGORIES, tmp_path / "batch.png"))
    assert image.shape == (400, 3 * 406 - 6, 3)
    assert tuple(image[120, 50]) == class_colour(1)
    assert (image[:200, 406:806] == 60).all()
    assert tuple(image[80, 812 + 10]) == class_colour(0)
