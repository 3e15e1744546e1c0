"""Images as the network wants them: augmented for training, prepared for evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import Placement, prepare
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.loading.augment import Augment, Variant, augment, choose
from aweigh.train.data.loading.cache import CacheKind, ImageCache
from aweigh.train.data.loading.device_pixels import require_linear
from aweigh.train.data.records import Split, read_record

_AUGMENT_STREAM = 1  # keeps these random numbers apart from the ones that order the images


@dataclass(frozen=True)
class Sample:
    """One training image; N targets.

    Attributes:
        image_u8: [h, w, 3] RGB, the network input; with ``variant`` the part of the image that it is to be made of.
        boxes_xyxy: [N, 4] float32, pixels of the network input.
        labels: [N] int64.
        record_index: position in Split.records.
        variant: how the training device makes the network input; None where it is made.
    """

    image_u8: npt.NDArray[np.uint8]
    boxes_xyxy: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    record_index: int
    variant: Variant | None = None


@dataclass(frozen=True)
class Prepared:
    """One evaluation image: ``image_u8`` [h, w, 3] RGB, and where the original lies in it."""

    image_u8: npt.NDArray[np.uint8]
    placement: Placement
    record_index: int


class DetectionDataset(Dataset[Sample]):
    """Training images of a split.

    The key of an item is (epoch, record index), and its randomness depends only on (seed, epoch, record index), not on
    the process that loads it, nor on what was loaded before. Crowd regions and difficult objects are no targets.
    """

    def __init__(
        self,
        split: Split,
        input_spec: InputSpec,
        augment: Augment | None = None,
        seed: int = 0,
        cache: CacheKind = "none",
        cache_dir: Path | None = None,
        augment_on: Literal["host", "device"] = "host",
    ) -> None:
        """Fill the cache, if any.

        Args:
            augment: None gives each image as ``prepare`` does.
            cache: ``ram`` and ``disk`` keep the decoded images (height x width x 3 bytes each); the items are the
                same with and without.
            cache_dir: where the file of ``disk`` lies.
            augment_on: ``device`` leaves the pixels to the training device: all random numbers are drawn here.

        Raises:
            BadInput: a negative seed; sizes that vary without keep-ratio; with a cache, an image that cannot be
                decoded; pixels left to the device without an augmentation, or with another interpolation than linear.
            CannotRun: the cache does not fit.
        """
        if seed < 0:
            raise BadInput(f"seed {seed}: expected an integer from 0")
        if augment is not None:
            augment.largest(input_spec)
        self.leaves_pixels = augment_on == "device"
        if self.leaves_pixels:
            require_linear(input_spec)
            if augment is None:
                raise BadInput("augment_on device: expected an augmentation, got None; take augment_on host")
        self.split = split
        self.input_spec = input_spec
        self._augment = augment
        self._seed = seed
        self._cache = None if cache == "none" else ImageCache(split.records, cache, cache_dir)

    def __len__(self) -> int:
        return len(self.split.records)

    @property
    def largest_spec(self) -> InputSpec:
        """``input_spec`` with the largest size that the augmentation may choose."""
        return self.input_spec if self._augment is None else self._augment.largest(self.input_spec)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The item of (epoch, record index). Raises BadInput where the image is gone or broken by now."""
        epoch, index = key
        record = self.split.records[index]
        image = read_record(record) if self._cache is None else self._cache[index]
        boxes_xyxy, labels = record.boxes_xyxy[record.targets], record.labels[record.targets]
        if self._augment is None:
            canvas, where = prepare(image, self.input_spec)
            boxes_xyxy = where.map(boxes_xyxy)
        else:
            rng = np.random.default_rng([_AUGMENT_STREAM, self._seed, epoch, index])
            if self.leaves_pixels:
                size_hw = (image.shape[0], image.shape[1])
                variant, boxes_xyxy, kept = choose(size_hw, boxes_xyxy, rng, self.input_spec, self._augment)
                return Sample(variant.window(image), boxes_xyxy, labels[kept], index, variant)
            canvas, boxes_xyxy, labels = augment(image, boxes_xyxy, labels, rng, self.input_spec, self._augment)
        return Sample(canvas, boxes_xyxy, labels, index)


class EvaluationDataset(Dataset[Prepared]):
    """Images of a split as the runtime will prepare them; an item is asked for by its record index."""

    def __init__(self, split: Split, input_spec: InputSpec) -> None:
        self.split = split
        self.input_spec = input_spec

    def __len__(self) -> int:
        return len(self.split.records)

    def __getitem__(self, index: int) -> Prepared:
        """Raises BadInput where the image is gone or broken by now."""
        canvas, where = prepare(read_record(self.split.records[index]), self.input_spec)
        return Prepared(canvas, where, index)
