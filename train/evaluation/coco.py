"""Average precision as COCO defines it."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from aweigh.runtime.spec import Category
from aweigh.train.data.records import Split
from aweigh.train.evaluation.bootstrap import Hits
from aweigh.train.evaluation.metrics import BestThreshold, ClassCurve, ClassMetrics, Metrics, ResultRow

THRESHOLDS = np.linspace(0, 1, 201)  # of F1 curves
# The metrics that tables and results.csv show.
SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


class CocoEvaluation:
    """pycocotools on COCO result rows. Crowds and VOC's difficult objects count neither for nor against.

    Args:
        iou_shift: added to COCO's ten IoU thresholds, to see which metrics depend on a box that lies on one of them.
    """

    def __init__(self, split: Split, results: Sequence[ResultRow], iou_shift: float = 0.0) -> None:
        truth = _as_coco(split)
        self._categories = sorted(split.categories, key=lambda c: c.id)
        self._images = len(split.records)
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            detections = truth.loadRes(list(results)) if results else COCO()
            evaluator = _DifficultAware(truth, detections, "bbox")
            evaluator.params.imgIds = [record.image_id for record in split.records]
            named = evaluator.params.iouThrs  # by which summarize finds AP50 and AP75
            evaluator.params.iouThrs = named + iou_shift
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.params.iouThrs = named
            evaluator.summarize()
        self._stats = evaluator.stats
        self._evaluations = evaluator.evalImgs  # [classes x areas x images], None where there is nothing
        self._areas = len(evaluator.params.areaRng)
        # [IoU thresholds, recalls, classes], of all areas and most detections
        self._precision = evaluator.eval["precision"][:, :, :, 0, -1]
        self._scores = evaluator.eval["scores"][:, :, :, 0, -1]

    def metrics(self) -> Metrics:
        """COCO's twelve metrics, and for each class ``AP``, ``AP50`` and its best threshold."""
        rows = [
            ClassMetrics(
                category.id,
                category.name,
                {"AP": _share(_mean(self._precision[:, :, k])), "AP50": _share(_mean(self._precision[0, :, k]))},
                _best_threshold(self._precision[0, :, k], self._scores[0, :, k]),
            )
            for k, category in enumerate(self._categories)
        ]
        values = {name: _share(value) for name, value in zip(SUMMARY, self._stats, strict=True)}
        return Metrics(values, tuple(rows), self._images)

    def curves(self) -> tuple[ClassCurve, ...]:
        """At IoU 0.5, of each class with objects."""
        curves = []
        for k, category in enumerate(self._categories):
            precision = self._precision[0, :, k]
            if (precision < 0).all():  # no object
                continue
            reached = int((precision > 0).sum())
            precisions = tuple(precision[:reached].tolist())
            curves.append(ClassCurve(category.id, category.name, precisions, tuple(self._f1(k).tolist())))
        return tuple(curves)

    def hits(self) -> tuple[Hits, ...]:
        """Every detection with its verdicts, by class: what the figures can be computed from again on other images."""
        return tuple(self._hits(k) for k in range(len(self._categories)))

    def _hits(self, k: int) -> Hits:
        start = k * self._areas * self._images  # all areas are the first of the areas
        images = list(enumerate(self._evaluations[start : start + self._images]))
        objects = np.array([0 if one is None else int((np.asarray(one["gtIgnore"]) == 0).sum()) for _, one in images])
        found = [(i, one) for i, one in images if one is not None and len(one["dtScores"])]
        if not found:
            nothing = np.zeros((len(self._precision), 0), bool)
            return Hits(np.zeros(0, np.int64), nothing, nothing, objects)
        scores = np.concatenate([np.asarray(one["dtScores"]) for _, one in found])
        order = np.argsort(-scores, kind="stable")
        return Hits(
            image=np.repeat([i for i, _ in found], [len(one["dtScores"]) for _, one in found])[order],
            right=np.concatenate([np.asarray(one["dtMatches"]) > 0 for _, one in found], axis=1)[:, order],
            counted=np.concatenate([np.asarray(one["dtIgnore"]) == 0 for _, one in found], axis=1)[:, order],
            objects=objects,
        )

    def _f1(self, k: int) -> npt.NDArray[np.float64]:
        """[THRESHOLDS], counted: beyond the last detected object the interpolated curve has no false positives."""
        start = k * self._areas * self._images  # all areas are the first of the areas
        images = [one for one in self._evaluations[start : start + self._images] if one is not None]
        objects = sum(int((np.asarray(one["gtIgnore"]) == 0).sum()) for one in images)
        counted = [np.asarray(one["dtIgnore"])[0] == 0 for one in images]
        scores = np.concatenate([np.asarray(one["dtScores"])[c] for one, c in zip(images, counted, strict=True)])
        right = np.concatenate([np.asarray(one["dtMatches"])[0][c] > 0 for one, c in zip(images, counted, strict=True)])
        reached = scores >= THRESHOLDS[:, None]
        return np.asarray(2 * (reached & right).sum(axis=1) / (reached.sum(axis=1) + objects))


