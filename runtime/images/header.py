"""Headers of image files: format, size, alpha, orientation, and whether the file is complete.

OpenCV has no call for the size without decoding, and a file of a few kilobytes can decode into gigabytes; so the
headers of the formats this package reads are parsed here.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

Format = Literal["JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF"]

_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15 without DHT, JPG, DAC
_FILL_BYTES = re.compile(rb"\xff+")
# No camera or program writes so many, and reading a hostile file of empty ones would take seconds.
_MOST_SEGMENTS = 100_000
_TIFF_WIDTH, _TIFF_HEIGHT, _ORIENTATION = 0x100, 0x101, 0x112


@dataclass(frozen=True)
class ImageHeader:
    """Facts of an image file that need no decoding.

    Attributes:
        width, height: pixels as stored, before any rotation by ``orientation``.
        may_have_alpha: whether the decoder must be asked for a fourth channel.
        orientation: EXIF's 1 to 8 (of a TIFF, which OpenCV turns by itself in every mode, always 1).
        complete: False where the end marker of the format is missing, that is, the file was cut off.
    """

    format: Format
    width: int
    height: int
    may_have_alpha: bool = False
    orientation: int = 1
    complete: bool = True


def read_header(data: bytes) -> ImageHeader | None:
    """The header of an image file's bytes; None for an unknown format, or bytes cut off within the header."""
    try:
        if data[:3] == b"\xff\xd8\xff":
            return _jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:2] == b"BM":
            return _bmp(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack_from("<HH", data, 6)
            return ImageHeader("GIF", width, height, may_have_alpha=True)
        if data[:4] in (b"II*\0", b"MM\0*"):
            tags = _tiff_tags(data)
            # OpenCV turns a TIFF by its orientation tag even when asked for the unchanged pixels.
            return ImageHeader("TIFF", tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT], may_have_alpha=True)
    except (struct.error, IndexError, KeyError):
        return None
    return None


def _jpeg(data: bytes) -> ImageHeader | None:
    position = 2
    size: tuple[int, int] | None = None
    orientation = 1
    for _ in range(_MOST_SEGMENTS):
        filled = _FILL_BYTES.match(data, position)
        if filled is None:
            return None
        position = filled.end() - 1
        marker = data[position + 1]
        length = struct.unpack_from(">H", data, position + 2)[0]
        if marker in _JPEG_SIZE_MARKERS:
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = (width, height)
        elif marker == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[position + 4 : position + 2 + length])
        position += 2 + length
        if marker == 0xDA:  # start of scan: 0xFF within the coded data is followed by 0, so the marker below is the end
            if size is None:
                return None
            complete = data.find(b"\xff\xd9", position) >= 0
            return ImageHeader("JPEG", *size, orientation=orientation, complete=complete)
    return None


def _png(data: bytes) -> ImageHeader | None:
    width, height, _, colour_type = struct.unpack_from(">IIBB", data, 16)
    alpha = colour_type in (4, 6)
    orientation, complete, position = 1, False, 8
    for _ in range(_MOST_SEGMENTS):
        if position + 8 > len(data):
            return ImageHeader("PNG", width, height, alpha, orientation, complete)
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"tRNS":
            alpha = True
        elif kind == b"eXIf":
            orientation = _exif_orientation(data[position + 8 : position + 8 + length])
        elif kind == b"IEND":
            complete = True
        position += 12 + length
    return None


def _webp(data: bytes) -> ImageHeader | None:
    kind = data[12:16]
    complete = len(data) >= 8 + struct.unpack_from("<I", data, 4)[0]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader("WebP", width & 0x3FFF, height & 0x3FFF, complete=complete)
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return ImageHeader("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, True, complete=complete)
    if kind != b"VP8X":
        return None
    width = int.from_bytes(data[24:27], "little") + 1
    height = int.from_bytes(data[27:30], "little") + 1
    orientation, position = 1, 12
    for _ in range(_MOST_SEGMENTS):
        if position + 8 > len(data):
            return ImageHeader("WebP", width, height, bool(data[20] & 0x10), orientation, complete)
        name, length = struct.unpack_from("<4sI", data, position)
        if name == b"EXIF":
            orientation = _exif_orientation(data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    return None


def _bmp(data: bytes) -> ImageHeader:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # the header of OS/2 and Windows 2
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)  # a negative height means rows from the top
    return ImageHeader("BMP", abs(width), abs(height))


def _exif_orientation(exif: bytes) -> int:
    try:
        value = _tiff_tags(exif.removeprefix(b"Exif\0\0")).get(_ORIENTATION, 1)
    except (struct.error, IndexError):
        return 1  # a damaged EXIF block does not make the image unreadable
    return value if 1 <= value <= 8 else 1


def _tiff_tags(data: bytes) -> dict[int, int]:
    """The integer tags of the first directory of a TIFF or EXIF block."""
    endian = "<" if data[:2] == b"II" else ">"
    directory = struct.unpack_from(f"{endian}I", data, 4)[0]
    tags = {}
    for i in range(struct.unpack_from(f"{endian}H", data, directory)[0]):
        entry = directory + 2 + 12 * i
        tag, kind = struct.unpack_from(f"{endian}HH", data, entry)
        if kind in (3, 4):  # SHORT, LONG
            tags[tag] = struct.unpack_from(f"{endian}{'H' if kind == 3 else 'I'}", data, entry + 8)[0]
    return tags
