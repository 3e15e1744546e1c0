"""The training loop.

What a run does depends on its recipe, its data, its seed and the number of threads and processes, and on nothing else:
the order of the pictures and their augmentation derive from (seed, epoch, picture), the length is counted in
iterations, and the state is written so that a killed run continues bit for bit (on a CPU).
"""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import Logger

from aweigh.runtime.errors import CheckFailed
from aweigh.runtime.machine.interrupt import first_interrupt
from aweigh.runtime.spec import ModelSpec
from aweigh.train.checkpoint import Checkpoint, save_checkpoint
from aweigh.train.config import TrainConfig
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.loading.loader import Batch, loading_processes, training_loader
from aweigh.train.data.loading.repeat import repeat_factors
from aweigh.train.data.records import Split
from aweigh.train.evaluation.coco import CocoEvaluation, Metrics, best_conf, rows_of_interest
from aweigh.train.evaluation.curves import CURVES_NAME, curves
from aweigh.train.evaluation.run import TorchPredictor, joined_results
from aweigh.train.loop.gradient import backward
from aweigh.train.loop.optim import Schedule, WeightAverage, make_optimizer, scaled_lr
from aweigh.train.models.deployable import Deployable
from aweigh.train.models.detector import DenseDetector, build_detector
from aweigh.train.models.freezing import freeze, synchronised
from aweigh.train.process.console import TrainingProgress
from aweigh.train.process.processes import any_process, gather, mean_statistics, place
from aweigh.train.run.budget import Budget
from aweigh.train.tracking import telemetry
from aweigh.train.tracking.counters import Counters
from aweigh.train.tracking.folder import RunDir
from aweigh.train.tracking.plots import plot_results

# A long epoch is saved in between as well; when, does not matter to what a resumed run computes.
SAVE_SECONDS = 300.0
LOG_EVERY = 10  # iterations between the figures of single steps, for loggers other than results.csv
# Why a run ended.
ITERATIONS, PATIENCE = "iterations", "patience"


