"""The benchmarks whose figures ``aweigh val --metrics`` gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aweigh.train.data.records import Split
from aweigh.train.evaluation.coco import Metrics, coco_metrics
from aweigh.train.evaluation.crowdhuman import crowdhuman_metrics
from aweigh.train.evaluation.voc import voc_metrics


@dataclass(frozen=True)
class MetricSet:
    """Figures of a benchmark.

    Attributes:
        compute: from a split and rows of a COCO results file.
        shown: the figures of the table.
    """

    compute: Callable[[Split, Sequence[dict[str, Any]]], Metrics]
    shown: tuple[str, ...]


METRIC_SETS = {
    "coco": MetricSet(coco_metrics, ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")),
    "voc": MetricSet(voc_metrics, ("mAP", "mAP07")),
    "crowdhuman": MetricSet(crowdhuman_metrics, ("AP50", "MR", "recall")),
}
