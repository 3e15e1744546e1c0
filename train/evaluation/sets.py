"""The benchmarks whose metrics ``aweigh val --metrics`` computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aweigh.train.data.records import Split
from aweigh.train.evaluation.coco import SHOWN, coco_metrics
from aweigh.train.evaluation.crowdhuman import crowdhuman_metrics
from aweigh.train.evaluation.metrics import Metrics, ResultRow
from aweigh.train.evaluation.voc import voc_metrics


@dataclass(frozen=True)
class MetricSet:
    """Metrics of a benchmark.

    Attributes:
        compute: from a split and rows of a COCO results file.
        shown: the metrics of the printed table.
    """

    compute: Callable[[Split, Sequence[ResultRow]], Metrics]
    shown: tuple[str, ...]


METRIC_SETS = {
    "coco": MetricSet(coco_metrics, SHOWN),
    "voc": MetricSet(voc_metrics, ("mAP", "mAP07")),
    "crowdhuman": MetricSet(crowdhuman_metrics, ("AP50", "MR", "recall")),
}
