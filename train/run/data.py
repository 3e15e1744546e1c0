"""From a recipe to the data of a run: splits, augmentation, input size, and the contract of the model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import placement
from aweigh.runtime.spec import InputSpec, ModelSpec
from aweigh.runtime.values import build
from aweigh.train.config import TrainConfig
from aweigh.train.data.division import Division, Shares
from aweigh.train.data.loading.augment import Augment
from aweigh.train.data.open import divide, load_split
from aweigh.train.data.records import Split, summary
from aweigh.train.methods import make_method, method_class
from aweigh.train.models.detector import architecture, normalisation
from aweigh.train.models.fpn import FPN
from aweigh.train.process.console import say
from aweigh.train.tracking.folder import commit, versions


def make_augment(options: dict[str, Any]) -> Augment:
    """The augmentation of a recipe. Raises BadInput for an unknown option or a value out of range."""
    return build(Augment, options, "augment", coerce=True, noun="options")


def hold_out(config: TrainConfig) -> Division | None:
    """What ``val_share`` and ``test_share`` of a recipe take from its data; None where they are 0."""
    shares = Shares(config.val_share, config.test_share, config.split_seed)
    return divide(config.data, shares, config.faulty, config.outside_images)


def load_data(config: TrainConfig, division: Division | None = None) -> tuple[Split, Split]:
    """The training and the validation split; faults of their annotations are printed on stderr.

    Args:
        division: see :func:`hold_out`.

    Raises:
        BadInput: as :func:`~aweigh.train.data.open.load_split`; a split without images, different categories in the
            two, or no annotated object in the training split.
    """
    splits = []
    for name in ("train", "val"):
        split = load_split(config.data, name, config.faulty, division=division, outside_images=config.outside_images)
        for line in summary((*split.faults, *split.notes)):
            say(f"{name}: {line}")
        unlabelled = sum(note.kind == "no-label-file" for note in split.notes)
        if unlabelled:
            say(f"{name}: {unlabelled} of {len(split.records)} images have no label file")
        if not split.records:
            raise BadInput(f"--data {config.data}: split {name!r} has no usable image")
        splits.append(split)
    train_split, val = splits
    train_split.require_same_categories(val)
    if not any(len(record.labels) for record in train_split.records):
        raise BadInput(f"--data {config.data}: no object is annotated in the training split")
    return train_split, val


def object_sizes(split: Split, input_spec: InputSpec) -> npt.NDArray[np.float64]:
    """[N, 2] width and height of the objects to be learned, in pixels of the network input."""
    sizes = [np.zeros((0, 2))]
    for record in split.records:
        boxes = placement(record.size_hw, input_spec).map(record.boxes_xyxy[record.targets])
        sizes.append((boxes[:, 2:] - boxes[:, :2]).astype(np.float64))
    return np.concatenate(sizes)


def options_for(config: TrainConfig, split: Split, input_spec: InputSpec) -> Mapping[str, int]:
    """The options of a recipe's method that follow from the training split's boxes; why is printed."""
    sizes_px = object_sizes(split, input_spec)
    chosen = method_class(config.method).options_for(sizes_px, FPN.strides, config.options)
    if chosen.options:
        say(f"{config.method}: {chosen.why}; options of a recipe set another")
    return chosen.options


def class_list(split: Split, most: int = 20) -> str:
    """One line: the classes of a split in label order, each with its number in the data set and its objects.

    Args:
        most: how many are named; of the others only the count.
    """
    counts = Counter(label for record in split.records for label in record.labels[record.targets].tolist())
    named = [f"{c.id} {c.name} ({counts[label]})" for label, c in enumerate(split.categories[:most])]
    rest = len(split.categories) - len(named)
    more = f", and {rest} more" if rest else ""
    return f"classes (objects in {split.name}): {', '.join(named)}{more}"


def images_by_split(config: TrainConfig, division: Division) -> dict[str, list[str]]:
    """For people: the image files of each split that a division makes."""
    splits = {
        name: load_split(config.data, name, division=division, outside_images=config.outside_images)
        for name in division.names()
    }
    return {name: [str(record.path) for record in split.records] for name, split in splits.items()}


def make_spec(
    config: TrainConfig, split: Split, val: Split | None = None, division: Division | None = None
) -> ModelSpec:
    """The contract of the model to be trained on ``split`` and validated on ``val``, with a record of the division.

    Raises BadInput where the sides of the input do not fit the network.
    """
    parents = {"data_digest": split.digest()} | ({} if val is None else {"val_digest": val.digest()})
    network = architecture(config.model, config.network)
    size_hw: tuple[int, int] = config.imgsz or auto_size(split, network.imgsz)
    mean, std = normalisation(network)
    multiple = InputSpec(size_hw).pad_multiple
    if config.resize == "keep-ratio":  # bounds of the shorter and the longer side; inputs of many sizes
        size_hw = min(size_hw), max(size_hw)
    elif any(side % multiple for side in size_hw):
        raise BadInput(f"--imgsz {config.imgsz}: sides must be multiples of {multiple}")
    return ModelSpec(
        method=config.method,
        architecture=config.model,
        categories=split.categories,
        input=InputSpec(
            size_hw,
            resize=config.resize,
            dynamic_size=config.resize == "keep-ratio",
            mean=mean,
            std=std,
        ),
        post=make_method(config.method, len(split.categories), config.options).post(),
        batch=(1, 65535),
        parents=parents | {"commit": commit()},
        versions=versions(),
        held_out={} if division is None else division.record(),
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
