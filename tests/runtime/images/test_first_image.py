"""Animations and files of several pages: the decoder gets the first image alone."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hostile import animated_png, encoded, small_picture
from PIL import Image, ImageSequence

from aweigh.runtime.errors import Undecodable
from aweigh.runtime.images.first_image import first_image
from aweigh.runtime.images.header import Format
from aweigh.runtime.images.reading import read_image

KINDS: tuple[tuple[Format, str, dict[str, Any]], ...] = (
    ("PNG", "PNG", {}),
    ("GIF", "GIF", {}),
    ("WebP", "WEBP", {"lossless": True}),
    ("TIFF", "TIFF", {}),
)


def several(kind: str, **options: Any) -> bytes:
    others = [small_picture().rotate(9 * (i + 1)) for i in range(3)]
    return encoded(small_picture(), kind, save_all=True, append_images=others, **options)


@pytest.mark.parametrize(("kind", "pil", "options"), KINDS)
def test_the_first_of_several(kind: Format, pil: str, options: dict[str, Any]) -> None:
    data = several(pil, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert len(list(ImageSequence.Iterator(image))) == 4
    first = first_image(data, kind)
    assert first is not None
    assert kind == "TIFF" or len(first) < len(data) * 0.6
    with Image.open(io.BytesIO(first)) as image:
        assert len(list(ImageSequence.Iterator(image))) == 1
    expected = np.asarray(small_picture())
    assert np.abs(read_image(data).astype(int) - expected).max() <= (40 if kind == "GIF" else 0)
    assert np.array_equal(read_image(data), read_image(first))


@pytest.mark.parametrize(("kind", "pil", "options"), KINDS[1:3])
def test_damage_behind_the_first_does_no_harm(kind: Format, pil: str, options: dict[str, Any]) -> None:
    data = several(pil, **options)
    first = first_image(data, kind)
    assert first is not None
    end = len(first) + 40
    damaged = data[:end] + np.random.default_rng(0).bytes(len(data) - end)
    assert np.array_equal(read_image(damaged), read_image(data))


def test_a_damaged_animation_is_refused() -> None:
    """Given to OpenCV whole, such files end the process."""
    assert read_image(animated_png()).shape == (40, 60, 3)
    with pytest.raises(Undecodable, match="corrupt or unsupported PNG"):
        read_image(animated_png(damage_first=True))


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "TIFF", "WEBP"])
def test_files_of_one_image_are_not_copied(kind: str) -> None:
    data = encoded(small_picture(), kind)
    assert first_image(data, "WebP" if kind == "WEBP" else kind) is data  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WebP", "TIFF"])
def test_cut_anywhere(kind: Format) -> None:
    """Refused, or whole enough for a first image; nothing else escapes."""
    data = several("WEBP" if kind == "WebP" else kind)
    for length in range(40, len(data), 97):
        first = first_image(data[:length], kind)
        assert first is None or len(first) <= length
