"""Average precision as COCO defines it."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from aweigh.runtime.spec import Category
from aweigh.train.data.records import Split

Metrics = dict[str, Any]
THRESHOLDS = np.linspace(0, 1, 201)  # of F1 curves
SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


class CocoEvaluation:
    """pycocotools on COCO result rows. Crowds and VOC's difficult objects count neither for nor against.

    Args:
        iou_shift: added to COCO's ten IoU thresholds, to see which figures hang on a box that lies on one of them.
    """

    def __init__(self, split: Split, results: Sequence[dict[str, Any]], iou_shift: float = 0.0) -> None:
        truth = _as_coco(split)
        self._categories = sorted(split.categories, key=lambda c: c.id)
        self._images = len(split.records)
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            found = truth.loadRes(list(results)) if results else COCO()
            evaluator = _DifficultAware(truth, found, "bbox")
            evaluator.params.imgIds = [record.image_id for record in split.records]
            named = evaluator.params.iouThrs  # by which summarize finds AP50 and AP75
            evaluator.params.iouThrs = named + iou_shift
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.params.iouThrs = named
            evaluator.summarize()
        self._stats = evaluator.stats
        self._evaluations = evaluator.evalImgs  # [classes x areas x pictures], None where there is nothing
        self._areas = len(evaluator.params.areaRng)
        # [IoU thresholds, recalls, classes], of all areas and most detections
        self._precision = evaluator.eval["precision"][:, :, :, 0, -1]
        self._scores = evaluator.eval["scores"][:, :, :, 0, -1]

    def metrics(self) -> Metrics:
        """COCO's twelve figures, ``images``, and ``per_class``: by category id, ``name``, ``AP``, ``AP50``, and the
        score threshold at which F1 is highest at IoU 0.5 (``best_threshold``, ``best_F1``, from the interpolated
        precision at COCO's 101 recalls)."""
        metrics: Metrics = {name: _share(value) for name, value in zip(SUMMARY, self._stats, strict=True)}
        metrics["per_class"] = {
            str(category.id): {
                "name": category.name,
                "AP": _share(_mean(self._precision[:, :, k])),
                "AP50": _share(_mean(self._precision[0, :, k])),
                **_best_threshold(self._precision[0, :, k], self._scores[0, :, k]),
            }
            for k, category in enumerate(self._categories)
        }
        metrics["images"] = self._images
        return metrics

    def curves(self) -> list[dict[str, Any]]:
        """At IoU 0.5, for each class with objects: ``id``, ``name``, ``precision`` at COCO's 101 recalls, interpolated,
        as far as they are reached, and ``f1`` of all detections that reach one of THRESHOLDS."""
        curves = []
        for k, category in enumerate(self._categories):
            precision = self._precision[0, :, k]
            if (precision < 0).all():  # nothing to find
                continue
            reached = int((precision > 0).sum())
            curve = {"precision": precision[:reached].tolist(), "f1": self._f1(k).tolist()}
            curves.append({"id": category.id, "name": category.name, **curve})
        return curves

    def _f1(self, k: int) -> npt.NDArray[np.float64]:
        """[THRESHOLDS] counted, for beyond the last object found the interpolated curve knows of no false ones."""
        start = k * self._areas * self._images  # all areas are the first of the areas
        pictures = [one for one in self._evaluations[start : start + self._images] if one is not None]
        objects = sum(int((np.asarray(one["gtIgnore"]) == 0).sum()) for one in pictures)
        counted = [np.asarray(one["dtIgnore"])[0] == 0 for one in pictures]
        scores = np.concatenate([np.asarray(one["dtScores"])[c] for one, c in zip(pictures, counted, strict=True)])
        right = np.concatenate(
            [np.asarray(one["dtMatches"])[0][c] > 0 for one, c in zip(pictures, counted, strict=True)]
        )
        reached = scores >= THRESHOLDS[:, None]
        return np.asarray(2 * (reached & right).sum(axis=1) / (reached.sum(axis=1) + objects))


def coco_metrics(split: Split, results: Sequence[dict[str, Any]], iou_shift: float = 0.0) -> Metrics:
    """See ``CocoEvaluation.metrics``."""
    return CocoEvaluation(split, results, iou_shift).metrics()


def best_conf(metrics: Metrics, categories: Sequence[Category]) -> tuple[float | None, ...]:
    """ModelSpec.best_conf from ``per_class``: rounded down, for thresholds at run time are strict."""
    found = (metrics["per_class"][str(category.id)]["best_threshold"] for category in categories)
    return tuple(None if value is None else math.floor(value * 1e4) / 1e4 for value in found)


class _DifficultAware(COCOeval):  # type: ignore[misc]
    """COCOeval that treats ``difficult`` as the VOC benchmark: matched by plain IoU, any number of times, ignored."""

    def _prepare(self) -> None:
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                if truth.get("difficult"):
                    truth["ignore"] = truth["iscrowd"] = 1

    def computeIoU(self, imgId: Any, catId: Any) -> Any:  # noqa: N802, N803
        # A crowd's IoU is intersection over the detection; a difficult object's is the plain one.
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


def _best_threshold(precision: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> dict[str, float | None]:
    recall = np.linspace(0, 1, len(precision))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1.argmax())
    if not f1[best] > 0:  # nothing to find (-1), or nothing found
        return {"best_threshold": None, "best_F1": None}
    return {"best_threshold": float(scores[best]), "best_F1": float(f1[best])}


def _share(value: float) -> float | None:
    return None if value < 0 else float(value)


def rows_of_interest(metrics: Metrics) -> Iterable[tuple[str, float | None]]:
    """The figures that tables and results.csv show."""
    return ((name, metrics[name]) for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"))
