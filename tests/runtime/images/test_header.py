"""Headers that are meant to deceive: a file's size is what its decoder will give, or the file is refused."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hostile import HUGE, lying_jpegs, lying_tiffs, many_scans, small_picture
from PIL import Image

from aweigh.runtime.errors import TooLarge, Undecodable
from aweigh.runtime.images.header import read_header
from aweigh.runtime.images.reading import read_image

LIMIT = 1_000_000


@pytest.mark.parametrize("name", sorted(lying_jpegs()))
def test_a_jpeg_that_hides_its_size_behind_a_marker(name: str) -> None:
    """TEM and the restart markers have no length; a reader that gives them one looks past the true size."""
    data = lying_jpegs()[name]
    with pytest.raises((TooLarge, Undecodable)):
        read_image(data, max_pixels=LIMIT)
    header = read_header(data)
    assert header is not None
    assert header.fault or (header.width, header.height) == (HUGE, HUGE)


@pytest.mark.parametrize("name", sorted(lying_tiffs()))
def test_a_tiff_that_states_several_sizes(name: str) -> None:
    """Decoders differ in which of the tags they take, and in the types that they know; one number each is read."""
    with pytest.raises((TooLarge, Undecodable), match=r"whole number each|tiles of|the limit is"):
        read_image(lying_tiffs()[name], max_pixels=LIMIT)


def test_a_file_whose_image_has_another_size_than_its_header(tmp_path: Path) -> None:
    """The canvas of an extended WebP, made larger than the image in it."""
    buffer = io.BytesIO()
    small_picture().convert("RGBA").save(buffer, "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0")
    data = bytearray(buffer.getvalue())
    assert data[12:16] == b"VP8X"
    data[24:27] = (99).to_bytes(3, "little")
    path = tmp_path / "canvas.webp"
    path.write_bytes(data)
    with pytest.raises(Undecodable, match=r"canvas\.webp"):
        read_image(path)


@pytest.mark.parametrize("hide", [False, True], ids=["plain", "end marker within a comment"])
def test_scans_are_bounded(hide: bool) -> None:
    with pytest.raises(Undecodable, match="more than 100 scans"):
        read_image(many_scans(200, hide_end=hide))
    assert read_image(many_scans(20, hide_end=hide)).shape == (64, 64, 3)


def test_bytes_behind_a_progressive_jpeg_are_no_scans() -> None:
    """As in photographs with a film behind them."""
    buffer = io.BytesIO()
    small_picture().save(buffer, "JPEG", progressive=True)
    assert read_image(buffer.getvalue() + b"\xff\xda\0\x08" * 5000).shape == (40, 60, 3)


def test_the_first_valid_orientation_counts() -> None:
    """Of several EXIF blocks, one damaged, one of an orientation that does not exist."""

    def block(orientation: int) -> bytes:
        exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHHI", 0x112, 3, 1, orientation, 0, 0)
        return b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif

    buffer = io.BytesIO()
    small_picture().save(buffer, "JPEG")
    damaged = b"\xff\xe1\0\x0cExif\0\0II*\0"
    data = b"\xff\xd8" + damaged + block(9) + block(6) + block(3) + buffer.getvalue()[2:]
    header = read_header(data)
    assert header is not None
    assert header.orientation == 6
    plain = read_image(buffer.getvalue())
    assert np.array_equal(read_image(data), np.rot90(plain, -1))


def test_big_tiff_is_refused_by_name() -> None:
    with pytest.raises(Undecodable, match="BigTIFF"):
        read_image(b"II+\0\x08\0\0\0" + bytes(200))


def test_a_png_begins_with_its_size() -> None:
    buffer = io.BytesIO()
    small_picture().save(buffer, "PNG")
    data = buffer.getvalue()
    text = b"\0\0\0\x0dtEXt" + bytes(13 + 4)
    assert read_header(data) is not None
    assert read_header(data[:8] + text + data[8:]) is None


@pytest.mark.parametrize("kind", ["EXIF", "tags"])
def test_endless_tags_take_no_time(kind: str) -> None:
    tags = b"II*\0\x08\0\0\0" + struct.pack("<H", 65535) + bytes(12) * 5000
    blocks = b"".join(b"\xff\xe1" + struct.pack(">H", len(tags) + 8) + b"Exif\0\0" + tags for _ in range(200))
    data = b"\xff\xd8" + blocks if kind == "EXIF" else tags + bytes(12 * 65535)
    begin = time.process_time()
    assert read_header(data) is None
    assert time.process_time() - begin < 5


def test_transparency_is_composited_in_strips() -> None:
    """Beside the result, three bytes a pixel, no copy of the image is made."""
    rgba = np.zeros((1000, 2000, 4), np.uint16)
    rgba[..., 3] = 32768
    tracemalloc.start()
    image = read_image(rgba)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert image.nbytes <= peak < image.nbytes + 6e6
    assert (image == 127).all()


def test_the_decoder_agrees_for_every_orientation_of_a_tiff() -> None:
    for orientation in range(1, 9):
        buffer = io.BytesIO()
        Image.new("RGB", (6, 4)).save(buffer, "TIFF", tiffinfo={0x112: orientation})
        assert read_image(buffer.getvalue()).shape == ((4, 6, 3) if orientation < 5 else (6, 4, 3))
