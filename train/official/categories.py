"""Categories of released models: COCO's, or those that the file names."""

from __future__ import annotations

from collections.abc import Sequence

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category

# fmt: off
_COCO_NAMES = [
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
]
# fmt: on
# Ids of COCO's 91 categories that no box has.
_COCO_UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
_COCO_IDS = [number for number in range(1, 91) if number not in _COCO_UNUSED]
COCO = tuple(Category(number, name) for number, name in zip(_COCO_IDS, _COCO_NAMES, strict=True))


def categories(classes: int, names: Sequence[str]) -> tuple[Category, ...]:
    """In label order: COCO's for 80 classes that the file does not name otherwise, else numbered from 1.

    Raises BadInput where the file names another number of classes than it has outputs.
    """
    if names and len(names) != classes:
        raise BadInput(f"the file names {len(names)} classes and has outputs for {classes}")
    if classes == len(COCO) and (not names or [_plain(name) for name in names] == _COCO_NAMES):
        return COCO
    known = names or [f"class {number}" for number in range(1, classes + 1)]
    return tuple(Category(number, name) for number, name in enumerate(known, start=1))


def _plain(name: str) -> str:
    """Old files write ``traffic_light``."""
    return name.replace("_", " ")