def coco_metrics(split: Split, results: Sequence[ResultRow], iou_shift: float = 0.0) -> Metrics:
    """See ``CocoEvaluation.metrics``."""
    return CocoEvaluation(split, results, iou_shift).metrics()


def best_conf(metrics: Metrics, categories: Sequence[Category]) -> tuple[float | None, ...]:
    """ModelSpec.best_conf: the best thresholds, rounded down, because thresholds at run time are strict."""
    best = [metrics.of_class(category.id).best for category in categories]
    scores = [None if threshold is None else threshold.score for threshold in best]
    return tuple(None if score is None else math.floor(score * 1e4) / 1e4 for score in scores)


class _DifficultAware(COCOeval):  # type: ignore[misc]
    """COCOeval that treats ``difficult`` as the VOC benchmark: matched by plain IoU, any number of times, ignored."""

    def _prepare(self) -> None:
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                if truth.get("difficult"):
                    truth["ignore"] = truth["iscrowd"] = 1

    def computeIoU(self, imgId: Any, catId: Any) -> Any:  # noqa: N802, N803
        # pycocotools divides a crowd's intersection by the detection's area; a difficult object's IoU is the plain one.
        difficult = [truth for truth in self._gts[imgId, catId] if truth.get("difficult")]
        for truth in difficult:
            truth["iscrowd"] = 0
        overlaps = super().computeIoU(imgId, catId)
        for truth in difficult:
            truth["iscrowd"] = 1
        return overlaps


def _as_coco(split: Split) -> COCO:
    annotations: list[dict[str, Any]] = []
    for record in split.records:
        for i, (x1, y1, x2, y2) in enumerate(record.boxes_xyxy.astype(np.float64)):
            annotations.append(
                {
                    "id": len(annotations) + 1,  # 0 would read as "not matched" inside pycocotools
                    "image_id": record.image_id,
                    "category_id": split.categories[int(record.labels[i])].id,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(record.areas[i]),
                    "iscrowd": int(record.crowd[i]),
                    "difficult": int(record.difficult[i]),
                }
            )
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [
            {"id": r.image_id, "height": r.size_hw[0], "width": r.size_hw[1], "file_name": r.path.name}
            for r in split.records
        ],
        "annotations": annotations,
        "categories": [{"id": c.id, "name": c.name} for c in split.categories],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def _mean(values: npt.NDArray[np.float64]) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0


def _best_threshold(precision: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> BestThreshold:
    recall = np.linspace(0, 1, len(precision))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1.argmax())
    if not f1[best] > 0:  # no object (-1), or no detection of one
        return BestThreshold(None, None)
    return BestThreshold(float(scores[best]), float(f1[best]))


def _share(value: float) -> float | None:
    return None if value < 0 else float(value)
