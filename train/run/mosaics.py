"""Images of a run to look at: a batch as it is trained on, and detections next to the ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from aweigh.runtime.flow.confidence import above, default_drawing
from aweigh.runtime.images.drawing import draw_boxes, encode_image
from aweigh.runtime.network import Network
from aweigh.runtime.spec import Category, ModelSpec
from aweigh.train.data.loading.loader import Batch
from aweigh.train.data.records import ImageRecord, Split, read_record
from aweigh.train.evaluation.metrics import ResultRow
from aweigh.train.evaluation.run import coco_results

TRAIN_NAME, VAL_NAME = "train_batch.png", "val_predictions.png"
_MOST_TRAINED, _MOST_VALIDATED = 16, 8  # images
_CELL_PX, _GAP_PX = 400, 6
_GREY = 225

Image = npt.NDArray[np.uint8]


def draw_training_batch(batch: Batch, categories: Sequence[Category], path: Path) -> Path:
    """Up to sixteen images of a batch with the boxes they are trained on, after augmentation. Returns the path."""
    cells = []
    for image, boxes, labels in zip(batch.images_u8.cpu().numpy(), batch.boxes_xyxy, batch.labels, strict=True):
        names = [categories[label].name for label in labels.tolist()]
        cells.append(_cell(image, boxes.numpy(), names, labels.tolist()))
    cells = cells[:_MOST_TRAINED]
    return encode_image(path, _grid(cells, columns=min(4, len(cells))))


def draw_predictions(network: Network, split: Split, path: Path) -> Path:
    """Up to eight images of a split, evenly spaced: the ground truth on the left, what is found on the right.

    Drawn is what ``aweigh predict`` draws: scores above the best threshold of each class. Returns the path.

    Raises:
        BadInput: an image that cannot be read any more.
    """
    records = [record for record in split.records if len(record.labels)] or list(split.records)
    rows = np.unique(np.linspace(0, len(records) - 1, min(_MOST_VALIDATED, len(records))).round().astype(int))
    chosen = replace(split, records=tuple(records[row] for row in rows))
    found: dict[int | str, list[ResultRow]] = {}
    for row in coco_results(network, chosen, batch=1, note="draw"):
        found.setdefault(row["image_id"], []).append(row)
    positions = {category.id: i for i, category in enumerate(split.categories)}
    cells = []
    for record in chosen.records:
        image = read_record(record)
        cells.append(_cell(image, record.boxes_xyxy, _truth(record, split), record.labels.tolist()))
        cells.append(_found(image, found.get(record.image_id, []), network.spec, positions))
    return encode_image(path, _grid(cells, columns=min(4, len(cells))))


def _truth(record: ImageRecord, split: Split) -> list[str]:
    kinds = zip(record.labels.tolist(), record.crowd, record.difficult, strict=True)
    return [
        split.categories[label].name + (" (crowd)" if crowd else " (difficult)" if difficult else "")
        for label, crowd, difficult in kinds
    ]


def _found(image: Image, rows: Sequence[ResultRow], spec: ModelSpec, positions: Mapping[int, int]) -> Image:
    rows = sorted(rows, key=lambda row: -row["score"])
    boxes = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = np.array([row["score"] for row in rows])
    labels = np.array([positions[row["category_id"]] for row in rows], np.int64)
    shown = above(scores, labels, default_drawing(spec), spec)
    pairs = zip(labels[shown].tolist(), scores[shown].tolist(), strict=True)
    texts = [f"{spec.categories[label].name} {score:.2f}" for label, score in pairs]
    return _cell(image, boxes[shown], texts, labels[shown].tolist())


def _cell(image: Image, boxes_xyxy: npt.NDArray[np.float32], texts: Sequence[str], labels: Sequence[int]) -> Image:
    """The image in a square, with its boxes drawn at the size at which it is shown."""
    height, width = image.shape[:2]
    scale = _CELL_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shown = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR))
    drawn = draw_boxes(shown.astype(np.uint8), (boxes_xyxy * scale).astype(np.float32), texts, labels)
    cell = np.full((_CELL_PX, _CELL_PX, 3), _GREY, np.uint8)
    cell[: drawn.shape[0], : drawn.shape[1]] = drawn
    return cell


def _grid(cells: Sequence[Image], columns: int) -> Image:
    step = _CELL_PX + _GAP_PX
    lines = -(-len(cells) // columns)
    grid = np.full((lines * step - _GAP_PX, columns * step - _GAP_PX, 3), 255, np.uint8)
    for i, cell in enumerate(cells):
        top, left = i // columns * step, i % columns * step
        grid[top : top + _CELL_PX, left : left + _CELL_PX] = cell
    return grid
