"""Network: what turns a batch of prepared images into the graph's outputs, whichever library computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from aweigh.runtime.spec import ModelSpec

ImagesU8: TypeAlias = npt.NDArray[np.uint8]
Outputs: TypeAlias = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class DeviceBatch:
    """A batch of prepared images in the memory of the device.

    Attributes:
        shape: (B, H, W, 3), RGB uint8 as ``ImagesU8``.
        address: of the first byte; rows follow each other without gaps.
        owner: what the memory belongs to, kept alive with this object.
    """

    shape: tuple[int, ...]
    address: int
    owner: Any

    def __len__(self) -> int:
        return self.shape[0]


class Network(Protocol):
    """An opened model file, or a trained model in torch."""

    @property
    def spec(self) -> ModelSpec:
        """The contract: what goes in and what comes out."""

    def infer(self, images_u8: ImagesU8) -> Outputs:
        """The outputs of ``PostSpec.outputs`` by name, each with the batch as its first axis.

        Args:
            images_u8: [B, H, W, 3] RGB as ``preprocess.prepare`` gives it, B within ``spec.batch``.
        """

    def close(self) -> None:
        """Free memory and device; a second call does nothing."""


def fill_batch(images_u8: ImagesU8, spec: ModelSpec, count: int | None = None) -> ImagesU8:
    """A batch that the file takes: one below the smallest is filled up with images of the padding's grey level.

    The filling is computed like every other row; ignore its rows in the outputs.

    Args:
        images_u8: [B, H, W, 3].
        spec: of the file; ``batch`` and ``input.pad_value`` are read.
        count: how many of the rows are images; those behind are room, which may be overwritten. By default all are.

    Returns:
        [max(count, spec.batch[0]), H, W, 3]; a view of ``images_u8`` where it has the room.

    Example:
        >>> from aweigh.runtime.spec import InputSpec, PostSpec
        >>> spec = ModelSpec("fcos", "r18", (), InputSpec((32, 32), pad_value=114), PostSpec("none"), batch=(4, 8))
        >>> filled = fill_batch(np.zeros((3, 32, 32, 3), np.uint8), spec)
        >>> filled.shape, filled[:, 0, 0, 0].tolist()
        ((4, 32, 32, 3), [0, 0, 0, 114])
    """
    count = len(images_u8) if count is None else count
    rows = max(count, spec.batch[0])
    if rows > len(images_u8):
        room = np.empty((rows - count, *images_u8.shape[1:]), np.uint8)
        images_u8 = np.concatenate((images_u8[:count], room))
    if rows > count:
        images_u8[count:rows] = spec.input.pad_value
    return images_u8[:rows]
