"""The loggers of a run besides results.csv, as loggers of Fabric."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning_fabric.loggers import Logger, TensorBoardLogger

from aweigh.runtime.errors import CannotRun, install_advice

# Logger: module it needs; the extra has the logger's name.
MODULES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
_PROJECT = "aweigh"


def require_logger(kind: str) -> None:
    """Raises CannotRun, naming the extra, where the library of a logger is not installed."""
    module = MODULES.get(kind)
    if module is not None and find_spec(module) is None:
        raise CannotRun(f"--logger {kind} needs the module {module!r}: {install_advice(kind)}")


def make_logger(kind: str, folder: Path, recipe: Mapping[str, Any], iteration: int) -> Logger | None:
    """A logger that holds the recipe; None for ``csv``, which every run writes anyway.

    Servers and credentials are those that W&B and MLflow take from their environment variables (``WANDB_MODE=offline``,
    ``MLFLOW_TRACKING_URI``).

    Args:
        kind: a value of ``--logger``.
        folder: of the run; TensorBoard's events go to ``tensorboard`` in it.
        iteration: at which the run starts or goes on; values of later iterations, logged before a resume, are
            overwritten where the logger can.

    Raises:
        CannotRun: the library is not installed, or has no server to log to.
    """
    require_logger(kind)
    if kind == "csv":
        return None
    logger: Logger
    if kind == "tensorboard":
        logger = TensorBoardLogger(folder, name="", version="tensorboard", purge_step=iteration or None)
    else:
        logger = {"wandb": WandbLogger, "mlflow": MlflowLogger}[kind](folder)
    logger.log_hyperparams(_flat(recipe))
    return logger


class WandbLogger(Logger):  # type: ignore[misc]
    """Weights & Biases; a resumed run goes on under the same id."""

    def __init__(self, folder: Path) -> None:
        import wandb

        identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        try:
            self._run = wandb.init(project=_PROJECT, name=folder.name, id=identity, dir=str(folder), resume="allow")
        except wandb.errors.Error as error:
            raise CannotRun(f"--logger wandb: {error}; log in, or set WANDB_MODE=offline") from error

    @property
    def name(self) -> str:
        return _PROJECT

    @property
    def version(self) -> str:
        return str(self._run.id)

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        self._run.config.update(params, allow_val_change=True)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._run.log(metrics, step=step)

    def finalize(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "success" else 1)


class MlflowLogger(Logger):  # type: ignore[misc]
    """MLflow; a resumed run goes on in the run that has its folder as a tag."""

    def __init__(self, folder: Path) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._open(folder)
        except MlflowException as error:
            raise CannotRun(f"--logger mlflow: {error} (MLFLOW_TRACKING_URI names the server or database)") from error

    def _open(self, folder: Path) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        experiment = self._client.get_experiment_by_name(_PROJECT)
        identity = self._client.create_experiment(_PROJECT) if experiment is None else experiment.experiment_id
        place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        runs = self._client.search_runs([identity], f"tags.aweigh_run = '{place}'", max_results=1)
        if runs:
            self._run_id = runs[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
        else:
            run = self._client.create_run(identity, run_name=folder.name, tags={"aweigh_run": place})
            self._run_id = run.info.run_id

    @property
    def name(self) -> str:
        return _PROJECT

    @property
    def version(self) -> str:
        return str(self._run_id)

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        known = self._client.get_run(self._run_id).data.params  # MLflow refuses to change one
        for name, value in dict(params).items():
            if name not in known:
                self._client.log_param(self._run_id, name, value)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self._run_id, name, value, step=step)

    def finalize(self, status: str) -> None:
        self._client.set_terminated(self._run_id, "FINISHED" if status == "success" else "FAILED")


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Values that every logger takes: numbers, booleans and texts."""
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": item for key, item in _flat(value).items()}
        else:
            flat[name] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return flat
