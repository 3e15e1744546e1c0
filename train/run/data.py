"""From a recipe to the data of a run: splits, augmentation, input size, and the contract of the model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import InputSpec, ModelSpec
from aweigh.runtime.values import build
from aweigh.train.config import TrainConfig
from aweigh.train.data.loading.augment import Augment
from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split, summary
from aweigh.train.methods import make_method
from aweigh.train.models.detector import architecture
from aweigh.train.process.console import say
from aweigh.train.tracking.folder import commit, versions


def make_augment(options: dict[str, Any]) -> Augment:
    """The augmentation of a recipe. Raises BadInput for an unknown option or a value out of range."""
    return build(Augment, options, "augment", coerce=True, noun="options")


def load_data(config: TrainConfig) -> tuple[Split, Split]:
    """The training and the validation split; faults of their annotations are printed on stderr.

    Raises:
        BadInput: as :func:`~aweigh.train.data.open.load_split`; a split without images, different categories in the
            two, or no annotated object in the training split.
    """
    splits = []
    for name in ("train", "val"):
        split = load_split(config.data, name, faulty=config.faulty)
        for line in summary((*split.faults, *split.notes)):
            say(f"{name}: {line}")
        if split.notes:
            say(f"{name}: {len(split.notes)} of {len(split.records)} images have no label file")
        if not split.records:
            raise BadInput(f"--data {config.data}: split {name!r} has no usable image")
        splits.append(split)
    train_split, val = splits
    train_split.require_same_categories(val)
    if not any(len(record.labels) for record in train_split.records):
        raise BadInput(f"--data {config.data}: no object is annotated in the training split")
    return train_split, val


def make_spec(config: TrainConfig, split: Split) -> ModelSpec:
    """The contract of the model to be trained. Raises BadInput where the sides of the input do not fit the network."""
    size_hw: tuple[int, int] = config.imgsz or auto_size(split, architecture(config.model, config.network).imgsz)
    multiple = InputSpec(size_hw).pad_multiple
    if config.resize == "keep-ratio":  # bounds of the shorter and the longer side; inputs of many sizes
        size_hw = min(size_hw), max(size_hw)
    elif any(side % multiple for side in size_hw):
        raise BadInput(f"--imgsz {config.imgsz}: sides must be multiples of {multiple}")
    return ModelSpec(
        method=config.method,
        architecture=config.model,
        categories=split.categories,
        input=InputSpec(size_hw, resize=config.resize, dynamic_size=config.resize == "keep-ratio"),
        post=make_method(config.method, len(split.categories), config.options).post(),
        batch=(1, 65535),
        parents={"data_digest": split.digest(), "commit": commit()},
        versions=versions(),
    )


def auto_size(split: Split, longer: int) -> tuple[int, int]:
    """Height and width of the network input in pixels, for the median aspect ratio of a split.

    Both are multiples of 32. A data set with both portrait and landscape images gets a square.

    Args:
        longer: pixels of the longer side.
    """
    ratios = np.array([record.size_hw[0] / record.size_hw[1] for record in split.records])
    ratio = float(np.exp(np.median(np.log(ratios))))
    minority = min((ratios > 1.05).mean(), (ratios < 0.95).mean())
    if minority > 0.1:
        ratio = 1.0
    height, width = (longer, longer / ratio) if ratio > 1 else (longer * ratio, longer)
    return max(32, math.ceil(height / 32 - 0.01) * 32), max(32, math.ceil(width / 32 - 0.01) * 32)
