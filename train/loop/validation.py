"""Validation during training: the averaged weights on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from aweigh.train.checkpoint import Checkpoint
from aweigh.train.data.records import Split
from aweigh.train.evaluation.coco import SHOWN, CocoEvaluation, best_conf
from aweigh.train.evaluation.curves import Curves, compute_curves
from aweigh.train.evaluation.metrics import Metrics, ResultRow
from aweigh.train.evaluation.predictors import TorchPredictor
from aweigh.train.evaluation.run import joined_results
from aweigh.train.loop.learner import Learner
from aweigh.train.tracking import telemetry
from aweigh.train.tracking.counters import Counters


@dataclass(frozen=True)
class Best:
    """The weights with the highest AP so far: their checkpoint, and curves of their validation."""

    checkpoint: Checkpoint
    curves: Curves


@dataclass(frozen=True)
class Validation:
    """The outcome of a validation.

    Attributes:
        metrics: of the averaged weights on the validation split.
        row: of results.csv; an empty text where there is no value.
        best: the verdict: given where the AP is the highest so far.
    """

    metrics: Metrics
    row: Mapping[str, int | float | str]
    best: Best | None

    @property
    def shown(self) -> dict[str, float | None]:
        """The metrics that lines and tables show."""
        return {name: self.metrics[name] for name in SHOWN}


class Validator:
    """Validates a learner on a split; every process takes its share of the images.

    Args:
        batch: images at once.
    """

    def __init__(self, learner: Learner, split: Split, batch: int) -> None:
        self.split = split
        self._learner, self._batch = learner, batch

    def predictor(self) -> TorchPredictor:
        """The averaged weights as they are now."""
        learner = self._learner
        return TorchPredictor(learner.deployable(), learner.spec, learner.fabric.device)

    def __call__(self, counters: Counters, images_per_s: float) -> Validation:
        """Validate.

        Args:
            counters: of the run; their sums become the training columns of the row.
            images_per_s: speed of the training, for the row.
        """
        self._learner.share_statistics()
        results = joined_results(self.predictor(), self.split, batch=self._batch)
        evaluation = CocoEvaluation(self.split, results)
        metrics = evaluation.metrics()
        better = (metrics["AP"] or 0.0) > counters.best
        row = {
            "epoch": counters.epoch,
            "iteration": counters.iteration,
            "lr": self._learner.lr,
            **{f"train/{name}": value for name, value in counters.mean_losses().items()},
            "train/images_per_s": round(images_per_s, 2),
            **{f"val/{name}": "" if (value := metrics[name]) is None else value for name in SHOWN},
            **telemetry.columns(counters.assigned),
        }
        return Validation(
            metrics, row, self._best(evaluation, metrics, results, counters.iteration) if better else None
        )

    def _best(self, evaluation: CocoEvaluation, metrics: Metrics, results: list[ResultRow], iteration: int) -> Best:
        curves = compute_curves(evaluation, self.split, results, iteration)
        checkpoint = self._learner.checkpoint({**metrics.to_dict(), "iteration": iteration}, {})
        conf = best_conf(metrics, self._learner.spec.categories)
        return Best(replace(checkpoint, spec=replace(checkpoint.spec, best_conf=conf)), curves)
