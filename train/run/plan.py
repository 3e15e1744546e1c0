"""A run before its first step: settings checked, data read, processes joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import ModelSpec
from aweigh.runtime.values import read_value
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.config import AS_RECORDED, PLACE_FLAGS, TrainConfig, make_config
from aweigh.train.data.division import Division
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.loading.repeat import describe_repeats
from aweigh.train.data.records import Split
from aweigh.train.loop.learner import State
from aweigh.train.methods import make_method
from aweigh.train.models.detector import architecture
from aweigh.train.process.console import say
from aweigh.train.process.device import training_precision
from aweigh.train.process.processes import gather, make_fabric, this_process
from aweigh.train.process.threads import choose_threads
from aweigh.train.run.data import hold_out, load_data, make_augment, make_spec, options_for
from aweigh.train.tracking.folder import RunDir
from aweigh.train.tracking.loggers import require_logger
from aweigh.train.weights.origin import RECORDED
from aweigh.train.yaml_text import require_plain

_MOST_THREADS = 1024


@dataclass(frozen=True)
class Plan:
    """A run before its first step: all settings are checked, and nothing is written.

    Attributes:
        config: the recipe; of a resumed run the recorded one.
        recorded: state of the run being resumed; empty for a new run.
        division: the images that are held out of a data set without val or test.
        chosen: the method's options that follow from the data; of a new run.
    """

    config: TrainConfig
    folder: RunDir
    fabric: Fabric
    threads: int
    spec: ModelSpec
    dataset: DetectionDataset
    val: Split
    recorded: State
    division: Division | None
    chosen: Mapping[str, int]


def prepare(config: TrainConfig, folder: RunDir, resumed: bool) -> Plan:
    """Check a recipe, open its data and join the other processes.

    Args:
        folder: of the run; locked where the run is resumed.

    Raises:
        BadInput, CannotRun: see :func:`train`.
    """
    here = this_process()
    recorded: State = {}
    begun: ModelSpec | None = None
    if resumed:
        last = _resumable(folder)
        if here.rank == 0:
            folder.lock()  # before the state is read, which another process may be about to write
        checkpoint = load_checkpoint(last)
        recorded, begun = checkpoint.training, checkpoint.spec
        for name in ("config", "counters", "budget", "threads", "processes"):
            require_plain(recorded.get(name), f"{last}: {name}")
        recipe = recorded.get("config")
        if not isinstance(recipe, dict) or not all(isinstance(name, str) for name in recipe):
            raise BadInput(f"{last}: holds no run that can go on; it is a checkpoint of finished training, or damaged")
        kept = {name: getattr(config, name) for name in PLACE_FLAGS}
        if config.data != AS_RECORDED:  # the same data set at another place
            kept["data"] = config.data
        # The precision is recorded as it was, whatever machine the run goes on: auto is of runs that were all bf16.
        if recipe.get("precision") == "auto":
            kept["precision"] = "bf16"
        config = make_config({**recipe, **kept}, where=str(folder.last))
    # Names first: they need no work.
    architecture(config.model, config.network)
    make_method(config.method, 1, config.options)
    augment = make_augment(config.augment)
    require_logger(config.logger)
    if not resumed and here.rank == 0:
        folder.require_free(config.exist_ok)
    fabric = make_fabric(config)
    config = replace(config, precision=training_precision(config.precision, fabric.device))
    # The data too, before the trial of threads: what is wrong with it is reported at once.
    division = hold_out(config) if begun is None else Division.of(begun.held_out)
    train_split, val = load_data(config, division)
    spec = make_spec(config, train_split, val, division)
    chosen = options_for(config, train_split, spec.input) if begun is None else {}
    config = replace(config, options={**config.options, **chosen})
    _require_same_data(spec)
    if begun is not None:
        _require_data_of(begun, spec, config.data)
        origin = {name: begun.parents[name] for name in RECORDED if name in begun.parents}
        spec = replace(spec, parents={**spec.parents, **origin})
    if resumed and recorded.get("processes", 1) == here.world_size:
        threads, why = read_value(int, recorded.get("threads"), f"{folder.last}: threads"), "as recorded"
        if not 1 <= threads <= _MOST_THREADS:
            raise BadInput(f"{folder.last}: threads {threads}: expected 1 to {_MOST_THREADS}")
    else:
        threads, why = choose_threads(config.threads, here.local_size)
    torch.set_num_threads(threads)
    say(f"threads: {threads} ({why})" + (f"; {here.world_size} processes" if here.world_size > 1 else ""))
    dataset = DetectionDataset(
        train_split,
        spec.input,
        augment=augment,
        seed=config.seed,
        cache=config.cache,
        cache_dir=folder.path / "cache",
        augment_on=config.augment_on,
    )
    if config.repeat_threshold:
        say(describe_repeats(train_split, config.repeat_threshold))
    return Plan(config, folder, fabric, threads, spec, dataset, val, recorded, division, chosen)


def _require_same_data(spec: ModelSpec) -> None:
    """Raises BadInput where the machines hold different data sets."""
    digests = gather((spec.parents["data_digest"], spec.parents["val_digest"]))
    if len(set(digests)) > 1:
        other = next(rank for rank, digest in enumerate(digests) if digest != digests[0])
        raise BadInput(f"--data: process {other} reads another data set there than process 0; copy it to all machines")


def _require_data_of(begun: ModelSpec, spec: ModelSpec, data: str) -> None:
    """Raises BadInput where the splits are not those that a run began with."""
    if begun.categories != spec.categories:
        was, now = ([f"{c.id} {c.name}" for c in one.categories] for one in (begun, spec))
        raise BadInput(
            f"--resume: the classes of {data} are not those that the run began with: {', '.join(was):.300} then, "
            f"{', '.join(now):.300} now; restore the data set, or begin a new run"
        )
    for digest, split in (("data_digest", "training"), ("val_digest", "validation")):
        # Runs of an earlier aweigh did not record the validation split.
        if begun.parents.get(digest, None if digest == "data_digest" else spec.parents[digest]) != spec.parents[digest]:
            raise BadInput(
                f"--resume: the {split} split of {data} is not what the run began with: other images, another order "
                "or other annotations; restore the data set, or begin a new run. A data set that was moved as it is: "
                "--data"
            )


def _resumable(folder: RunDir) -> Path:
    if not folder.last.is_file():
        raise BadInput(f"--resume: {folder.last} is not there; name the run with --project and --name")
    return folder.last
