"""Tiles of a large image, and how their detections become one set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aweigh.runtime.boxes import Metric, overlap
from aweigh.runtime.errors import BadInput

Boxes = npt.NDArray[np.float32]
Sides = npt.NDArray[np.bool_]
SMALLEST_TILE_PX = 32
# Of one image; more is a mistake of units, and hours on a CPU.
_MOST_TILES = 10_000
# A box that ends this close to the edge of its tile, as a share of the tile's side, is taken to be cut off there.
_AT_THE_EDGE = 0.01


def tiles(image_hw: tuple[int, int], tile_hw: tuple[int, int], overlap_share: float) -> npt.NDArray[np.int64]:
    """Tiles that cover the image exactly, row by row: [T, 4], x1, y1, x2, y2 in pixels.

    All have one size, the tile's or, where the image is smaller, the image's: the last of a row or column is moved
    inwards, and overlaps more than the others.

    Args:
        image_hw: (height, width) of the image; tile_hw: of a tile.
        overlap_share: of a tile's height and width that neighbours have in common at least, 0 or more and below 1.

    Raises:
        BadInput: a tile below 32 pixels, a share out of range, or more than 10,000 tiles.
    """
    if min(tile_hw) < SMALLEST_TILE_PX:
        raise BadInput(f"tiles of {tile_hw[1]}x{tile_hw[0]} pixels: expected at least {SMALLEST_TILE_PX} each way")
    if not 0 <= overlap_share < 1:
        raise BadInput(f"overlap {overlap_share} of tiles: expected 0 or more and below 1, for example 0.2")
    rows, columns = (_starts(*sides, overlap_share) for sides in zip(image_hw, tile_hw, strict=True))
    if len(rows) * len(columns) > _MOST_TILES:
        raise BadInput(
            f"image of {image_hw[1]}x{image_hw[0]} pixels: {len(rows) * len(columns)} tiles of "
            f"{tile_hw[1]}x{tile_hw[0]}, the limit is {_MOST_TILES}; take larger tiles or less overlap"
        )
    height, width = (min(sides) for sides in zip(image_hw, tile_hw, strict=True))
    return np.array([(x, y, x + width, y + height) for y in rows for x in columns], np.int64)


def _starts(image_px: int, tile_px: int, overlap_share: float) -> list[int]:
    step = max(1, int(tile_px * (1 - overlap_share)))
    starts = list(range(0, max(1, image_px - tile_px + 1), step))
    if starts[-1] + tile_px < image_px:
        starts.append(image_px - tile_px)
    return starts


def cut_sides(boxes_xyxy: Boxes, view_xyxy: npt.NDArray[np.int64], image_hw: tuple[int, int]) -> Sides:
    """[N, 4] whether a box ends at the left, top, right, bottom edge of its view, where the image goes on."""
    height, width = image_hw
    inside = view_xyxy != np.array([0, 0, width, height])
    near_px = np.maximum(1.0, _AT_THE_EDGE * np.tile(view_xyxy[2:] - view_xyxy[:2], 2))
    cut: Sides = (np.abs(boxes_xyxy - view_xyxy) <= near_px) & inside
    return cut


def merge_tiles(
    boxes_xyxy: Boxes,
    scores: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    views_xyxy: npt.NDArray[np.int64],
    view_of_box: npt.NDArray[np.int64],
    image_hw: tuple[int, int],
    threshold: float = 0.5,
    metric: Metric = "iou",
    class_agnostic: bool = False,
) -> tuple[npt.NDArray[np.int64], Boxes]:
    """Which boxes stay, and how large they are.

    Greedy, class by class: boxes that are whole in their view first, then those cut off at its edge, best score first
    in both. Only boxes of different views are compared: two boxes of one view stay two. A box is dropped when it is

    * whole, where a whole one that stays overlaps it by more than the threshold;
    * cut, where a whole one that stays covers more of it than the threshold;
    * cut, where another cut one agrees with it, by the IoU of what lies in the area that both views show. These are
      the parts of an object that no view holds: the one that stays grows to hold them all.

    Args:
        boxes_xyxy: [N, 4] pixels of the image; scores: [N]; labels: [N].
        views_xyxy: [V, 4] tiles and, perhaps, the full image; view_of_box: [N] positions in it.
        threshold: 0 or more and below 1.
        metric: between whole boxes; ``ios`` merges parts of objects more readily, and small objects with the larger
            ones around them.
        class_agnostic: whether a box may go by one of another class.

    Returns:
        Positions [K] of the boxes that stay, best first, and their boxes [K, 4].
    """
    cut = np.zeros(len(boxes_xyxy), bool)
    for view in range(len(views_xyxy)):
        mine = view_of_box == view
        cut[mine] = cut_sides(boxes_xyxy[mine], views_xyxy[view], image_hw).any(axis=1)
    shown_xyxy = views_xyxy[view_of_box].astype(np.float32)  # [N, 4]
    grown = np.array(boxes_xyxy, np.float32)
    waiting = np.lexsort((-scores, cut))
    kept: list[int] = []
    while waiting.size:
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        parts = [best]
        while parts:  # a part may agree with further ones
            part = parts.pop()
            others = boxes_xyxy[waiting]
            if cut[part]:
                mine = _clipped(boxes_xyxy[part], shown_xyxy[waiting])
                matched = overlap(mine, _clipped(others, shown_xyxy[part])) > threshold
            else:
                matched = overlap(boxes_xyxy[part], others, metric) > threshold
                matched |= cut[waiting] & (_covered(others, boxes_xyxy[part]) > threshold)
            matched &= view_of_box[waiting] != view_of_box[part]
            if not class_agnostic:
                matched &= labels[waiting] == labels[best]
            if cut[best]:
                parts += waiting[matched].tolist()
                grown[best] = _around(grown[best], others[matched])
            waiting = waiting[~matched]
    order = np.array(kept, np.int64)
    order = order[np.argsort(-scores[order], kind="stable")]
    return order, grown[order]


def _clipped(boxes_xyxy: Boxes, view_xyxy: Boxes) -> Boxes:
    low, high = np.tile(view_xyxy[..., :2], 2), np.tile(view_xyxy[..., 2:], 2)
    return np.clip(boxes_xyxy, low, high)


def _covered(boxes_xyxy: Boxes, by_xyxy: Boxes) -> npt.NDArray[np.float32]:
    """[N] shares of the boxes' areas that lie inside ``by_xyxy`` [4]; 0 for boxes without area."""
    inside = _clipped(boxes_xyxy, by_xyxy)
    areas, common = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (boxes_xyxy, inside))
    return np.divide(common, areas, out=np.zeros_like(common), where=areas > 0)


def _around(box_xyxy: Boxes, more_xyxy: Boxes) -> Boxes:
    both = np.concatenate((box_xyxy[None], more_xyxy))
    return np.concatenate((both[:, :2].min(axis=0), both[:, 2:].max(axis=0)))
