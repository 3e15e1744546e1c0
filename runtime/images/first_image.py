"""The part of an image file that a decoder gets: its first image, and nothing that this package has no use for.

Readers of animations are larger and less tried than those of single images: OpenCV's for PNG reads beyond its memory
where the default image of an animation is damaged.
"""

from __future__ import annotations

import struct

from aweigh.runtime.images.header import Format

_PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_ANIMATED = 0x02  # flag of WebP's VP8X chunk


def first_image(data: bytes, kind: Format) -> bytes | None:
    """An image file of the same pixels without its further images.

    Args:
        data: a file whose header ``read_header`` has read and found no fault in.
        kind: its format.

    Returns:
        ``data`` itself where there is nothing to leave out; None where the file is cut off or damaged before the end of
        its first image.

    Example:
        >>> from pathlib import Path
        >>> data = Path(image_path).read_bytes()
        >>> first_image(data, "BMP") is data
        True
    """
    try:
        if kind == "PNG":
            return _png(data)
        if kind == "GIF":
            return _gif(data)
        if kind == "WebP":
            return _webp(data)
        if kind == "TIFF":
            return _tiff(data)
    except (struct.error, IndexError):
        return None
    return data  # a JPEG's decoder stops at the end of the first image, and a BMP has one


def _png(data: bytes) -> bytes | None:
    parts, position = [data[:8]], 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if kind in _PNG_CHUNKS:
            parts.append(data[position:end])
        if kind == b"IEND":
            return b"".join(parts)
        position = end
    return None


def _gif(data: bytes) -> bytes | None:
    position = 13 + _colour_table_bytes(data[10])
    while True:
        block = data[position]
        if block == 0x21:  # an extension: label, then pieces
            position = _end_of_pieces(data, position + 2)
        elif block == 0x2C:  # an image: place, size, flags, colours, bits, then pieces
            position += 10 + _colour_table_bytes(data[position + 9])
            return data[: _end_of_pieces(data, position + 1)] + b";"
        else:
            return None


def _colour_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _end_of_pieces(data: bytes, position: int) -> int:
    """Behind the empty piece that ends a GIF's block. Raises IndexError where it is missing."""
    while data[position]:
        position += 1 + data[position]
    return position + 1


def _webp(data: bytes) -> bytes | None:
    if data[12:16] != b"VP8X" or not data[20] & _ANIMATED:
        return data
    if data[16:20] != b"\x0a\0\0\0":
        return None
    parts, position = [data[12:30]], 30
    while position + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        end = position + 8 + length + length % 2
        if name in (b"ANIM", b"ANMF"):
            parts.append(data[position:end])
        if name == b"ANMF":
            body = b"WEBP" + b"".join(parts)
            return b"RIFF" + struct.pack("<I", len(body)) + body
        position = end
    return None


def _tiff(data: bytes) -> bytes:
    endian = "<" if data[:2] == b"II" else ">"
    directory = struct.unpack_from(f"{endian}I", data, 4)[0]
    position = directory + 2 + 12 * struct.unpack_from(f"{endian}H", data, directory)[0]
    if not any(struct.unpack_from("4B", data, position)):
        return data
    return data[:position] + bytes(4) + data[position + 4 :]
