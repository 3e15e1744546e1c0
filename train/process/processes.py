"""The processes that train together: the rank of this one, and what they exchange.

torchrun, or ``aweigh train --devices N`` (:mod:`aweigh.train.run.launch`), starts them and numbers them in the
environment; without it there is one.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from aweigh.runtime.errors import BadInput, CannotRun

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor, nn

    from aweigh.train.config import TrainConfig

T = TypeVar("T")

# What gloo and NCCL say when another process is gone or silent; both raise a plain RuntimeError at times.
_LOST = re.compile(r"gloo|nccl|Connection (closed|reset)|Broken pipe|Timed out|timed out|ProcessGroup", re.IGNORECASE)


@dataclass(frozen=True)
class Process:
    """This process among those that train together.

    Attributes:
        rank, world_size: among all.
        local_rank, local_size: among those of this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_size: int = 1


SINGLE = Process()


def this_process() -> Process:
    """This process, from torchrun's environment. Raises BadInput where machines have different numbers of processes."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return SINGLE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    here = Process(*(int(os.environ[name]) for name in names))
    if here.world_size % here.local_size:
        raise BadInput(
            f"{here.world_size} processes in all and {here.local_size} on this machine: start as many on each "
            "(--nproc-per-node)"
        )
    return here


def make_fabric(config: TrainConfig) -> Fabric:
    """Device and precision of the recipe, and, where there are several processes, their group.

    Raises:
        BadInput, CannotRun: see :func:`aweigh.train.process.device.resolve_device`; ``devices`` differs from what
            torchrun started.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import TorchElasticEnvironment
    from lightning_fabric.strategies import DDPStrategy
    from torch.nn.parallel import DistributedDataParallel

    from aweigh.train.process.device import resolve_device, training_precision

    here = this_process()
    if config.devices not in (1, here.local_size):
        raise BadInput(f"--devices {config.devices}: torchrun started {here.local_size} processes on this machine")
    device = resolve_device(config.device, here.local_rank, here.local_size)
    precision = "32-true" if training_precision(config.precision, device) == "fp32" else "bf16-mixed"
    # Fabric logs device and precision, which a line of the run says already.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if here.world_size == 1:
        return Fabric(
            accelerator=device.type, devices=[device.index] if device.type == "cuda" else 1, precision=precision
        )
    # Each process' BatchNorm keeps its own running statistics; the loop averages them before they are used.
    named = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in named else "broadcast_buffers"  # until torch 2.12
    strategy = DDPStrategy(timeout=timedelta(seconds=config.wait_seconds), **{buffers: False})
    fabric = Fabric(
        accelerator=device.type,
        devices=here.local_size,
        num_nodes=here.world_size // here.local_size,
        strategy=strategy,
        precision=precision,
        plugins=[TorchElasticEnvironment()],
    )
    fabric.launch()
    return fabric


def gather(value: T) -> list[T]:
    """The values of all processes, by rank; on every process."""
    import torch.distributed as dist

    if not dist.is_initialized():
        return [value]
    values: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def any_process(fabric: Fabric, *wishes: bool) -> list[bool]:
    """For each wish, whether any process has it."""
    import torch

    if fabric.world_size == 1:  # a GPU would be waited for twice
        return list(wishes)
    counted = torch.tensor(wishes, dtype=torch.float32, device=fabric.device)
    return [bool(count) for count in fabric.all_reduce(counted, reduce_op="sum").tolist()]


def mean_statistics(fabric: Fabric, module: nn.Module, average: Mapping[str, Tensor]) -> None:
    """Make BatchNorm's running statistics, and their ``average``, the mean of those of all processes, in place."""
    if fabric.world_size == 1:
        return
    buffers = dict(module.named_buffers())
    for name, buffer in module.state_dict().items():
        if name in buffers and buffer.is_floating_point():
            for tensor in (buffer, average[name]):
                tensor.copy_(fabric.all_reduce(tensor.clone(), reduce_op="mean"))


@contextmanager
def together() -> Iterator[None]:
    """Leave the group of processes at the end of the block, and report a process that was lost within.

    Raises:
        CannotRun: another process is gone, or gave no sign of life for ``--wait-seconds``.
    """
    import torch.distributed as dist

    try:
        yield
    except RuntimeError as error:
        here = this_process()
        if here.world_size == 1 or not (isinstance(error, dist.DistError) or _LOST.search(str(error))):
            raise
        raise CannotRun(
            f"process {here.rank} of {here.world_size}: lost contact with the others ({_first_line(error)}). One "
            "of them died, its machine cannot be reached, or it needed more than --wait-seconds; go on with --resume, "
            "on any number of processes"
        ) from error
    if dist.is_initialized():
        dist.destroy_process_group()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip()
