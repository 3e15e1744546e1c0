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
    return (boxes_xyxy[..., 2] - boxes_xyxy[..., 0]) * (boxes_xyxy[..., 3] - boxes_xyxy[..., 1])


def intersection(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Overlap area of boxes that broadcast against each other."""
    low = torch.maximum(a_xyxy[..., :2], b_xyxy[..., :2])
    high = torch.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    sides = (high - low).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def iou(a_xyxy: Tensor, b_xyxy: Tensor, eps: float = 1e-6) -> Tensor:
    """Intersection over union, 0 to 1, of boxes that broadcast; the union is at least ``eps``, as in mmdet."""
    overlap = intersection(a_xyxy, b_xyxy)
    return overlap / (area(a_xyxy) + area(b_xyxy) - overlap).clamp(min=eps)


def iou_and_giou(a_xyxy: Tensor, b_xyxy: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """IoU (0 to 1) and generalised IoU (-1 to 1, arXiv 1902.09630 Eq. 1) of boxes that broadcast."""
    overlap = intersection(a_xyxy, b_xyxy)
    union = (area(a_xyxy) + area(b_xyxy) - overlap).clamp(min=eps)
    low = torch.minimum(a_xyxy[..., :2], b_xyxy[..., :2])
    high = torch.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    sides = (high - low).clamp(min=0)
    enclosing = (sides[..., 0] * sides[..., 1]).clamp(min=eps)
    ratio = overlap / union
    return ratio, ratio - (enclosing - union) / enclosing
