"""The scan must see the size that the decoder will return, without decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hostile import animated_png, encoded
from PIL import Image

from aweigh.runtime.images.reading import read_image
from aweigh.train.data.scan import ImageFacts, scan_images


def picture(mode: str) -> Image.Image:
    rgb = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(rgb[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(rgb).convert(mode)


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        ("jpg", "RGB"),
        ("jpg", "L"),
        ("jpg", "CMYK"),
        ("png", "RGB"),
        ("png", "RGBA"),
        ("png", "L"),
        ("png", "I;16"),
        ("png", "P"),
        ("webp", "RGB"),
        ("webp", "RGBA"),
        ("bmp", "RGB"),
        ("gif", "P"),
        ("tiff", "RGB"),
    ],
)
def test_size_of_every_kind(tmp_path: Path, suffix: str, mode: str, decode: bool) -> None:
    path = tmp_path / f"a.{suffix}"
    picture(mode).save(path)
    assert scan_images([path], decode) == [ImageFacts((30, 50), path.stat().st_size)]
    assert read_image(path).shape == (30, 50, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_after_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x112] = orientation
    picture("RGB").save(path, exif=exif)
    (facts,) = scan_images([path])
    assert isinstance(facts, ImageFacts)
    assert facts.size_hw == read_image(path).shape[:2]


def test_a_large_exif_block_before_the_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture("RGB").save(path, icc_profile=bytes(200_000))
    assert scan_images([path]) == [ImageFacts((30, 50), path.stat().st_size)]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("side", [40, 400])
def test_a_cut_off_file_is_found_by_its_end(tmp_path: Path, suffix: str, side: int) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    (reason,) = scan_images([path])
    assert isinstance(reason, str)
    assert "truncated" in reason


def test_junk_behind_the_end_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes() + bytes(5000))
    assert isinstance(scan_images([path])[0], ImageFacts)


def test_reasons_name_the_file_and_order_is_kept(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.jpg" for i in range(200)]
    for i, path in enumerate(paths):
        if i % 3:
            path.write_bytes(b"" if i % 3 == 1 else b"text")
    for path, reason in zip(paths, scan_images(paths), strict=True):
        assert isinstance(reason, str)
        assert str(path) in reason


def test_files_that_break_decoders_are_told_before_training(tmp_path: Path) -> None:
    """Their headers are in order; a training would meet them in its first epoch."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400), dtype=np.uint8))
    segments = encoded(noise, "JPEG", progressive=True, quality=95)
    last = segments.rindex(b"\xff\xda")
    long = segments[:last] + segments[last:-2] * 150 + b"\xff\xd9"
    files = {
        "animated.png": animated_png(damage_first=True),
        "scans.jpg": long,
        "few-scans.jpg": segments,
        "good.png": animated_png(),
    }
    assert len(segments) > 1 << 16  # the scans are not in the part of the file that a first look reads
    paths = [tmp_path / name for name in files]
    for path, data in zip(paths, files.values(), strict=True):
        path.write_bytes(data)
    animated, scans, few, good = scan_images(paths)
    assert isinstance(animated, str)
    assert "animated.png: corrupt or unsupported PNG" in animated
    assert isinstance(scans, str)
    assert "more than 100 scans" in scans
    assert few == ImageFacts((400, 400), len(segments))
    assert good == ImageFacts((40, 60), len(files["good.png"]))
