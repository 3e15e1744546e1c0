"""The listener that writes a run: into its folder, to its logger, and to the caller's callback."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lightning_fabric.loggers import Logger

from aweigh.train.checkpoint import Checkpoint, save_checkpoint
from aweigh.train.evaluation.curves import CURVES_NAME
from aweigh.train.loop.trainer import Epoch
from aweigh.train.loop.validation import Validation
from aweigh.train.tracking.folder import RunDir
from aweigh.train.tracking.plots import plot_results

OnEpoch = Callable[[Epoch], object]


class Record:
    """Writes results.csv, results.png, curves.json and the checkpoints.

    Args:
        run: the folder.
        logger: gets the same numbers as results.csv; None for results.csv only.
        title: of results.png.
        on_epoch: called at the end of every epoch, after its checkpoint was written.
    """

    def __init__(self, run: RunDir, logger: Logger | None, title: str, on_epoch: OnEpoch | None) -> None:
        self._run, self._logger, self._title, self._on_epoch = run, logger, title, on_epoch

    def stepped(self, iteration: int, losses: Mapping[str, float]) -> None:
        if self._logger is not None:
            self._logger.log_metrics({f"step/{name}": value for name, value in losses.items()}, iteration)

    def validated(self, validation: Validation) -> None:
        if validation.best is not None:
            save_checkpoint(validation.best.checkpoint, self._run.best)
            self._run.write_json(CURVES_NAME, validation.best.curves.to_dict())
        row = validation.row
        self._run.append_row(dict(row))
        if self._logger is not None:
            numbers = {name: value for name, value in row.items() if isinstance(value, (int, float))}
            self._logger.log_metrics(numbers, int(row["iteration"]))
        plot_results(self._run.rows(), self._run.path / "results.png", self._title)

    def saved(self, checkpoint: Checkpoint) -> None:
        save_checkpoint(checkpoint, self._run.last)

    def epoch_ended(self, epoch: Epoch) -> None:
        if self._on_epoch is not None:
            self._on_epoch(epoch)

    def close(self, success: bool) -> None:
        """End the log; ``success`` is recorded where the logger can."""
        if self._logger is not None:
            self._logger.finalize("success" if success else "failed")
