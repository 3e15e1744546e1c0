"""A folder of pictures as the world sends them, through the command line: each is detected in or named."""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aweigh.runtime.cli.main import main

pytestmark = pytest.mark.usefixtures("only_runtime_verbs")
BOX = (20, 30, 100, 90)


@pytest.fixture
def hostile(make_picture: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that other users may enter."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        picture = Image.fromarray(make_picture(box_xyxy=BOX))

        def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
            buffer = io.BytesIO()
            image.save(buffer, kind, **options)
            return buffer.getvalue()

        turned = Image.Exif()
        turned[0x112] = 6  # to be seen after a quarter turn clockwise
        jpeg = encode(picture, "JPEG", quality=95)
        good = {
            "animated.gif": encode(picture, "GIF", save_all=True, append_images=[Image.new("RGB", picture.size)] * 3),
            "cmyk.jpg": encode(picture.convert("CMYK"), "JPEG", quality=95),
            "exif.jpg": encode(picture.rotate(90, expand=True), "JPEG", quality=95, exif=turned),
            "grün 图片 📷.png": encode(picture, "PNG"),
            "palette.png": encode(picture.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
            "progressive.JPG": encode(picture, "JPEG", quality=95, progressive=True),
            "sixteen bit.png": sixteen_bit_png(np.asarray(picture)),
            "sub folder/with alpha.webp": encode(picture.convert("RGBA"), "WEBP", lossless=True),
            "%20 'quoted' [1].bmp": encode(picture, "BMP"),
        }
        bad = {
            "bomb.png": png(50_000, 50_000, 2, 8, b"\0" * 1000),
            "cut.jpg": jpeg[: len(jpeg) // 2],
            "cut.png": encode(picture, "PNG")[:-20],
            "empty.jpg": b"",
            "header only.jpg": jpeg[:20],
            "text.jpg": b"not a picture\n" * 20,
        }
        for file, data in {**good, **bad}.items():
            (root / file).parent.mkdir(exist_ok=True)
            (root / file).write_bytes(data)
        (root / "dangling.png").symlink_to(root / "gone.png")
        os.mkfifo(root / "pipe.png")  # opening it to read would wait for ever
        (root / "good.txt").write_text("\n".join(good))
        (root / "bad.txt").write_text("\n".join([*bad, "dangling.png", "pipe.png"]))
        yield root


def png(width: int, height: int, colour: int, depth: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def sixteen_bit_png(image: Any) -> bytes:
    height, width, _ = image.shape
    rows = (image.astype(">u2") * 257).tobytes()
    stride = width * 6
    pixels = b"".join(b"\0" + rows[i * stride : (i + 1) * stride] for i in range(height))
    return png(width, height, 2, 16, pixels)


def test_each_is_detected_in_or_named(
    hostile: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["predict", "--model", str(model), "--source", str(hostile), "--json", "--out", str(out)]) == 2
    printed = capfd.readouterr()
    good, bad = ((hostile / name).read_text().splitlines() for name in ("good.txt", "bad.txt"))
    entries = json.loads(printed.out)
    assert [entry["file"] for entry in entries] == [str(path) for path in sorted(hostile / name for name in good)]
    for entry in entries:
        assert entry["image"] == {"width": 192, "height": 128}, entry["file"]
        best = entry["detections"][0]
        assert best["label"] == "whole", entry["file"]
        np.testing.assert_allclose(best["box"], BOX, atol=4, err_msg=entry["file"])
    failures = json.loads((out / "failures.json").read_text())
    assert [failure["file"] for failure in failures] == [str(path) for path in sorted(hostile / name for name in bad)]
    for name, failure in zip(sorted(bad), failures, strict=True):
        assert f"aweigh: skipped: {failure['error']}\n" in printed.err
        assert name in failure["error"]
    assert len(printed.err.splitlines()) == len(bad) + 3  # those, what was written, what was drawn, and how many failed
    assert f"{len(bad)} of {len(good) + len(bad)} images could not be read" in printed.err
    written = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".json"]
    assert len(written) == len(good)


def test_stopping_names_the_first(hostile: Path, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--model", str(model), "--source", str(hostile), "--json", "--on-error", "stop"]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"aweigh: {hostile / 'bomb.png'}: 50000x50000 pixels")


def test_without_permission(hostile: Path, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (hostile / "exif.jpg").chmod(0)
    source = ["--source", str(hostile / "exif.jpg"), "--source", str(hostile / "progressive.JPG")]
    nobody = os.geteuid() == 0
    opened = hostile / "model.onnx"
    opened.write_bytes(model.read_bytes())
    if nobody:
        os.seteuid(65534)  # root may read anything
    try:
        code = main(["predict", "--model", str(opened), *source, "--json"])
    finally:
        if nobody:
            os.seteuid(0)
    printed = capfd.readouterr()
    assert code == 2
    assert f"{hostile / 'exif.jpg'}: cannot be read (Permission denied)" in printed.err
    assert [entry["file"] for entry in json.loads(printed.out)] == [str(hostile / "progressive.JPG")]
