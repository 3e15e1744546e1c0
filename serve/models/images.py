"""From the bytes of a picture file to a row of a batch."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import Placement, prepare
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.spec import InputSpec
from aweigh.serve.problem import from_error


@dataclass(frozen=True, eq=False)
class PreparedPicture:
    """The network input [H, W, 3], where the picture lies in it, and what that took."""

    image_u8: npt.NDArray[np.uint8]
    where: Placement
    decode_ms: float
    preprocess_ms: float


def prepare_picture(picture: bytes, spec: InputSpec, max_pixels: int) -> PreparedPicture:
    """Decode and resize a client's picture; nothing of its full size is left afterwards.

    Raises:
        Problem: 415 not an image, 413 more than ``max_pixels`` by its header, 422 cut off or corrupt.
    """
    start = time.perf_counter()
    try:
        image = read_image(picture, name="image", max_pixels=max_pixels)
        decoded = time.perf_counter()
        image_u8, where = prepare(image, spec)
    except BadInput as error:
        raise from_error(error) from error
    return PreparedPicture(image_u8, where, (decoded - start) * 1e3, (time.perf_counter() - decoded) * 1e3)
