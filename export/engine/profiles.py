"""Optimisation profiles of an engine, computed from the contract of the model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.shape_ranges import ShapeProfile
from aweigh.runtime.spec import InputSpec, ModelSpec


def make_profiles(spec: ModelSpec, opt_batches: Sequence[int] = ()) -> tuple[ShapeProfile, ...]:
    """One profile for each bucket of batches and each of image sizes.

    Args:
        spec: gives the range of batches and the size of images.
        opt_batches: rising; each is the best batch of a bucket of its own that ends there, the last one's at the
            largest batch. ``(1, 8)`` for batches 1 to 8: [1], [2..8]; ``(4,)``: [1..8] with 4 best. By default the
            largest batch is the best of one bucket.

    Raises:
        BadInput: a best batch outside the range, or none in rising order.
    """
    low, high = spec.batch
    chosen = list(opt_batches) or [high]
    if chosen != sorted(set(chosen)) or not all(low <= batch <= high for batch in chosen):
        raise BadInput(
            f"--opt-batch {','.join(map(str, chosen))}: expected rising numbers from {low} to {high}, "
            "the batches that the ONNX file takes"
        )
    starts = [low, *(batch + 1 for batch in chosen[:-1])]
    ends = [*chosen[:-1], high]
    return tuple(
        ShapeProfile((start, *smallest, 3), (best, *typical, 3), (end, *largest, 3))
        for start, best, end in zip(starts, chosen, ends, strict=True)
        for smallest, typical, largest in _size_buckets(spec.input)
    )


def parse_opt_batches(text: str) -> tuple[int, ...]:
    """``8`` or ``1,8`` as numbers. Raises BadInput."""
    if not re.fullmatch(r"[1-9]\d{0,4}(,[1-9]\d{0,4})*", text):
        raise BadInput(f"--opt-batch {text!r}: expected a number, or rising numbers with commas between, 8 or 1,8")
    return tuple(int(part) for part in text.split(","))


def _size_buckets(spec: InputSpec) -> list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
    """(smallest, typical, largest) heights and widths in pixels.

    Where the input keeps the image's ratio, ``size_hw`` bounds its short and its long side: one bucket for images
    that are wide, one for those that are tall.
    """
    if not spec.dynamic_size:
        return [(spec.size_hw, spec.size_hw, spec.size_hw)]
    multiple = spec.pad_multiple
    height, width = (-(-side // multiple) * multiple for side in spec.size_hw)
    smallest = (multiple, multiple)
    if spec.resize != "keep-ratio":
        return [(smallest, (height, width), (height, width))]
    short, long = min(height, width), max(height, width)
    wide = (smallest, (short, long), (short, long))
    tall = (smallest, (long, short), (long, short))
    return [wide] if short == long else [wide, tall]
