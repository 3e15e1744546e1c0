"""From boxes and ranking scores of all points to at most ``max_det`` detections: one definition for all uses.

Evaluation runs it in eager torch, export traces the same module; so a checkpoint and its ONNX file cannot drift
apart. Every step has a static shape; only plain operators and, in the ``onnx`` form, NonMaxSuppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import PostSpec
from aweigh.train.dense.boxes import Extents, pairwise_iou
from aweigh.train.dense.nms import nms_keep, nms_matrix

# The limit of TensorRT's TopK: the matrix form of NMS sorts all candidates of an image together.
MATRIX_CANDIDATES = 3840
# Of the pairs that ``level-points`` brings, so many for each point of a level's top k are kept per image.
PAIRS_PER_POINT = 4


@dataclass(frozen=True)
class Dense:
    """Predictions of all points, decoded.

    Attributes:
        boxes_xyxy: [B, P, 4] pixels of the network input.
        scores: [B, P, C] ranking scores, 0 to 1.
        class_probability: [B, P, C]; what ``PostSpec.threshold_gates`` may compare with the threshold.
        level_sizes: points per pyramid level.
        size_hw: of the network input.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    class_probability: Tensor
    level_sizes: Sequence[int]
    size_hw: tuple[int, int]


class PostProcess(nn.Module):
    """Outputs, in the order of ``spec.output_names``: see runtime.spec.PostSpec."""

    def __init__(self, spec: PostSpec, stop_early: bool = True) -> None:
        """
        Args:
            spec: what to compute.
            stop_early: let the matrix form of NMS stop once the rows of the output are decided; see
                :func:`aweigh.train.dense.nms.nms_matrix`. It costs the exported graph a branch.

        Raises:
            BadInput: more candidates than the matrix form takes.
        """
        super().__init__()
        self.spec = spec
        self.rows = spec.max_det if stop_early else None
        if spec.top_k_unit == "image-pairs":
            self._require_few(spec.pre_nms_top_k)

    def forward(self, dense: Dense) -> tuple[Tensor, ...]:
        spec = self.spec
        if spec.kind == "raw":
            return self._clip(dense.boxes_xyxy, dense.size_hw), dense.scores
        boxes_xyxy, scores, labels = self.candidates(dense)
        kept_scores = scores
        converged: tuple[Tensor, ...] = ()
        if spec.kind in ("nms", "vote"):
            grown = self._grown(boxes_xyxy)
            compared = Extents.of(grown)
            classes, groups = dense.scores.shape[2], labels
            if spec.agnostic:
                classes, groups = 1, torch.zeros_like(labels)
            if spec.nms_form == "matrix":
                keep, done = nms_matrix(compared, scores, groups, spec.iou_threshold, self.rows)
                converged = (done,)
            else:
                keep = nms_keep(grown, scores, groups, spec.iou_threshold, classes, spec.max_det)
            kept_scores = torch.where(keep, scores, 0.0)
        count, rows, row_scores, row_labels = self._rows(boxes_xyxy, kept_scores, labels)
        if spec.kind == "vote":
            rows = self._voted(rows, row_labels, boxes_xyxy, compared, scores, labels)
        if spec.clip_when == "after-nms":
            rows = self._clip(rows, dense.size_hw)
        return count, rows, row_scores, row_labels, *converged

    def candidates(self, dense: Dense) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes [B, K, 4], scores and labels [B, K] before NMS; scores of 0 are no candidates."""
        spec, scores = self.spec, dense.scores
        ranking = dense.class_probability if spec.top_k_by == "class-probability" else scores
        if spec.threshold_gates == "class-probability":
            ranking = torch.where(dense.class_probability > spec.score_threshold, ranking, 0.0)
        elif spec.top_k_by != "score":
            ranking = torch.where(scores > spec.score_threshold, ranking, 0.0)
        ranked, point, labels = self._candidates(ranking, dense.level_sizes)
        kept_scores = ranked
        if spec.top_k_by != "score":
            own = rows_of(scores, point).gather(2, labels[..., None])[..., 0]
            kept_scores = torch.where(ranked > 0, own, 0.0)
            if spec.nms_form == "matrix":
                kept_scores, point, labels = sorted_by_value(kept_scores, point, labels)
        if spec.threshold_gates == "score":  # the same behind the top-k as before it, and there it costs nothing
            kept_scores = torch.where(kept_scores > spec.score_threshold, kept_scores, 0.0)
        boxes_xyxy = rows_of(dense.boxes_xyxy, point)
        if spec.clip_when == "before-nms":
            boxes_xyxy = self._clip(boxes_xyxy, dense.size_hw)
        if spec.drop_empty:
            x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
            kept_scores = torch.where((x2 > x1) & (y2 > y1), kept_scores, 0.0)
        return boxes_xyxy, kept_scores, labels

    def _grown(self, boxes_xyxy: Tensor) -> Tensor:
        """Boxes as IoU sees them: in the ``plus-one`` convention each covers its last pixel too."""
        if self.spec.iou_convention == "continuous":
            return boxes_xyxy
        return boxes_xyxy + boxes_xyxy.new_tensor((0, 0, 1, 1))

    def _voted(
        self,
        rows_xyxy: Tensor,
        row_labels: Tensor,
        boxes_xyxy: Tensor,
        compared: Extents,
        scores: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """Score voting (arXiv 2007.08103 Eq. 9-10): each kept box becomes the weighted mean of its candidates.

        ``compared``: the candidates ``boxes_xyxy`` as IoU sees them.
        """
        overlap = pairwise_iou(Extents.of(self._grown(rows_xyxy)), compared)  # [B, K kept, K]
        near = (overlap > self.spec.vote_min_iou) & (row_labels[:, :, None] == labels[:, None])
        missing = 1 - overlap
        weight = (missing * missing / -self.spec.vote_sigma).exp() * scores[:, None]
        weight = torch.where(near, weight, 0.0)
        total = weight.sum(dim=2, keepdim=True)
        mean = torch.matmul(weight, boxes_xyxy) / total.clamp(min=1e-12)
        return torch.where(total > 0, mean, rows_xyxy)

    def _clip(self, boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
        if self.spec.clip == "none":
            return boxes_xyxy
        height, width = size_hw
        less = 1 if self.spec.clip == "size-minus-one" else 0
        limit = [
            torch.full((), side - less, dtype=boxes_xyxy.dtype, device=boxes_xyxy.device) for side in (width, height)
        ]
        return boxes_xyxy.clamp(min=0).minimum(torch.stack(limit).repeat(2))

    def _candidates(self, ranking: Tensor, level_sizes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Rank, points and labels [B, K] of the best (point, class) pairs, sorted by rank within their unit."""
        k = self.spec.pre_nms_top_k
        if self.spec.top_k_unit == "image-pairs":
            return top_pairs(ranking, k)
        ends = list(accumulate(level_sizes, initial=0))
        levels = [(first, ranking[:, first:end]) for first, end in pairwise(ends)]
        if self.spec.top_k_unit == "level-points":
            point = torch.cat(
                [level.amax(dim=2).topk(min(k, level.shape[1]), dim=1)[1] + first for first, level in levels], dim=1
            )
            value, row, label = top_pairs(rows_of(ranking, point), min(PAIRS_PER_POINT * k, MATRIX_CANDIDATES))
            return value, point.gather(1, row), label
        parts = []
        for first, level in levels:
            value, point, label = top_pairs(level, k)
            parts.append((value, point + first, label))
        value, point, label = (torch.cat(column, dim=1) for column in zip(*parts, strict=True))
        if self.spec.nms_form == "matrix":  # wants one sorted list
            self._require_few(value.shape[1])
            value, point, label = sorted_by_value(value, point, label)
        return value, point, label

    def _require_few(self, candidates: int) -> None:
        if self.spec.nms_form == "matrix" and candidates > MATRIX_CANDIDATES:
            raise BadInput(
                f"NMS in matrix form on {candidates} candidates per image: at most {MATRIX_CANDIDATES}; "
                "export with a smaller --top-k, or with --nms onnx"
            )

    def _rows(self, boxes_xyxy: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The ``max_det`` best rows; those past the last detection are 0, 0, -1."""
        rows, candidates = self.spec.max_det, scores.shape[1]
        few = not isinstance(candidates, int) or candidates < rows  # as a small image can have
        value, order = (F.pad(scores, (0, rows)) if few else scores).topk(rows, dim=1)
        found = value > 0
        if few:
            order = torch.where(found, order, 0)
        boxes = torch.where(found[..., None], rows_of(boxes_xyxy, order), 0.0)
        return found.sum(dim=1), boxes, value, torch.where(found, labels.gather(1, order), -1)


def top_pairs(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k best (point, class) pairs of scores [B, P, C]: scores, points, labels, [B, K] each, sorted.

    The k best pairs lie among the k points of the best maxima, so that no sort sees all P * C values. Which of two
    equal scores comes first is left to the library.
    """
    classes = scores.shape[2]
    if classes == 1:
        value, point = scores[..., 0].topk(min(k, scores.shape[1]), dim=1)
        return value, point, torch.zeros_like(point)
    _, best = scores.amax(dim=2).topk(min(k, scores.shape[1]), dim=1)
    reduced = rows_of(scores, best).flatten(1)
    value, pair = reduced.topk(min(k, reduced.shape[1]), dim=1)
    # `//` on int64 exports a comparison of booleans that TensorRT refuses.
    row = torch.div(pair, classes, rounding_mode="trunc")
    return value, best.gather(1, row), pair - row * classes


def rows_of(values: Tensor, index: Tensor) -> Tensor:
    """Rows [B, K, C] of values [B, P, C], by an index [B, K] for each image."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def sorted_by_value(value: Tensor, point: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three [B, K] in the order of falling values."""
    value, order = value.topk(value.shape[1], dim=1)
    return value, point.gather(1, order), label.gather(1, order)
