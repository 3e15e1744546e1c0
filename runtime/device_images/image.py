"""DeviceImage: an image in the memory of the device that computes the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class DeviceImage:
    """RGB uint8, row by row.

    Attributes:
        shape: (height, width, 3).
        address: of the first byte.
        stride: bytes from one row to the next, at least three a pixel.
        owner: what the memory belongs to, kept alive with this object.
        copy: gives the image as an array of the host.
    """

    shape: tuple[int, int, int]
    address: int
    stride: int
    owner: Any
    copy: Callable[[], npt.NDArray[np.uint8]]

    def on_host(self) -> npt.NDArray[np.uint8]:
        """[H, W, 3], a copy."""
        return self.copy()
