"""NMS and score voting on the host, for the detections of several views of one image.

The numpy counterparts of what the exported graph does (see PostSpec for the conventions): an object found in two views
must become one detection by the same rule by which the graph makes one of two points.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
import numpy.typing as npt

from aweigh.runtime.boxes import Convention, Floats, Metric, overlap
from aweigh.runtime.errors import BadInput


def nms(
    boxes_xyxy: Floats,
    scores: Floats,
    labels: npt.NDArray[np.int64],
    threshold: float,
    convention: Convention = "continuous",
    max_det: int | None = None,
    agnostic: bool = False,
) -> npt.NDArray[np.int64]:
    """Greedy NMS within each class, or over all of them: positions [K] of the boxes that are kept, best first.

    Args:
        boxes_xyxy: [N, 4]; scores: [N]; labels: [N].
        threshold: a box is dropped by a better one of its class above this IoU, 0 to 1.
        convention: of the IoU.
        max_det: how many are kept at most, of all classes together.
        agnostic: a box is dropped by a better one of any class.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size and (max_det is None or len(kept) < max_det):
        best, order = order[0], order[1:]
        kept.append(int(best))
        # One row at a time: all pairs of the thousands of boxes of a large image would not fit into memory.
        near = overlap(boxes_xyxy[best], boxes_xyxy[order], "iou", convention) > threshold
        order = order[~near] if agnostic else order[~(near & (labels[order] == labels[best]))]
    return np.array(kept, np.int64)


def vote(
    kept_xyxy: Floats,
    kept_labels: npt.NDArray[np.int64],
    boxes_xyxy: Floats,
    scores: Floats,
    labels: npt.NDArray[np.int64],
    sigma: float,
    min_iou: float,
    convention: Convention = "continuous",
) -> npt.NDArray[np.float32]:
    """Score voting (arXiv 2007.08103 Eq. 9-10): each kept box becomes the weighted mean of the boxes of its class.

    Args:
        kept_xyxy: [K, 4], survivors of NMS; kept_labels: [K].
        boxes_xyxy: [N, 4], all that vote, the survivors among them; scores: [N]; labels: [N].
        sigma: a box of IoU u with the kept one weighs exp(-(1 - u)^2 / sigma) times its score.
        min_iou: only boxes above this IoU vote.
        convention: of the IoU.

    Returns:
        [K, 4]; a box that nothing votes for stays as it is.
    """
    voted = np.array(kept_xyxy, np.float32)
    for row, (box, label) in enumerate(zip(kept_xyxy, kept_labels, strict=True)):
        u = overlap(box, boxes_xyxy, "iou", convention)
        weight = np.where((u > min_iou) & (labels == label), np.exp(-np.square(1 - u) / sigma) * scores, 0.0)
        if weight.sum() > 0:
            voted[row] = weight @ np.asarray(boxes_xyxy, np.float64) / weight.sum()
    return voted


def require_metric(metric: str) -> None:
    """Raises BadInput for another name than ``iou`` and ``ios``."""
    if metric not in get_args(Metric):
        raise BadInput(f"match metric {metric!r}: expected iou (intersection over union) or ios (over the smaller box)")


def require_share(name: str, value: float, below: float = 1.0) -> None:
    """Raises BadInput unless 0 <= value < ``below``."""
    if not 0 <= value < below:
        raise BadInput(f"{name} {value}: expected 0 or more and below {below:g}")
