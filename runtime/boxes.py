"""How far boxes overlap."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Metric: TypeAlias = Literal["iou", "ios"]
Convention: TypeAlias = Literal["continuous", "plus-one"]
Floats: TypeAlias = npt.NDArray[np.floating]
Doubles: TypeAlias = npt.NDArray[np.float64]


def overlap(
    a_xyxy: Floats,
    b_xyxy: Floats,
    metric: Metric | Literal["ioa"] = "iou",
    convention: Convention = "continuous",
) -> Doubles:
    """Intersection over union (``iou``), over the smaller box (``ios``) or over the first one (``ioa``).

    [..., 4] against [..., 4], broadcast. Boxes without area overlap with nothing. See PostSpec.iou_convention for
    ``convention``.
    """
    a, b = np.asarray(a_xyxy, np.float64), np.asarray(b_xyxy, np.float64)
    grown = 1.0 if convention == "plus-one" else 0.0
    size = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + grown, 0, None)
    common = size[..., 0] * size[..., 1]
    area_a, area_b = ((box[..., 2] - box[..., 0] + grown) * (box[..., 3] - box[..., 1] + grown) for box in (a, b))
    wholes: dict[str, Doubles] = {
        "iou": area_a + area_b - common,
        "ios": np.minimum(area_a, area_b),
        "ioa": np.broadcast_to(area_a, common.shape),
    }
    whole = wholes[metric]
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)
