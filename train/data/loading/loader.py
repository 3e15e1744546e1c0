"""Batches of a split, loaded by worker processes."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aweigh.runtime.images.preprocess import Placement, placement
from aweigh.runtime.machine.facts import available_cores
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.loading.augment import Variant
from aweigh.train.data.loading.dataset import DetectionDataset, EvaluationDataset, Prepared, Sample
from aweigh.train.data.loading.device_pixels import draw_all
from aweigh.train.data.loading.order import TrainingOrder
from aweigh.train.data.loading.workers import SharedBuffer, load
from aweigh.train.data.records import Split


@dataclass(frozen=True)
class Batch:
    """B training images.

    Attributes:
        images_u8: [B, h, w, 3] RGB; images of several sizes (keep-ratio) are padded at the right and the bottom. In
            the host's memory, unless their pixels were left to the device.
        boxes_xyxy: of each image [Ni, 4] float32, pixels of the network input.
        labels: of each image [Ni] int64.
        record_index: [B] position in Split.records.
        epoch, position: which batch this is; the next one is (epoch, position + 1).
    """

    images_u8: Tensor
    boxes_xyxy: list[Tensor]
    labels: list[Tensor]
    record_index: Tensor
    epoch: int
    position: int

    def parts(self, count: int) -> list[Batch]:
        """The batch in ``count`` parts, as even as can be; fewer where it has fewer images."""
        sizes = [len(rows) for rows in torch.arange(len(self.images_u8)).tensor_split(count) if len(rows)]
        ends = np.cumsum(sizes)
        return [
            replace(
                self,
                images_u8=self.images_u8[end - size : end],
                boxes_xyxy=self.boxes_xyxy[end - size : end],
                labels=self.labels[end - size : end],
                record_index=self.record_index[end - size : end],
            )
            for size, end in zip(sizes, ends.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class EvaluationBatch:
    """B prepared images of one size.

    Attributes:
        images_u8: [B, h, w, 3] RGB.
        placements: where each image lies in its network input.
        record_index: [B] position in Split.records.
    """

    images_u8: Tensor
    placements: tuple[Placement, ...]
    record_index: Tensor


@dataclass(frozen=True)
class _Packed:
    """A training batch without its images, as a worker sends it."""

    images_shape: tuple[int, ...]
    boxes_xyxy: npt.NDArray[np.float32]  # [sum Ni, 4]
    labels: npt.NDArray[np.int64]  # [sum Ni]
    counts: list[int]
    record_index: list[int]
    variants: list[Variant]  # of pixels that are left to the device; else empty


# Shape of the images, their placements and record indices.
_PackedEvaluation = tuple[tuple[int, ...], list[Placement], list[int]]


class TrainingLoader:
    """Training batches without end; ``iter`` starts at (start_epoch, start_batch) each time."""

    def __init__(
        self,
        dataset: DetectionDataset,
        order: TrainingOrder,
        start_epoch: int,
        start_batch: int,
        workers: int,
        pin_memory: bool,
        device: torch.device,
    ) -> None:
        self.order = order
        self._dataset = dataset
        self._start = (start_epoch, start_batch)
        self._workers = workers
        self._pin_memory = pin_memory
        self._device = device

    @property
    def batches_per_epoch(self) -> int:
        return self.order.batches_per_epoch

    def __iter__(self) -> Generator[Batch, None, None]:
        """Closing the generator ends the workers."""
        spec, buffer_bytes = self._dataset.largest_spec, self._buffer_bytes()
        pack, unpack = partial(_pack, pad_value=spec.pad_value), partial(_unpack, pin_memory=self._pin_memory)
        batches = self.order.batches(*self._start)
        first = self._start[0] * self.batches_per_epoch + self._start[1]
        stream = load(self._dataset, batches, pack, unpack, buffer_bytes, self._workers)
        for number, (images_u8, packed) in enumerate(stream, start=first):
            if packed.variants:
                images_u8 = draw_all(images_u8, packed.variants, spec, self._device)
            yield Batch(
                images_u8,
                list(torch.split(torch.from_numpy(packed.boxes_xyxy), packed.counts)),
                list(torch.split(torch.from_numpy(packed.labels), packed.counts)),
                torch.tensor(packed.record_index),
                epoch=number // self.batches_per_epoch,
                position=number % self.batches_per_epoch,
            )

    def _buffer_bytes(self) -> int:
        """Of the images of the largest batch: network inputs, or whole images where the device makes those."""
        spec, sizes_hw = self._dataset.largest_spec, {record.size_hw for record in self._dataset.split.records}
        largest = -(-self.order.batch_size // self.order.world_size)
        if self._dataset.leaves_pixels:
            return largest * max(height * width for height, width in sizes_hw) * 3
        inputs_hw = [placement(size_hw, spec).input_hw for size_hw in sizes_hw]
        return largest * max(h for h, _ in inputs_hw) * max(w for _, w in inputs_hw) * 3


class EvaluationLoader:
    """Every image of a split once; of several processes each takes every so many-th batch.

    A batch has images of one prepared size, so that none is padded more than by itself; where sizes differ
    (keep-ratio) the order is by size.
    """

    def __init__(
        self, split: Split, input_spec: InputSpec, batch_size: int, workers: int, rank: int, world_size: int
    ) -> None:
        self._dataset = EvaluationDataset(split, input_spec)
        self._workers = workers
        groups: dict[tuple[int, int], list[int]] = {}
        for index, record in enumerate(split.records):
            groups.setdefault(placement(record.size_hw, input_spec).input_hw, []).append(index)
        self._buffer_bytes = batch_size * max(height * width * 3 for height, width in groups)
        batches = [group[i : i + batch_size] for group in groups.values() for i in range(0, len(group), batch_size)]
        # Whole batches, the same whatever the number of processes: the last digits may depend on a batch's size.
        self._batches = batches[rank::world_size]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Generator[EvaluationBatch, None, None]:
        yield from load(
            self._dataset, self._batches, _pack_evaluation, _unpack_evaluation, self._buffer_bytes, self._workers
        )


def training_loader(
    dataset: DetectionDataset,
    batch_size: int,
    seed: int = 0,
    start_epoch: int = 0,
    start_batch: int = 0,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    repeats: tuple[float, ...] | None = None,
    device: torch.device | None = None,
) -> TrainingLoader:
    """Batches of ``dataset`` in the order of TrainingOrder.

    They depend only on seed, epoch and position, not on ``workers``, nor on where a resumed run starts.

    Args:
        batch_size: images of a step, of all processes together.
        rank, world_size: this process among those; see TrainingOrder.
        start_epoch, start_batch: the first batch yielded.
        workers: processes that load; 0 loads in this one.
        pin_memory: copy the images to page-locked memory (for a CUDA device).
        repeats: how often an epoch shows each image, on average (see TrainingOrder).
        device: that makes the images whose pixels the data set leaves to it; None for the CPU.

    Raises:
        BadInput: a number that makes no sense; while iterating, an image that can no longer be read.

    Example:
        >>> from aweigh.train.data.loading.augment import Augment
        >>> from aweigh.train.data.open import load_split
        >>> dataset = DetectionDataset(load_split(shapes, "train"), InputSpec((64, 64)), Augment(), seed=0)
        >>> batch = next(iter(training_loader(dataset, batch_size=8)))
        >>> tuple(batch.images_u8.shape), len(batch.boxes_xyxy)
        ((8, 64, 64, 3), 8)
    """
    order = TrainingOrder(len(dataset), batch_size, seed, rank, world_size, repeats)
    where = device or torch.device("cpu")
    return TrainingLoader(dataset, order, start_epoch, start_batch, workers, pin_memory, where)


def evaluation_loader(
    split: Split, input_spec: InputSpec, batch_size: int, workers: int = 0, rank: int = 0, world_size: int = 1
) -> EvaluationLoader:
    """Every image of ``split`` once, through ``images.preprocess.prepare`` of the runtime; the share of one process.

    Args:
        batch_size: most images of a batch; all images of a batch have one prepared size.
        workers: processes that load; 0 loads in this one.
        rank, world_size: this process among those that share the split.

    Raises:
        BadInput: while iterating, an image that can no longer be read.

    Example:
        >>> from aweigh.train.data.open import load_split
        >>> batches = evaluation_loader(load_split(shapes, "val"), InputSpec((64, 64)), batch_size=3)
        >>> [len(batch.images_u8) for batch in batches]
        [3, 3, 2]
    """
    return EvaluationLoader(split, input_spec, batch_size, workers, rank, world_size)


def _pack(samples: list[Sample], buffer: SharedBuffer, pad_value: int) -> _Packed:
    images, variants = [sample.image_u8 for sample in samples], [s.variant for s in samples if s.variant is not None]
    return _Packed(
        _write_flat(buffer, images) if variants else _write(buffer, images, pad_value),
        np.concatenate([sample.boxes_xyxy for sample in samples]),
        np.concatenate([sample.labels for sample in samples]),
        [len(sample.labels) for sample in samples],
        [sample.record_index for sample in samples],
        variants,
    )


def _unpack(packed: _Packed, buffer: SharedBuffer, pin_memory: bool) -> tuple[Tensor, _Packed]:
    return _copy_out(buffer, packed.images_shape, pin_memory), packed


def _pack_evaluation(items: list[Prepared], buffer: SharedBuffer) -> _PackedEvaluation:
    shape = _write(buffer, [item.image_u8 for item in items], pad_value=0)  # of one size: nothing is padded
    return shape, [item.placement for item in items], [item.record_index for item in items]


def _unpack_evaluation(packed: _PackedEvaluation, buffer: SharedBuffer) -> EvaluationBatch:
    shape, placements, record_index = packed
    return EvaluationBatch(_copy_out(buffer, shape), tuple(placements), torch.tensor(record_index))


def _write(buffer: SharedBuffer, images: list[npt.NDArray[np.uint8]], pad_value: int) -> tuple[int, ...]:
    """Write images as [B, h, w, 3], h and w the largest there are, and return that shape."""
    # With NumPy: torch copies with its thread pool, which on busy cores took six times as long as all the rest.
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    shape = (len(images), height, width, 3)
    for row, image in zip(_view(buffer, shape), images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
        row[image.shape[0] :] = pad_value
        row[: image.shape[0], image.shape[1] :] = pad_value
    return shape


def _write_flat(buffer: SharedBuffer, images: list[npt.NDArray[np.uint8]]) -> tuple[int, ...]:
    """Write images one after another, and return the shape [sum of their bytes]."""
    end = 0
    for image in images:
        start, end = end, end + image.size
        buffer[start:end].reshape(image.shape)[...] = image
    return (end,)


def _copy_out(buffer: SharedBuffer, shape: tuple[int, ...], pin_memory: bool = False) -> Tensor:
    images_u8 = torch.empty(shape, dtype=torch.uint8, pin_memory=pin_memory)
    images_u8.numpy()[...] = _view(buffer, shape)
    return images_u8


def _view(buffer: SharedBuffer, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return buffer[: math.prod(shape)].reshape(shape)


def loading_processes(wanted: int, trainers: int = 1) -> int:
    """Worker processes of each training process: as asked, or (-1) together half of the cores, at most 8 each."""
    return wanted if wanted >= 0 else max(1, min(8, available_cores() // 2 // trainers))
