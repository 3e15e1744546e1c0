"""Headers of image files: format, size, alpha, orientation, whether the file is complete, and what forbids decoding it.

OpenCV has no call for the size without decoding, and a file of a few kilobytes can decode into gigabytes; so the
headers of the formats this package reads are parsed here. Where a decoder could read another size than this module, the
file has a fault: two parsers of one header must not disagree.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

Format = Literal["JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF"]

MAX_PIXELS = 178_956_970  # 512 MiB as RGB; the limit at which Pillow refuses
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15 without DHT, JPG, DAC
_JPEG_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM, RST0 to RST7
_FILL_BYTES = re.compile(rb"\xff+")
_JPEG_MARKER = re.compile(rb"\xff+([\x02-\xcf\xd8-\xfe])")  # of those with a length
# No camera or program writes so many, and reading a hostile file of empty ones would take seconds.
_MOST_SEGMENTS = 100_000
# Each scan goes through the whole image again: some milliseconds a megapixel for 75 bytes. Encoders write about ten.
_MOST_SCANS = 100
_MOST_EXIF_TAGS = 512
_TIFF_WIDTH, _TIFF_HEIGHT, _ORIENTATION, _TILE_WIDTH, _TILE_HEIGHT = 0x100, 0x101, 0x112, 0x142, 0x143
_TIFF_TYPES = {3: "H", 4: "I"}  # SHORT, LONG
_LARGEST_TILE = 1 << 24  # pixels: a decoder allocates a tile, however small the image


@dataclass(frozen=True)
class ImageHeader:
    """Facts of an image file that need no decoding.

    Attributes:
        width, height: pixels as stored, before any rotation by ``orientation``.
        may_have_alpha: whether the decoder must be asked for a fourth channel.
        orientation: EXIF's 1 to 8 (of a TIFF, which OpenCV turns by itself in every mode, always 1).
        complete: False where the end marker of the format is missing, that is, the file was cut off.
        several: whether a PNG, WebP or GIF may hold further images, as animations do.
        progressive: whether the pixels of a JPEG come in scans, see ``_MOST_SCANS``; the end of the file may hold more.
        fault: why the file must not reach a decoder; empty where nothing speaks against it.
    """

    format: Format
    width: int
    height: int
    may_have_alpha: bool = False
    orientation: int = 1
    complete: bool = True
    several: bool = False
    progressive: bool = False
    fault: str = ""


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
            return ImageHeader("GIF", width, height, may_have_alpha=True, several=True)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(data)
        if data[:4] in (b"II+\0", b"MM\0+"):
            return ImageHeader("TIFF", 0, 0, fault="BigTIFF is not read; save it as a TIFF below 4 GB")
    except (struct.error, IndexError, KeyError):
        return None
    return None


def _jpeg(data: bytes) -> ImageHeader | None:
    position = 2
    size: tuple[int, int] | None = None
    orientation: int | None = None
    progressive, fault = False, ""
    for _ in range(_MOST_SEGMENTS):
        filled = _FILL_BYTES.match(data, position)
        if filled is None:
            return None
        position = filled.end() + 1
        marker = data[position - 1]
        if marker in _JPEG_WITHOUT_LENGTH:
            continue
        length = struct.unpack_from(">H", data, position)[0]
        if length < 2:
            return None
        if marker in _JPEG_SIZE_MARKERS:
            if size is not None:
                fault = "it states its size twice"
            height, width = struct.unpack_from(">HH", data, position + 3)
            size = (width, height)
            progressive = marker in _JPEG_PROGRESSIVE
        elif marker == 0xE1 and data[position + 2 : position + 8] == b"Exif\0\0":
            orientation = orientation or _exif_orientation(data[position + 2 : position + length])
        position += length
        if marker == 0xDA:  # start of scan: 0xFF within the coded data is followed by 0, so the marker below is the end
            if size is None:
                return None
            if _has_many_scans(data, position):
                fault = f"it has more than {_MOST_SCANS} scans, each of which goes through the whole image"
            complete = data.find(b"\xff\xd9", position) >= 0
            return ImageHeader(
                "JPEG", *size, orientation=orientation or 1, complete=complete, progressive=progressive, fault=fault
            )
    return None


def _has_many_scans(data: bytes, position: int) -> bool:
    """Whether more than ``_MOST_SCANS`` begin, the one before ``position`` included."""
    if data.count(b"\xff\xda", position) < _MOST_SCANS:  # those within other segments and behind the end included
        return False
    scans = 1
    while scans <= _MOST_SCANS and (found := _JPEG_MARKER.search(data, position)) and found[1] != b"\xd9":
        scans += found[1] == b"\xda"
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return scans > _MOST_SCANS


def _png(data: bytes) -> ImageHeader | None:
    if data[8:16] != b"\0\0\0\rIHDR":
        return None
    width, height, _, colour_type = struct.unpack_from(">IIBB", data, 16)
    alpha = colour_type in (4, 6)
    orientation: int | None = None
    complete, several, position = False, False, 8
    for _ in range(_MOST_SEGMENTS):
        if complete or position + 8 > len(data):
            return ImageHeader("PNG", width, height, alpha, orientation or 1, complete, several)
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"tRNS":
            alpha = True
        elif kind in (b"acTL", b"fcTL", b"fdAT"):
            several = True
        elif kind == b"eXIf":
            orientation = orientation or _exif_orientation(data[position + 8 : position + 8 + length])
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
    orientation: int | None = None
    position = 12
    for _ in range(_MOST_SEGMENTS):
        if position + 8 > len(data):
            alpha, several = bool(data[20] & 0x10), bool(data[20] & 0x02)
            return ImageHeader("WebP", width, height, alpha, orientation or 1, complete, several)
        name, length = struct.unpack_from("<4sI", data, position)
        if name == b"EXIF":
            orientation = orientation or _exif_orientation(data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    return None


def _bmp(data: bytes) -> ImageHeader:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # the header of OS/2 and Windows 2
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)  # a negative height means rows from the top
    return ImageHeader("BMP", abs(width), abs(height))


def _tiff(data: bytes) -> ImageHeader | None:
    entries = _tiff_entries(data)
    sizes = [entry for entry in entries if entry.tag in (_TIFF_WIDTH, _TIFF_HEIGHT)]
    if len(sizes) < 2:
        return None
    tags = {entry.tag: entry.value for entry in reversed(entries) if entry.value is not None}
    width, height = tags.get(_TIFF_WIDTH, 0), tags.get(_TIFF_HEIGHT, 0)
    tile_width, tile_height = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_HEIGHT, 0)
    fault = ""
    if len(sizes) != 2 or any(entry.count != 1 or entry.value is None for entry in sizes):
        fault = "its width and height are not one whole number each"
    elif tile_width * tile_height > max(_LARGEST_TILE, (width + 15) * (height + 15)):
        fault = f"its tiles of {tile_width}x{tile_height} pixels are larger than the image"
    # OpenCV turns a TIFF by its orientation tag even when asked for the unchanged pixels.
    return ImageHeader("TIFF", width, height, may_have_alpha=True, fault=fault)


def _exif_orientation(exif: bytes) -> int | None:
    """1 to 8; None where the block has none: the first valid one of a file counts."""
    try:
        entries = _tiff_entries(exif.removeprefix(b"Exif\0\0"), _MOST_EXIF_TAGS)
    except (struct.error, IndexError):
        return None  # a damaged EXIF block does not make the image unreadable
    valid = (e.value for e in entries if e.tag == _ORIENTATION and e.value is not None and 1 <= e.value <= 8)
    return next(valid, None)


@dataclass(frozen=True)
class _Entry:
    """One entry of a TIFF directory; ``value`` is None for other types than SHORT and LONG."""

    tag: int
    count: int
    value: int | None


def _tiff_entries(data: bytes, most: int = 1 << 16) -> list[_Entry]:
    """The first directory of a TIFF or EXIF block, up to ``most`` entries."""
    endian = "<" if data[:2] == b"II" else ">"
    directory = struct.unpack_from(f"{endian}I", data, 4)[0]
    entries = []
    for i in range(min(struct.unpack_from(f"{endian}H", data, directory)[0], most)):
        entry = directory + 2 + 12 * i
        tag, kind, count = struct.unpack_from(f"{endian}HHI", data, entry)
        letter = _TIFF_TYPES.get(kind)
        value = None if letter is None else struct.unpack_from(f"{endian}{letter}", data, entry + 8)[0]
        entries.append(_Entry(tag, count, value))
    return entries
