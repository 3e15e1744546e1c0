"""The length of a run, from a recipe; for ``--minutes`` real steps are timed."""

from __future__ import annotations

import time

from aweigh.train.config import TrainConfig
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.records import Split
from aweigh.train.evaluation.run import evaluate_network
from aweigh.train.loop.batches import training_batches
from aweigh.train.loop.budget import Budget, from_epochs, from_iterations, from_minutes
from aweigh.train.loop.learner import Learner
from aweigh.train.loop.validation import Validator

_TIMED_IMAGES = 16  # of the validation split


def measure_budget(config: TrainConfig, learner: Learner, dataset: DetectionDataset, validator: Validator) -> Budget:
    """The budget of a recipe; the learner is as before."""
    batches = training_batches(config, dataset, learner.fabric)
    per_epoch = batches.batches_per_epoch
    if config.minutes is None and config.iterations:
        return from_iterations(config.iterations, per_epoch, config.val_every)
    if config.minutes is None:
        return from_epochs(config.epochs, per_epoch, config.val_every)

    def validation_seconds() -> float:
        split, predictor = validator.split, validator.predictor()
        few = Split("val", split.categories, split.records[:_TIMED_IMAGES], ())
        start = time.perf_counter()
        evaluate_network(predictor, few, batch=config.batch, note="time")
        return (time.perf_counter() - start) / len(few.records) * len(split.records)

    with learner.trial():
        return from_minutes(config.minutes, per_epoch, config.val_every, batches, learner.rehearse, validation_seconds)
