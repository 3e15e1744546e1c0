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
from aweigh.train.data.loading.loader import training_loader
from aweigh.train.loop.trainer import Trainer
from aweigh.train.process.console import say

MOST_PICTURES = 16  # the papers' batch: more gains nothing that the learning rate was not made for
_CPU_SHARE, _CUDA_SHARE = 0.7, 0.9
# What a backward pass holds at its peak, in terms of what the forward pass kept: gradients of the widest maps come on
# top, and buffers of the convolutions.
_PEAK = 1.6


@dataclass(frozen=True)
class Chosen:
    """A batch size, and why."""

    batch: int
    why: str


def choose_batch(step: Callable[[int], object], device: torch.device, pictures: int) -> Chosen:
    """The largest power of two up to 16 whose training step fits into memory, and of which the split fills one batch.

    On a GPU by trying, largest first, until a step stays below 90 % of its memory. On the CPU from what autograd keeps
    of steps with one and with two pictures: memory there is shared, and running into its end would take others along.

    Args:
        step: does a training step with so many pictures; the caller undoes what it learnt.
        pictures: of the training split.

    Raises:
        CannotRun: not even one picture fits.
    """
    sizes = [size for size in (MOST_PICTURES, 8, 4, 2) if size <= pictures] + [1]
    return _by_trying(step, device, sizes) if device.type == "cuda" else _by_counting(step, sizes)


def _by_counting(step: Callable[[int], object], sizes: list[int]) -> Chosen:
    room = free_memory_bytes() * _CPU_SHARE
    one = _kept_bytes(lambda: step(1))
    each = max(1, _kept_bytes(lambda: step(2)) - one)
    for size in sizes:
        needed = _PEAK * (one + (size - 1) * each)
        if needed <= room:
            figures = f"a step with {size} takes about {needed / 1e9:.2f} GB, {room / 1e9:.2f} GB are to spare"
            return Chosen(size, f"{figures}{_limit(size, sizes)}")
    raise CannotRun(
        f"--batch auto: a training step with one picture takes about {_PEAK * one / 1e9:.2f} GB, "
        f"{room / 1e9:.2f} GB are to spare; take a smaller --imgsz or --model, or end what else runs"
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
            figures = f"a step with {size} took {peak / 1e9:.2f} of {total / 1e9:.2f} GB"
            return Chosen(size, "; ".join([*tried, figures]) + _limit(size, sizes))
        tried.append(f"{size} took {peak / 1e9:.2f} GB")
    raise CannotRun(
        f"--batch auto: {'; '.join(tried)} on {device} with {total / 1e9:.2f} GB; take a smaller --imgsz or --model"
    )


def _limit(size: int, sizes: list[int]) -> str:
    if size != sizes[0]:
        return ""
    return "; more is not tried" if size == MOST_PICTURES else "; the split has not twice as many pictures"


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


def with_batch(trainer: Trainer, config: TrainConfig) -> TrainConfig:
    """The recipe with a batch size, chosen where it leaves it open; the trainer is as it was before, but for that.

    Raises BadInput for several processes, CannotRun as ``choose_batch`` does.
    """
    if config.batch:
        return config
    if trainer.fabric.world_size > 1:
        raise BadInput(f"--batch auto looks at one process; name the batch that {trainer.fabric.world_size} share")

    def step(pictures: int) -> None:
        try:
            with closing(iter(training_loader(trainer.dataset, pictures, seed=config.seed))) as batches:
                trainer.step(next(batches), 1_000_000)
        finally:
            trainer.optimizer.zero_grad(set_to_none=True)

    with trainer.trial():
        chosen = choose_batch(step, trainer.fabric.device, len(trainer.dataset))
    say(f"batch: {chosen.batch} ({chosen.why})")
    trainer.config = dataclasses.replace(config, batch=chosen.batch)
    return trainer.config
