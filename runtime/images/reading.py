"""Read images as RGB arrays: files, bytes, arrays, PIL images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput, NotAnImage, TooLarge, Undecodable
from aweigh.runtime.images.first_image import first_image
from aweigh.runtime.images.header import MAX_PIXELS, ImageHeader, read_header

ImageU8: TypeAlias = npt.NDArray[np.uint8]
# The last member stands for PIL.Image.Image, recognised by its methods: Pillow is no dependency.
Source: TypeAlias = str | os.PathLike[str] | bytes | npt.NDArray[Any] | Any

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"})
FORMATS = "JPEG, PNG, WebP, BMP, GIF, TIFF"
_MAX_FILE_BYTES = 1 << 30
_STRIP_PIXELS = 1 << 16

# glibc returns freed memory at the end of its heap to the system and asks for it again at the next image: 1,300 page
# faults for one of 1280x720, which more than double the time of decoding it. Freeing a block near 32 MiB, never written
# to, raises its limits for both (mallopt(3), M_MMAP_THRESHOLD), as any large image would; MALLOC_TRIM_THRESHOLD_ in the
# environment overrides it.
np.empty(31 << 20, np.uint8)


@dataclass(frozen=True)
class EncodedImage:
    """An image file that may go to a decoder.

    Attributes:
        data: the file, without further images than its first.
        header: what its header says.
        name: for error messages.
    """

    data: bytes
    header: ImageHeader
    name: str

    def decoded(self) -> ImageU8:
        """RGB uint8 [H, W, 3]. Raises Undecodable."""
        header = self.header
        pixels = _decoded(self.data, header, self.name)
        if not header.may_have_alpha:
            return _turn(_to_rgb_u8(pixels, self.name, refusal=Undecodable), header.orientation)
        # libtiff's 8-bit reader multiplies colours by alpha itself.
        premultiplied = header.format == "TIFF" and pixels.dtype == np.uint8
        return _turn(_to_rgb_u8(pixels, self.name, True, premultiplied, Undecodable), header.orientation)


def read_image(source: Source, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> ImageU8:
    """Decode one image.

    EXIF orientation is applied, grey becomes three equal channels, 16 bits are scaled to 8 (65535 is 255),
    transparency is composited on white, CMYK converted; of an animation or a TIFF of several pages the first image
    is taken. Damage in the middle of a JPEG goes unnoticed: its decoder repairs it and reports it on stderr only.

    Args:
        source: a path, the bytes of an image file, an array ([H, W], [H, W, 1], RGB [H, W, 3] or RGBA [H, W, 4]; uint8
            or uint16) or a PIL image.
        name: of an image without a path, for error messages.
        max_pixels: largest width times height; a file above it is refused by its header, before decoding.

    Returns:
        RGB uint8 [H, W, 3].

    Raises:
        NotAnImage: the bytes are no image file, or cut off within the header.
        TooLarge: more than ``max_pixels``.
        Undecodable: an image file that is truncated, corrupt or of a kind that cannot be decoded.
        BadInput: no such file, or an array of another kind; base class of the three above.

    Example:
        >>> read_image(image_path).dtype
        dtype('uint8')
    """
    encoded = encoded_image(source, name=name, max_pixels=max_pixels)
    if encoded is not None:
        return encoded.decoded()
    if isinstance(source, np.ndarray):
        return _to_rgb_u8(source, name or "image (array)")
    if hasattr(source, "convert") and hasattr(source, "mode"):
        return _from_pil(source, name or "image (PIL)")
    raise BadInput(f"image: expected a path, bytes, a numpy array or a PIL image, got {type(source).__name__}")


def encoded_image(source: Source, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> EncodedImage | None:
    """The checks of ``read_image`` that come before decoding; None where the source is no path and no bytes.

    Raises:
        BadInput: as ``read_image``.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return _checked(_read_bytes(path), name or str(path), max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _checked(bytes(source), name or "image (bytes)", max_pixels)
    return None


def _read_bytes(path: Path) -> bytes:
    try:
        if not path.exists():
            raise BadInput(f"{path}: no such file")
        if not path.is_file():
            raise BadInput(f"{path}: expected an image file, this is a folder or a device")
        size_bytes = path.stat().st_size
        if size_bytes > _MAX_FILE_BYTES:
            raise TooLarge(f"{path}: {size_bytes} bytes; images above {_MAX_FILE_BYTES} bytes are refused")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from error


def _checked(data: bytes, name: str, max_pixels: int) -> EncodedImage:
    if not data:
        raise NotAnImage(f"{name}: not an image, the file is empty (0 bytes)")
    header = read_header(data)
    if header is None:
        raise NotAnImage(f"{name}: not an image, or cut off within its header; expected {FORMATS}")
    if header.width * header.height > max_pixels:
        raise TooLarge(
            f"{name}: {header.width}x{header.height} pixels, the limit is {max_pixels}; "
            "make it smaller first if it is what it claims to be"
        )
    if header.fault:
        raise Undecodable(f"{name}: this {header.format} file is refused, {header.fault}")
    first = first_image(data, header.format) if header.complete else None
    if first is None:
        raise Undecodable(f"{name}: truncated {header.format} file (its end is missing); copy or download it again")
    return EncodedImage(first, header, name)


def _decoded(data: bytes, header: ImageHeader, name: str) -> npt.NDArray[Any]:
    """The pixels as OpenCV gives them, not turned; blue first where they may have alpha."""
    # JPEGs could be decoded at half the size, in 1.4 ms instead of 2.0 for 1280x720. But results would not be the same:
    # of 579 detections in 40 photographs (1280x960 for 384x288) one went, five came and boxes moved by up to 10 px.
    # With IMREAD_UNCHANGED, the one way to alpha, OpenCV leaves EXIF's orientation out; so the header's counts always.
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    if header.may_have_alpha:
        flags = cv2.IMREAD_UNCHANGED
    try:
        pixels: npt.NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise Undecodable(f"{name}: the {header.format} decoder failed ({error.err})") from error
    if pixels is None:
        raise Undecodable(f"{name}: corrupt or unsupported {header.format} file; open it in another program to check")
    height, width = pixels.shape[:2]
    turned = header.format == "TIFF" and (width, height) == (header.height, header.width)
    if (width, height) != (header.width, header.height) and not turned:
        raise Undecodable(
            f"{name}: the header of this {header.format} file says {header.width}x{header.height} pixels, "
            f"its image has {width}x{height}; save it anew"
        )
    return pixels


def _turn(image: ImageU8, orientation: int) -> ImageU8:
    """EXIF's orientation, 1 to 8, applied."""
    if orientation in (5, 6, 7, 8):  # stored with rows and columns exchanged
        image = cv2.transpose(image)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _to_rgb_u8(
    pixels: npt.NDArray[Any],
    name: str,
    blue_first: bool = False,
    premultiplied: bool = False,
    refusal: type[BadInput] = BadInput,
) -> ImageU8:
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in pixels.shape:
        raise refusal(f"{name}: expected [H, W], RGB [H, W, 3] or RGBA [H, W, 4], got {list(pixels.shape)}")
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise refusal(
            f"{name}: expected uint8 or uint16 pixels, got {pixels.dtype}; "
            "scale to 0..255 and convert with .astype(numpy.uint8)"
        )
    if pixels.dtype == np.uint8 and channels == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if blue_first else np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    image = np.empty((height, width, 3), np.uint8)
    # In strips: the fractions of a whole image with alpha would take 48 bytes a pixel.
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = pixels[top : top + rows].reshape(-1, width, channels)
        image[top : top + rows] = _strip_to_rgb_u8(strip, blue_first, premultiplied)
    return image


def _strip_to_rgb_u8(pixels: npt.NDArray[Any], blue_first: bool, premultiplied: bool) -> npt.NDArray[Any]:
    """[h, W, 1, 3 or 4] on white, as RGB, or as one channel for all three."""
    colour = pixels[..., :3]
    if pixels.shape[2] == 4:
        full = np.iinfo(pixels.dtype).max
        opacity = pixels[..., 3:].astype(np.float32) / full
        shade = colour * (1 if premultiplied else opacity)
        colour = np.rint(np.minimum(shade + full * (1 - opacity), full)).astype(pixels.dtype)
    if colour.dtype == np.uint16:
        colour = (colour.astype(np.uint32) + 128) // 257
    return colour[..., ::-1] if blue_first else colour


def _from_pil(image: Any, name: str) -> ImageU8:
    image.load()  # before the orientation is read: Pillow turns TIFFs on loading, and then takes the tag out
    orientation = image.getexif().get(0x112, 1)
    if image.mode in ("I", "F"):
        raise BadInput(f"{name}: mode {image.mode!r} has no fixed range; scale to 0..255 and convert to 'L' or 'RGB'")
    if not image.mode.startswith("I;16"):
        transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
        image = image.convert("RGBA" if transparent else "RGB")
    pixels = _to_rgb_u8(np.asarray(image), name)
    return _turn(pixels, orientation if orientation in range(1, 9) else 1)
