"""The images that int8 is calibrated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import prepare
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.records import Split, read_record, sample
from aweigh.train.process.console import track

# AP on BCCD moved less between 16 and 64 images than between two seeds; more costs 0.3 s each.
CALIBRATION_IMAGES = 64
MISSING = "ranges are measured on images; give --data DIR with a split train"


@dataclass(frozen=True)
class Calibration:
    """Network inputs [H, W, 3] uint8 that ranges are measured on, and where they come from.

    Attributes:
        images_u8: prepared as for the network.
        split: name of the split they were taken from.
        digest: of that split's data.
    """

    images_u8: Sequence[npt.NDArray[np.uint8]]
    split: str
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """What the exported file notes about it."""
        return {
            "method": "min-max",
            "pictures": len(self.images_u8),
            "split": self.split,
            "data_digest": self.digest,
        }


def calibration_images(split: Split, spec: InputSpec, count: int, seed: int | None = None) -> Calibration:
    """``count`` images of a split, prepared as for the network: evenly spaced, or with a seed drawn at random.

    Raises BadInput for an empty split.
    """
    if not split.records:
        raise BadInput(f"split {split.name!r} has no images to calibrate on")
    chosen = sample(split.records, count, seed)
    images = [prepare(read_record(record), spec)[0] for record in track(chosen, "read images", total=len(chosen))]
    return Calibration(images, split.name, split.digest())
