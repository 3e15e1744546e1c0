from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from aweigh.runtime.errors import BadInput, NotAnImage, TooLarge, Undecodable
from aweigh.runtime.images.header import read_header
from aweigh.runtime.images.listing import list_images
from aweigh.runtime.images.reading import read_image

ORIENTATION_TAG = 0x112
LOSSLESS = ("PNG", "TIFF", "BMP")


@pytest.fixture
def picture() -> npt.NDArray[np.uint8]:
    """Smooth, so that JPEG keeps it, and without symmetry, so that every turn shows."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def on_white(image: Image.Image) -> npt.NDArray[np.float64]:
    rgba = np.asarray(image.convert("RGBA"), np.float64)
    return rgba[..., :3] * rgba[..., 3:] / 255 + 255 - rgba[..., 3:]


def assert_close(got: npt.NDArray[np.uint8], expected: npt.NDArray[Any], levels: float) -> None:
    assert got.dtype == np.uint8
    assert got.shape == expected.shape
    assert got.flags.c_contiguous
    assert np.abs(got.astype(float) - expected).max() <= levels


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_every_format_gives_rgb(kind: str, picture: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    data = encode(Image.fromarray(picture), kind)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    path = tmp_path / "picture.anything"
    path.write_bytes(data)
    for source in (data, path, str(path)):
        assert_close(read_image(source), expected, 0 if kind in LOSSLESS else 3)
    header = read_header(data)
    assert header is not None
    assert (header.width, header.height, header.complete) == (60, 40, True)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "RGBA"), ("WEBP", "RGBA"), ("TIFF", "RGB")]
)
def test_exif_orientation_is_applied_once(
    kind: str, mode: str, orientation: int, picture: npt.NDArray[np.uint8]
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    image = Image.fromarray(picture).convert(mode)
    if mode == "RGBA":
        image.putalpha(200)
    data = encode(image, kind, exif=exif)
    expected = on_white(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert_close(read_image(data), expected, 3)
    assert_close(read_image(Image.open(io.BytesIO(data))), expected, 1)


def test_sixteen_bit_exif_is_turned_too(picture: npt.NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    wide = Image.fromarray(picture[..., 0].astype(np.uint16) * 257)
    got = read_image(encode(wide, "PNG", exif=exif))
    assert_close(got, np.rot90(np.repeat(picture[..., :1], 3, axis=2), -1), 0)


def test_damaged_exif_does_not_hide_the_picture(picture: npt.NDArray[np.uint8]) -> None:
    image = Image.fromarray(picture).convert("RGBA")
    assert_close(read_image(encode(image, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")), picture, 0)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "I;16", "CMYK", "YCbCr"])
def test_pixel_modes(mode: str, picture: npt.NDArray[np.uint8]) -> None:
    if mode == "I;16":
        image = Image.fromarray(picture[..., 0].astype(np.uint16) * 257)
        expected: npt.NDArray[Any] = np.repeat(picture[..., :1], 3, axis=2)
    else:
        image = Image.fromarray(picture).convert(mode)
        if mode in ("LA", "RGBA"):
            alpha = np.zeros(picture.shape[:2], np.uint8)
            alpha[:, :30] = 130
            image.putalpha(Image.fromarray(alpha))
        expected = on_white(image)
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    assert_close(read_image(encode(image, kind)), expected, 8 if kind == "JPEG" else 1)
    assert_close(read_image(image), expected, 1)


def test_palette_transparency_is_white(picture: npt.NDArray[np.uint8]) -> None:
    image = Image.new("P", (4, 2), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((3, 1), 1)
    expected = np.full((2, 4, 3), 255, np.uint8)
    expected[1, 3] = (0, 0, 255)
    for kind in ("PNG", "GIF"):
        data = encode(image, kind, transparency=0)
        assert_close(read_image(data), expected, 0)
        assert_close(read_image(Image.open(io.BytesIO(data))), expected, 0)


def test_sixteen_bits_cover_the_whole_range() -> None:
    values = np.array([[0, 128, 129, 257, 65535 - 129, 65535]], np.uint16)
    done, data = cv2.imencode(".png", values)
    assert done
    assert read_image(data.tobytes())[0, :, 0].tolist() == [0, 0, 1, 1, 254, 255]
    assert read_image(values)[0, :, 0].tolist() == [0, 0, 1, 1, 254, 255]
    rgba = np.zeros((1, 2, 4), np.uint16)
    rgba[0, 0] = (0, 0, 65535, 65535)  # BGRA: opaque red; the other pixel is transparent
    assert read_image(cv2.imencode(".png", rgba)[1].tobytes()).tolist() == [[[255, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_in_any_byte_order_are_read_alike(order: str) -> None:
    values = np.array([[0, 300, 128, 257, 65535 - 129, 65535]], np.uint16)
    expected = np.repeat(read_image(values)[..., :1], 3, axis=2)
    ordered = values.astype(f"{order}u2")
    mode = "I;16" if order == "<" else "I;16B"
    assert np.array_equal(read_image(ordered), expected)
    assert np.array_equal(read_image(np.repeat(ordered[..., None], 3, axis=2)), expected)
    pil = Image.frombytes(mode, (6, 1), ordered.tobytes())
    assert np.array_equal(read_image(pil), expected)
    done = io.BytesIO()
    pil.save(done, "TIFF")
    assert done.getvalue()[:2] == (b"II" if order == "<" else b"MM")
    assert np.array_equal(read_image(done.getvalue()), expected)


def test_tiff_alpha(picture: npt.NDArray[np.uint8]) -> None:
    image = Image.fromarray(picture).convert("RGBA")
    image.putalpha(100)
    assert_close(read_image(encode(image, "TIFF")), on_white(image), 2)


def test_arrays(picture: npt.NDArray[np.uint8]) -> None:
    assert np.array_equal(read_image(picture), picture)
    assert np.array_equal(read_image(picture[:, ::-1]), picture[:, ::-1])
    assert np.array_equal(read_image(picture[..., 0]), np.repeat(picture[..., :1], 3, axis=2))
    assert np.array_equal(read_image(picture[..., :1]), np.repeat(picture[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "expected uint8 or uint16 pixels, got float32"),
        (np.zeros((4, 4, 2), np.uint8), r"got \[4, 4, 2\]"),
        (np.zeros((0, 4, 3), np.uint8), r"got \[0, 4, 3\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"got \[1, 4, 4, 3\]"),
        (np.zeros(4, np.uint8), r"got \[4\]"),
    ],
)
def test_arrays_of_other_kinds_are_refused(array: npt.NDArray[Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_image(array)


@pytest.mark.parametrize("source", [None, 3, ["a.png"]])
def test_other_objects_are_refused(source: Any) -> None:
    with pytest.raises(BadInput, match="expected a path, bytes, a numpy array or a PIL image"):
        read_image(source)


def test_pil_modes_without_range_are_refused() -> None:
    with pytest.raises(BadInput, match="no fixed range"):
        read_image(Image.new("F", (4, 4)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_cut_off_files_are_refused_by_name(kind: str, picture: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    data = encode(Image.fromarray(picture), kind)
    path = tmp_path / "cut.jpg"
    for length in (1, 9, 30, len(data) // 4, len(data) // 2, len(data) * 3 // 4, len(data) - 3):
        path.write_bytes(data[:length])
        with pytest.raises(BadInput, match=r"cut\.jpg"):
            read_image(path)


def test_a_jpeg_whose_thumbnail_is_whole_is_still_cut_off(picture: npt.NDArray[np.uint8]) -> None:
    """The end marker of the thumbnail in the EXIF block must not pass for the picture's."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    thumbnail = encode(Image.fromarray(picture), "JPEG")
    data = encode(Image.fromarray(noise), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(thumbnail)) + b"Exif\0\0" + thumbnail
    whole = data[:2] + segment + data[2:]
    assert read_image(whole).shape == (64, 64, 3)
    with pytest.raises(BadInput, match="truncated JPEG"):
        read_image(whole[: len(whole) * 2 // 3])


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm(picture: npt.NDArray[np.uint8]) -> None:
    assert read_image(encode(Image.fromarray(picture), "JPEG") + b"maker's notes" * 50).shape == picture.shape


def test_progressive_jpeg(picture: npt.NDArray[np.uint8]) -> None:
    data = encode(Image.fromarray(picture), "JPEG", progressive=True)
    assert_close(read_image(data), picture, 8)
    with pytest.raises(BadInput, match="truncated JPEG"):
        read_image(data[:-2])


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10000))
        + chunk(b"IEND", b"")
    )


