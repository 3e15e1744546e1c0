"""Which images a receipt compares on, and a file carries for its self-test."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.golden import Golden
from aweigh.runtime.images.preprocess import prepare
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.records import Split, read_record
from aweigh.train.data.shapes import generate_shapes

_SHAPES_PX = (320, 256)  # height, width; another aspect ratio than most inputs, so that padding takes part


def golden_images(spec: InputSpec, count: int, split: Split | None = None, seed: int = 0) -> list[Golden]:
    """``count`` images of the split, evenly spaced and with objects where there are such; generated without a split.

    Where the policy gives inputs of several sizes, those of the first image's size.

    Raises BadInput for a split without images.
    """
    if split is None:
        with tempfile.TemporaryDirectory() as folder:
            root = generate_shapes(Path(folder) / "shapes", train=0, val=count, size_hw=_SHAPES_PX, seed=seed)
            paths = sorted((root / "val").iterdir())
            return [Golden(f"generated {i + 1}", prepare(read_image(path), spec)[0]) for i, path in enumerate(paths)]
    records = [r for r in split.records if len(r.labels)] or list(split.records)
    if not records:
        raise BadInput(f"split {split.name!r} has no images to compare on")
    chosen = [records[i] for i in np.unique(np.linspace(0, len(records) - 1, count).round().astype(int))]
    images = [Golden(r.path.name, prepare(read_record(r), spec)[0]) for r in chosen]
    return [p for p in images if p.image_u8.shape == images[0].image_u8.shape]
