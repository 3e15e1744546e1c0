"""The batches of a training run."""

from __future__ import annotations

from lightning_fabric import Fabric

from aweigh.train.config import TrainConfig
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.loading.loader import TrainingLoader, loading_processes, training_loader
from aweigh.train.data.loading.repeat import repeat_factors
from aweigh.train.process.processes import this_process


def training_batches(
    config: TrainConfig, dataset: DetectionDataset, fabric: Fabric, epoch: int = 0, batch: int = 0
) -> TrainingLoader:
    """This process's share of the batches of a recipe.

    Args:
        epoch, batch: the first batch, counted from 0.
    """
    threshold = config.repeat_threshold
    return training_loader(
        dataset,
        config.batch,
        seed=config.seed,
        start_epoch=epoch,
        start_batch=batch,
        workers=loading_processes(config.workers, this_process().local_size),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        pin_memory=fabric.device.type == "cuda",  # which fetches from such memory without a stop
        repeats=repeat_factors(dataset.split, threshold) if threshold else None,
        device=fabric.device,
    )
