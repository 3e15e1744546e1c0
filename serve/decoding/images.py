"""From the bytes of an image file to a row of a batch."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aweigh.runtime.images.preprocess import Placement, prepare
from aweigh.runtime.images.reading import ImageU8, read_image
from aweigh.runtime.spec import InputSpec


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """One image, ready for the network.

    Attributes:
        image_u8: the network input [H, W, 3].
        where: where the image lies in it.
        decode_ms, preprocess_ms: what decoding and resizing took.
    """

    image_u8: ImageU8
    where: Placement
    decode_ms: float
    preprocess_ms: float


def prepare_image(data: bytes, spec: InputSpec, max_pixels: int) -> PreparedImage:
    """Decode and resize a client's image; nothing of its full size is kept.

    Args:
        data: an image file.
        max_pixels: width times height, judged by the header before decoding.

    Raises:
        NotAnImage: not an image file.
        TooLarge: more than ``max_pixels``.
        Undecodable: cut off or corrupt.
    """
    start = time.perf_counter()
    image = read_image(data, name="image", max_pixels=max_pixels)
    decoded = time.perf_counter()
    image_u8, where = prepare(image, spec)
    return PreparedImage(image_u8, where, (decoded - start) * 1e3, (time.perf_counter() - decoded) * 1e3)
