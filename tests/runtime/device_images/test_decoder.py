"""Files decoded by nvImageCodec, here by its decoder for CPUs, next to the host's decoder."""

from __future__ import annotations

import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hostile import encoded, many_scans, mutations, small_picture
from nvimgcodec_here import INSTALLED, REASON
from PIL import Image

from aweigh.runtime.device import Device
from aweigh.runtime.device_images.decoder import DeviceDecoder
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.images.reading import encoded_image, read_image

CPU = Device("cpu")


def photograph() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (12, 17, 3), dtype=np.uint8)).resize(
        (173, 120), Image.Resampling.BICUBIC
    )


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x112] = orientation
    return tags.tobytes()


@pytest.fixture
def decoder() -> DeviceDecoder:
    if not INSTALLED:
        pytest.skip(REASON)
    return DeviceDecoder(CPU)


def both(decoder: DeviceDecoder, data: bytes) -> None:
    """The same pixels as ``read_image``, or the same error."""
    expected, refusal = None, None
    try:
        expected = read_image(data)
    except BadInput as error:
        refusal = error
    if expected is None:
        with pytest.raises(type(refusal), match=re.escape(str(refusal))):  # type: ignore[arg-type]
            decoder.decode(encoded_image(data))  # type: ignore[arg-type]
        return
    file = encoded_image(data)
    assert file is not None
    image = decoder.decode(file)
    assert image.shape == expected.shape
    np.testing.assert_array_equal(image.on_host(), expected)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1, "quality": 30}])
def test_a_jpeg_has_the_pixels_of_the_host(options: dict[str, object], decoder: DeviceDecoder) -> None:
    both(decoder, encoded(photograph(), "JPEG", **options))
    both(decoder, encoded(photograph().convert("L"), "JPEG", **options))
    assert decoder.counts == {"device": 2, "host": 0}


@pytest.mark.parametrize(
    "data",
    [
        encoded(photograph(), "PNG"),
        encoded(photograph(), "WebP", lossless=True),
        encoded(photograph().convert("CMYK"), "JPEG"),
        encoded(photograph(), "JPEG", exif=exif(6)),
        encoded(photograph(), "JPEG", exif=exif(3)),
    ],
    ids=["PNG", "WebP", "CMYK", "turned by 90", "turned by 180"],
)
def test_what_is_left_to_the_host_is_the_same_and_counted(data: bytes, decoder: DeviceDecoder) -> None:
    both(decoder, data)
    assert decoder.counts == {"device": 0, "host": 1}


def test_damaged_files_have_the_errors_of_the_host(decoder: DeviceDecoder, capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(photograph(), "JPEG")
    for bad in (data[: len(data) // 2], data[:-2], many_scans(200), b"\xff\xd8\xff" + b"x" * 50, b""):
        both(decoder, bad)
    for bad in mutations(300):  # pixels of a damaged file that both can read may differ, where each repairs it
        try:
            file = encoded_image(bad)
            image = None if file is None else decoder.decode(file)
        except BadInput:
            continue
        assert image is None or image.on_host().shape == image.shape
    assert "pynvimgcodec" not in capfd.readouterr().err


def test_threads_decode_at_once(decoder: DeviceDecoder) -> None:
    files = [encoded(photograph().resize((60 + i, 50)), "JPEG") for i in range(12)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda data: both(decoder, data), files * 4))
    assert decoder.counts["device"] == 48
    decoder.close()


def test_the_memory_of_an_image_is_kept_with_it(decoder: DeviceDecoder) -> None:
    data = encoded(photograph(), "JPEG")
    file = encoded_image(data)
    assert file is not None
    images = [decoder.decode(file) for _ in range(20)]
    expected = read_image(data)
    assert all(np.array_equal(image.on_host(), expected) for image in images)


@pytest.mark.skipif(not os.environ.get("AWEIGH_TEST_DATA"), reason="needs AWEIGH_TEST_DATA: pictures")
def test_photographs(decoder: DeviceDecoder) -> None:
    folder = Path(os.environ["AWEIGH_TEST_DATA"]) / "datasets" / "coco128"
    paths = sorted(folder.rglob("*.jpg"))[:30]
    assert paths
    for path in paths:
        both(decoder, path.read_bytes())
    assert decoder.counts["device"] >= 28  # some have one channel, none another format


def test_without_the_library_it_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", None)
    with pytest.raises(CannotRun, match=r"needs nvImageCodec.*\[nvimagecodec\]"):
        DeviceDecoder(CPU)


def test_small_pictures(decoder: DeviceDecoder) -> None:
    for size in ((1, 1), (1, 9), (8, 8), (17, 3)):
        both(decoder, encoded(small_picture().resize(size), "JPEG"))
