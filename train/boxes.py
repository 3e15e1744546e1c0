"""Box arithmetic in torch: pure, differentiable, element by element (no dense pairwise tables but where said)."""

from __future__ import annotations

import torch
from torch import Tensor


def ltrb_to_xyxy(points_xy: Tensor, ltrb: Tensor) -> Tensor:
    """Distances to the left, top, right and bottom side [..., 4] at points [..., 2] as corners [..., 4]."""
    return torch.cat((points_xy - ltrb[..., :2], points_xy + ltrb[..., 2:]), dim=-1)


def xyxy_to_ltrb(points_xy: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Signed distances from points [..., 2] to the sides of boxes [..., 4]; all positive means strictly inside."""
    return torch.cat((points_xy - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - points_xy), dim=-1)


def area(boxes_xyxy: Tensor) -> Tensor:
    """[...] square pixels, without the +1 of early detection code."""
    x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
    return (x2 - x1) * (y2 - y1)


def intersection(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Overlap area of boxes that broadcast against each other."""
    # Side by side, never [..., 2]: inner loops of two elements cost several times as much.
    ax1, ay1, ax2, ay2 = a_xyxy.unbind(-1)
    bx1, by1, bx2, by2 = b_xyxy.unbind(-1)
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    return width * height


def enclosure(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Area of the smallest box around both, of boxes that broadcast against each other."""
    ax1, ay1, ax2, ay2 = a_xyxy.unbind(-1)
    bx1, by1, bx2, by2 = b_xyxy.unbind(-1)
    width = (torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)).clamp(min=0)
    height = (torch.maximum(ay2, by2) - torch.minimum(ay1, by1)).clamp(min=0)
    return width * height


def iou(a_xyxy: Tensor, b_xyxy: Tensor, eps: float = 1e-6) -> Tensor:
    """Intersection over union, 0 to 1, of boxes that broadcast; the union is at least ``eps``, as in mmdet."""
    overlap = intersection(a_xyxy, b_xyxy)
    return overlap / (area(a_xyxy) + area(b_xyxy) - overlap).clamp(min=eps)


def iou_and_giou(a_xyxy: Tensor, b_xyxy: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """IoU (0 to 1) and generalised IoU (-1 to 1, arXiv 1902.09630 Eq. 1) of boxes that broadcast."""
    overlap = intersection(a_xyxy, b_xyxy)
    union = (area(a_xyxy) + area(b_xyxy) - overlap).clamp(min=eps)
    around = enclosure(a_xyxy, b_xyxy).clamp(min=eps)
    ratio = overlap / union
    return ratio, ratio - (around - union) / around
