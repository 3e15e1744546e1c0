"""Check a graph against its contract; the same for every library that reads ONNX."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import NamedTuple

from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import ModelSpec


class GraphInput(NamedTuple):
    """``shape`` has None for a dimension that may be any; ``dtype`` is numpy's name."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def check_graph(
    path: str | os.PathLike[str], inputs: Sequence[GraphInput], outputs: Collection[str], spec: ModelSpec
) -> None:
    """Raises BadInput where inputs and outputs are not those of the spec."""
    if len(inputs) != 1 or inputs[0][:2] != (INPUT_NAME, "uint8") or len(inputs[0].shape) != 4:
        found = [tuple(found_input) for found_input in inputs]
        raise BadInput(f"{path}: expected one input {INPUT_NAME!r} uint8 [B, H, W, 3], got {found}")
    sizes = (None, None) if spec.input.dynamic_size else spec.input.size_hw
    fixed_batch = spec.batch[0] if spec.batch[0] == spec.batch[1] else None
    axes = ("batch", "height", "width", "channels")
    for axis, got, expected in zip(axes, inputs[0].shape, (fixed_batch, *sizes, 3), strict=True):
        # What may be any number takes a fixed one too.
        if got is not None and got != expected:
            says = "any" if expected is None else expected
            raise BadInput(f"{path}: {axis} of the graph's input is {got}, its metadata says {says}; export it again")
    missing = set(spec.post.output_names) - set(outputs)
    if missing:
        raise BadInput(
            f"{path}: post-processing {spec.post.kind!r} needs the outputs {', '.join(spec.post.output_names)}; "
            f"missing {', '.join(sorted(missing))}"
        )