class Trainer:
    """One run: model, optimizer, average, data and counters. :meth:`fit` runs it to its end.

    Of several processes each has a trainer, and they take every step together; the first writes.

    Args:
        spec: of the model being trained; its parents name the data.
        val: validated every ``budget.val_every`` epochs and at the end.
    """

    def __init__(
        self, config: TrainConfig, fabric: Fabric, spec: ModelSpec, dataset: DetectionDataset, val: Split, run: RunDir
    ) -> None:
        self.config, self.fabric, self.spec, self.dataset, self.val, self.run = config, fabric, spec, dataset, val, run
        self.counters = Counters()
        torch.manual_seed(config.seed)
        self.detector = self._build()
        if config.channels_last:
            self.detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        freeze(self.detector, config.frozen_stages, config.backbone_norm)
        if config.sync_bn:
            self.detector = synchronised(self.detector, fabric.world_size, fabric.device)
        c = config
        self.schedule = Schedule(
            c.schedule, c.lrf, c.steps, c.warmup, c.warmup_iterations, c.warmup_from, c.warmup_kind
        )
        # Each step sets its own learning rate.
        optimizer = make_optimizer(
            self.detector, c.optimizer, c.lr0, c.weight_decay, c.momentum, c.undecayed, c.bias_lr
        )
        self.model, self.optimizer = fabric.setup(self.detector, optimizer)
        self.average = WeightAverage(self.detector, config.ema)
        self.logger: Logger | None = None  # beside results.csv
        self._losses: deque[float] = deque(maxlen=20)
        self._assigned: telemetry.Sums = {}

    @property
    def peak_lr(self) -> float:
        """The highest learning rate, for the batch of the recipe."""
        return scaled_lr(self.config.lr0, self.config.batch, self.config.lr_batch)

    def _build(self) -> DenseDetector:
        c, spec = self.config, self.spec
        return build_detector(c.model, c.method, len(spec.categories), spec.input, c.network, c.options)

    # -- state ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs; tensors, numbers and strings only."""
        return {
            "model": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state,
            "rng": torch.get_rng_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.detector.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.state = {name: tensor.to(self.fabric.device) for name, tensor in state["average"].items()}
        torch.set_rng_state(state["rng"])

    @contextmanager
    def trial(self) -> Iterator[None]:
        """What steps within the block learn is undone at its end."""
        before = copy.deepcopy(self.state())
        try:
            yield
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            self.load_state(before)

    def save_last(self, budget: Budget, threads: int) -> None:
        """Every process takes part; the first writes."""
        mean_statistics(self.fabric, self.detector, self.average.state)
        if not self.fabric.is_global_zero:
            return
        training = {
            **self.state(),
            "counters": dict(vars(self.counters)),
            "config": self.config.to_dict(),
            "budget": dict(vars(budget)),
            "threads": threads,
            "processes": self.fabric.world_size,
        }
        save_checkpoint(self._checkpoint({}, training), self.run.last)

    def _checkpoint(self, metrics: Metrics, training: dict[str, Any]) -> Checkpoint:
        weights = {name: tensor.contiguous() for name, tensor in self.average.state.items()}
        return Checkpoint(self.spec, self.config.network, self.config.options, weights, training, metrics)

    # -- running -------------------------------------------------------------------------------------------------

    def fit(self, budget: Budget, threads: int) -> None:
        """Train to the end of the budget; Ctrl-C and SIGTERM leave a run that can be resumed.

        Raises:
            CheckFailed: a loss or gradient is not finite; the last good checkpoint stays.
        """
        counters = self.counters
        loader = self.loader(counters.epoch, counters.batch)
        with first_interrupt() as interrupt, TrainingProgress(budget.iterations, counters.iteration) as progress:
            self.save_last(budget, threads)  # a run killed in its first epoch can be resumed too
            if self.ended(budget) is not None:
                return
            saved = time.monotonic()
            for batch in progress.waited(loader):
                if counters.iteration >= budget.iterations:
                    break
                terms = self.step(batch, budget.iterations)
                self._count(terms, budget)
                if counters.iteration % LOG_EVERY == 0:
                    self._log({f"step/{name}": value for name, value in terms.items()})
                shown = " ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in terms.items())
                rate = progress.advance(counters.iteration, self.config.batch, shown)
                finished = counters.iteration == budget.iterations
                epoch_ends = counters.batch == 0 or finished
                if finished or (epoch_ends and counters.epoch % budget.val_every == 0):
                    with progress.paused():
                        self._validate(budget, rate, progress)
                interrupted, due = any_process(self.fabric, interrupt.is_set(), time.monotonic() - saved > SAVE_SECONDS)
                if epoch_ends or interrupted or due:
                    self.save_last(budget, threads)
                    saved = time.monotonic()
                if interrupted and not finished:
                    self.fabric.barrier()  # who starts processes may end the others as soon as one ends
                    progress.say(f"interrupted at iteration {counters.iteration}; go on with --resume")
                    raise KeyboardInterrupt
                if epoch_ends and self.ended(budget) == PATIENCE:
                    progress.say(f"no better AP in {counters.stale} validations: stopping")
                    break

    def ended(self, budget: Budget) -> str | None:
        """Why the run is at its end: ``iterations`` or ``patience``; None where it is not."""
        if self.counters.iteration >= budget.iterations:
            return ITERATIONS
        return PATIENCE if 0 < self.config.patience <= self.counters.stale else None

    def loader(self, epoch: int, batch: int) -> Any:
        threshold = self.config.repeat_threshold
        return training_loader(
            self.dataset,
            self.config.batch,
            seed=self.config.seed,
            start_epoch=epoch,
            start_batch=batch,
            workers=loading_processes(self.config.workers, place().local_size),
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            repeats=repeat_factors(self.dataset.split, threshold) if threshold else None,
        )

    def step(self, batch: Batch, iterations: int) -> dict[str, float]:
        """One optimizer step; the loss terms of the batch, of all processes."""
        config, iteration = self.config, self.counters.iteration
        lr = self.peak_lr * self.schedule(iteration, iterations)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_share"]
        progress = iteration / max(1, iterations - 1)
        found = backward(self.fabric, self.model, self.detector, batch, progress, config.accumulate)
        look = iteration % telemetry.EVERY == 0
        method = self.detector.method
        seen = telemetry.observe(method, found.predictions, found.points, found.targets, progress) if look else {}
        self._assigned = telemetry.joined(gather(seen)) if look else {}
        # Normalisers count over all processes: the mean of their terms is the term of the whole batch.
        values = self.fabric.all_reduce(torch.stack(list(found.losses.values())), reduce_op="mean")
        terms = dict(zip(found.losses, values.tolist(), strict=True))
        self._require_finite(terms, batch, "loss")
        norm = torch.nn.utils.clip_grad_norm_(self.detector.parameters(), config.clip or math.inf)
        self._require_finite({"gradient norm": float(norm)}, batch, "gradient")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.detector, iteration)
        self._losses.append(sum(terms.values()))
        return terms

    def _require_finite(self, values: dict[str, float], batch: Batch, what: str) -> None:
        if all(math.isfinite(value) for value in values.values()):
            return
        shares = gather([self.dataset.split.records[int(i)].path.name for i in batch.record_index])
        pictures = [name for share in shares for name in share]
        lr = self.optimizer.param_groups[0]["lr"]
        raise CheckFailed(
            f"{what} is not finite at iteration {self.counters.iteration} (epoch {self.counters.epoch}): {values}; "
            f"learning rate {lr:.2g}, total loss of the steps before {[round(v, 3) for v in self._losses][-5:]}, "
            f"pictures {pictures}. The last good checkpoint is kept in {self.run.path / 'weights'}. "
            "Lower --lr0, lengthen --warmup, or try --precision fp32"
        )

    def _count(self, terms: dict[str, float], budget: Budget) -> None:
        counters = self.counters
        counters.iteration += 1
        counters.terms += 1
        for name, value in terms.items():
            counters.sums[name] = counters.sums.get(name, 0.0) + value
        telemetry.add(counters.assigned, self._assigned)
        counters.batch += 1
        if counters.batch == budget.batches_per_epoch:
            counters.epoch, counters.batch = counters.epoch + 1, 0

    def _log(self, figures: dict[str, float]) -> None:
        if self.logger is not None:
            self.logger.log_metrics(figures, self.counters.iteration)

    def averaged(self) -> DenseDetector:
        """A detector of its own with the averaged weights."""
        detector = self._build()
        detector.load_state_dict(self.average.state)
        return detector

    def _validate(self, budget: Budget, rate: float, progress: TrainingProgress) -> None:
        counters = self.counters
        mean_statistics(self.fabric, self.detector, self.average.state)
        predictor = TorchPredictor(Deployable(self.averaged(), self.spec.post), self.spec, self.fabric.device)
        results = joined_results(predictor, self.val, batch=self.config.batch)
        evaluation = CocoEvaluation(self.val, results)
        metrics = evaluation.metrics()
        figures = dict(rows_of_interest(metrics))
        ap = figures["AP"] or 0.0
        counters.stale = 0 if ap > counters.best else counters.stale + 1
        better, counters.best = ap > counters.best, max(ap, counters.best)
        if better and self.fabric.is_global_zero:
            checkpoint = self._checkpoint({**metrics, "iteration": counters.iteration}, {})
            spec = replace(self.spec, best_conf=best_conf(metrics, self.spec.categories))
            save_checkpoint(replace(checkpoint, spec=spec), self.run.best)
            self.run.write_json(CURVES_NAME, curves(evaluation, self.val, results, counters.iteration))
        row = {
            "epoch": counters.epoch,
            "iteration": counters.iteration,
            "lr": self.optimizer.param_groups[0]["lr"],
            **{f"train/{name}": total / counters.terms for name, total in counters.sums.items()},
            "train/images_per_s": round(rate, 2),
            **{f"val/{name}": "" if value is None else value for name, value in figures.items()},
            **telemetry.columns(counters.assigned),
        }
        counters.terms, counters.sums, counters.assigned = 0, {}, {}
        if self.fabric.is_global_zero:
            self.run.append_row(row)
            self._log({name: value for name, value in row.items() if isinstance(value, (int, float))})
            plot_results(self.run.rows(), self.run.path / "results.png", f"{self.config.name}: {self.config.method}")
        progress.say(
            f"epoch {counters.epoch}/{budget.epochs} iteration {counters.iteration}/{budget.iterations} "
            + " ".join(f"{k} {v:.3f}" for k, v in figures.items() if v is not None)
            + f" ({rate:.0f} images/s)"
        )