def test_picture_bombs_are_refused_by_their_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(50_000, 50_000))
    with pytest.raises(TooLarge, match=r"bomb\.png: 50000x50000 pixels, the limit is 178956970"):
        read_image(path)
    header = read_header(b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\0" * 8 + b"\xff\xff\xff" * 2)
    assert header is not None
    assert (header.width, header.height) == (1 << 24, 1 << 24)


def test_the_pixel_limit_can_be_set(picture: npt.NDArray[np.uint8]) -> None:
    data = encode(Image.fromarray(picture), "PNG")
    assert read_image(data, max_pixels=2400).shape == picture.shape
    with pytest.raises(BadInput, match="street: 60x40 pixels, the limit is 2399"):
        read_image(data, name="street", max_pixels=2399)


def test_a_corrupt_picture_of_the_right_frame(tmp_path: Path) -> None:
    path = tmp_path / "corrupt.png"
    path.write_bytes(bomb(1000, 1000))  # far fewer pixels in it than its header says
    with pytest.raises(Undecodable, match=r"corrupt\.png: corrupt or unsupported PNG"):
        read_image(path)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.jpg", tmp_path / "text.jpg"
    empty.touch()
    text.write_text("hello")
    for path, words, kind in (
        (empty, "the file is empty", NotAnImage),
        (text, "not an image", NotAnImage),
        (tmp_path / "none.jpg", "no such file", BadInput),
        (tmp_path, "this is a folder", BadInput),
    ):
        with pytest.raises(BadInput, match=words) as caught:
            read_image(path)
        assert type(caught.value) is kind
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "prefix", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBPVP8X", b"BM", b"GIF89a", b"II*\0", b"MM\0*"]
)
def test_random_bytes_never_crash_the_header_reader(prefix: bytes) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        header = read_header(prefix + rng.bytes(int(rng.integers(0, 80))))
        assert header is None or (header.width >= 0 and header.height >= 0)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 1_000_000,
        b"\xff\xd8" + b"\xff\xe0\0\0" * 500_000,
        b"\x89PNG\r\n\x1a\n" + b"\0" * 5_000_000,
        b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 5_000_000,
    ],
    ids=["fill bytes", "segments", "chunks", "WebP chunks"],
)
def test_files_of_endless_empty_parts_are_no_pictures(data: bytes) -> None:
    assert read_header(data) is None


def test_list_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".hidden.png").touch()
    found = [folder / "a.png", folder / "b.jpg", folder / "more" / "a.png"]
    assert list_images(folder) == found
    assert list_images(str(folder)) == found
    assert list_images(folder / "notes.txt") == [folder / "notes.txt"]  # named by the user: reading will tell
    assert list_images(f"{folder}/*.*") == found[:2]
    assert list_images(f"{folder}/**/*.png") == [found[0], found[2]]


def test_list_images_refuses(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "readme.md").touch()
    for source, words in (
        (empty, r"folder .*empty: no images in it \(1 files of other kinds\)"),
        (tmp_path / "nowhere", "nowhere: no such file or folder"),
        (f"{folder}/*.txt", "pattern .*: no images"),
    ):
        with pytest.raises(BadInput, match=words):
            list_images(source)


def test_names_with_brackets_are_files_first(
    tmp_path: Path, make_picture: Callable[..., Any], write_picture: Callable[..., Path]
) -> None:
    path = write_picture(tmp_path / "shot[1].png", make_picture())
    assert list_images(path) == [path]
