"""``--batch auto``: the largest batch whose training step fits into memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.machine.facts import free_memory_bytes
from aweigh.train.config import TrainConfig
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.loading.loader import training_loader
from aweigh.train.loop.learner import Learner
from aweigh.train.process.console import say

MOST_IMAGES = 16  # the papers' batch: the learning rate was made for no larger one
_CPU_SHARE, _CUDA_SHARE = 0.7, 0.9
# What a backward pass holds at its peak, in terms of what the forward pass kept: gradients of the widest maps come on
# top, and buffers of the convolutions.
_PEAK = 1.6


@dataclass(frozen=True)
class Chosen:
    """A batch size, and why."""

    batch: int
    why: str


def choose_batch(step: Callable[[int], object], device: torch.device, images: int) -> Chosen:
    """The largest power of two, up to 16 and to the images of the split, whose training step fits into memory.

    On a GPU by trying, largest first, until a step stays below 90 % of its memory. On the CPU by counting what
    autograd keeps of steps with one and with two images: other programs share that memory, and exhausting it would
    end them too.

    Args:
        step: does a training step with so many images; the caller undoes its effect.
        images: of the training split.

    Raises:
        CannotRun: not even one image fits.
    """
    sizes = [size for size in (MOST_IMAGES, 8, 4, 2) if size <= images] + [1]
    return _by_trying(step, device, sizes) if device.type == "cuda" else _by_counting(step, sizes)


def _by_counting(step: Callable[[int], object], sizes: list[int]) -> Chosen:
    room = free_memory_bytes() * _CPU_SHARE
    one = _kept_bytes(lambda: step(1))
    each = max(1, _kept_bytes(lambda: step(2)) - one)
    for size in sizes:
        needed = _PEAK * (one + (size - 1) * each)
        if needed <= room:
            why = f"a step with {size} takes about {needed / 1e9:.2f} GB, {room / 1e9:.2f} GB are free"
            return Chosen(size, f"{why}{_limit(size, sizes)}")
    raise CannotRun(
        f"--batch auto: a training step with one image takes about {_PEAK * one / 1e9:.2f} GB, "
        f"{room / 1e9:.2f} GB are free; take a smaller --imgsz or --model, or end other programs"
    )


def _by_trying(step: Callable[[int], object], device: torch.device, sizes: list[int]) -> Chosen:
    total = torch.cuda.get_device_properties(device).total_memory
    tried = []
    for size in sizes:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        try:
            step(size)
        except torch.OutOfMemoryError:
            tried.append(f"{size} did not fit")
            continue
        peak = torch.cuda.max_memory_reserved(device)
        if peak <= _CUDA_SHARE * total:
            why = f"a step with {size} took {peak / 1e9:.2f} of {total / 1e9:.2f} GB"
            return Chosen(size, "; ".join([*tried, why]) + _limit(size, sizes))
        tried.append(f"{size} took {peak / 1e9:.2f} GB")
    raise CannotRun(
        f"--batch auto: {'; '.join(tried)} on {device} with {total / 1e9:.2f} GB; take a smaller --imgsz or --model"
    )


def _limit(size: int, sizes: list[int]) -> str:
    if size != sizes[0]:
        return ""
    return "; more is not tried" if size == MOST_IMAGES else "; the split has fewer than twice as many images"


def _kept_bytes(run: Callable[[], object]) -> int:
    """Bytes that autograd keeps for the backward pass, each storage once."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run()
    return sum(storages.values())


def with_batch(config: TrainConfig, learner: Learner, dataset: DetectionDataset) -> TrainConfig:
    """The recipe with a batch size: chosen where the recipe leaves it open. The learner is as before.

    Raises:
        BadInput: several processes.
        CannotRun: as :func:`choose_batch`.
    """
    if config.batch:
        return config
    if learner.fabric.world_size > 1:
        raise BadInput(f"--batch auto needs one process; name the batch that {learner.fabric.world_size} share")

    def step(images: int) -> None:
        try:
            loader = training_loader(dataset, images, seed=config.seed, device=learner.fabric.device)
            with closing(iter(loader)) as batches:
                learner.rehearse(next(batches))
        finally:
            learner.optimizer.zero_grad(set_to_none=True)

    with learner.trial():
        chosen = choose_batch(step, learner.fabric.device, len(dataset))
    say(f"batch: {chosen.batch} ({chosen.why})")
    return dataclasses.replace(config, batch=chosen.batch)
