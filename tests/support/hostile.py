"""Image files that are made to break a decoder or to deceive about their size; small ones, of a few lines."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

HUGE = 12_000


def small_picture() -> Image.Image:
    """60x40, smooth and without symmetry."""
    y, x = np.mgrid[0:40, 0:60]
    return Image.fromarray(np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def _jpeg_parts(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The segments up to the first scan, its header the last of them, and all that follows."""
    position, segments = 2, []
    while True:
        length = struct.unpack_from(">H", data, position + 2)[0]
        segments.append((data[position + 1], data[position + 4 : position + 2 + length]))
        position += 2 + length
        if segments[-1][0] == 0xDA:
            return segments, data[position:]


def lying_jpegs() -> dict[str, bytes]:
    """Decoded, each is HUGE x HUGE pixels; a careless reader of headers finds 16x16."""
    segments, coded = _jpeg_parts(encoded(Image.new("L", (16, 16), 128), "JPEG"))
    small = next(content for marker, content in segments if marker == 0xC0)
    large = small[:1] + struct.pack(">HH", HUGE, HUGE) + small[5:]
    rest = b"".join(_segment(m, content) for m, content in segments if m in (0xDB, 0xC4, 0xDA)) + coded
    # Taken for a length, the bytes of the size's own marker lead to a second size within a comment.
    target = 4 + 0xFFC0
    bait = _segment(0xC0, small) + _segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")

    def hidden(marker: int) -> bytes:
        head = b"\xff\xd8\xff" + bytes([marker]) + _segment(0xC0, large) + _segment(0xFE, bytes(30_000))
        return head + _segment(0xFE, bytes(target - len(head) - 4) + bait + bytes(10)) + rest

    found = {f"marker {marker:02x}": hidden(marker) for marker in (0x01, 0xD0, 0xD7)}
    found["two sizes"] = b"\xff\xd8" + _segment(0xC0, large) + _segment(0xC0, small) + rest
    found["two sizes, large last"] = b"\xff\xd8" + _segment(0xC0, small) + _segment(0xC0, large) + rest
    return found


def lying_tiffs() -> dict[str, bytes]:
    """Sizes stated twice, or by other types than the usual; tiles larger than any image."""
    side = struct.pack("<I", HUGE)
    width, height, small = 256, 257, [(256, 4, 1, struct.pack("<I", 8)), (257, 4, 1, struct.pack("<I", 8))]
    large = [(tag, 4, 1, side) for tag in (width, height)]
    return {
        "twice, large first": _tiff(large + small),
        "twice, large last": _tiff(small + large),
        **{f"type {kind}": _tiff([(tag, kind, 1, side) for tag in (width, height)] + small) for kind in (1, 6, 8, 9)},
        "type 16 alone": _tiff([*small[:1], (height, 16, 1, side)]),
        "several values": _tiff([(width, 3, 2, struct.pack("<HH", 8, HUGE)), small[1]]),
        "tiles": _tiff([*small, (322, 4, 1, struct.pack("<I", 32768)), (323, 4, 1, struct.pack("<I", 32768))]),
        "plain": _tiff(large),
    }


def _tiff(sizes: list[tuple[int, int, int, bytes]]) -> bytes:
    def number(tag: int, value: int) -> tuple[int, int, int, bytes]:
        return (tag, 4, 1, struct.pack("<I", value))

    entries = sizes + [number(tag, value) for tag, value in ((258, 8), (259, 1), (262, 1), (277, 1), (278, HUGE))]
    place = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries += [number(273, place), number(279, 100)]
    directory = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + bytes(100)


def many_scans(scans: int, side: int = 64, hide_end: bool = False) -> bytes:
    """A progressive JPEG of so many scans more than usual; ``hide_end``: a comment before them has an end marker."""
    segments, rest = _jpeg_parts(encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True))
    head = b"\xff\xd8" + b"".join(_segment(marker, content) for marker, content in segments)
    # The scans behind the first change nothing in a flat image; the last of them, with its tables, is repeated.
    last = rest.rindex(b"\xff\xda")
    comment = _segment(0xFE, b"\xff\xd9") if hide_end else b""
    return head + rest[:last] + comment + rest[last:-2] * scans + b"\xff\xd9"


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def animated_png(frames: int = 3, damage_first: bool = False) -> bytes:
    """``damage_first``: the default image cannot be inflated, which OpenCV's reader of animations does not survive."""
    data = encoded(
        small_picture(),
        "PNG",
        save_all=True,
        append_images=[small_picture().rotate(9 * (i + 1)) for i in range(frames - 1)],
    )
    if damage_first:
        place = data.index(b"IDAT") + 40
        data = data[:place] + bytes(8) + data[place + 8 :]
    return data


def bomb(side: int) -> bytes:
    """A PNG of few bytes and many pixels."""
    return encoded(Image.new("L", (side, side), 128), "PNG")


def mutations(count: int, seed: int = 0) -> Iterator[bytes]:
    """Animations, bombs and progressive JPEGs, each with a few faults; half the PNGs with sums that fit again."""
    rng = np.random.default_rng(seed)
    frames = [small_picture().rotate(9 * (i + 1)) for i in range(2)]
    bases = [
        *[animated_png(frames) for frames in (2, 3, 5)],
        animated_png(damage_first=True),
        encoded(small_picture(), "GIF", save_all=True, append_images=frames),
        encoded(small_picture(), "WEBP", save_all=True, append_images=frames),
        encoded(small_picture(), "TIFF", save_all=True, append_images=frames),
        encoded(small_picture(), "JPEG", progressive=True),
        many_scans(30, 1500),
        many_scans(90, 400),
        many_scans(3000, 400),
        bomb(2000),
        bomb(7000),
        bomb(7200),
        *lying_jpegs().values(),
        *lying_tiffs().values(),
    ]
    for _ in range(count):
        data = bytearray(bases[int(rng.integers(len(bases)))])
        for _ in range(int(rng.integers(1, 6))):
            _damage(data, rng)
        yield _with_right_sums(bytes(data)) if data[:4] == b"\x89PNG" and rng.random() < 0.5 else bytes(data)


def _damage(data: bytearray, rng: np.random.Generator) -> None:
    """One fault: a byte, a run of bytes gone, repeated or at random."""
    # Mostly in the headers at the front.
    place = int(rng.integers(min(len(data), 400) if rng.random() < 0.5 else len(data)))
    length = int(rng.integers(1, 40))
    kind = rng.integers(5)
    if kind == 0:
        data[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        data[place] = int(rng.choice([0, 1, 127, 128, 254, 255]))
    elif kind == 2:
        del data[place : place + length]
    elif kind == 3:
        data[place:place] = data[place : place + length]
    else:
        data[place : place + length] = rng.bytes(length)


def _with_right_sums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of their contents, so that damage gets further."""
    parts, position = [data[:8]], 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + length]
        if len(content) < length:
            break
        parts.append(png_chunk(kind, content))
        position += 12 + length
    return b"".join(parts) + data[position:]
