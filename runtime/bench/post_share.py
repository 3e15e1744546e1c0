"""How much of a graph's time goes into post-processing, by ONNX Runtime's own profiler."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.backends.onnxruntime_trace import CONVOLUTIONS, read_profile
from aweigh.runtime.files.onnx import Node, read_onnx


def post_share(
    model: str | os.PathLike[str],
    device: str,
    threads: int,
    images_u8: npt.NDArray[np.uint8],
    iterations: int,
    folder: Path,
) -> float | None:
    """Share, 0 to 1, of the operators' time that is spent behind the last convolution of each branch.

    The graph is taken as ONNX Runtime executes it, after its own fusions. ``folder`` is for temporary files. None where
    there is no telling: a graph without convolution, or with nodes that have no name.
    """
    optimized = folder / "optimized.onnx"
    with OnnxRuntimeBackend(
        model, device, threads, profile_prefix=folder / "profile", optimized_path=optimized
    ) as backend:
        for _ in range(iterations):
            backend.infer(images_u8)
        profile = Path(backend.session.end_profiling())
    nodes = read_onnx(optimized).nodes
    behind = nodes_behind_convolutions(nodes)
    if not behind or not all(node.name for node in nodes):  # the profile has only their names
        return None
    executed = read_profile(profile)
    total_us = sum(node.duration_us for node in executed)
    post_us = sum(node.duration_us for node in executed if node.name in behind)
    return float(post_us / total_us) if total_us else None


def nodes_behind_convolutions(nodes: Sequence[Node]) -> frozenset[str]:
    """Names of the nodes from which no convolution can be reached, provided one leads to them; nodes in file order,
    which ONNX requires to be an order of execution.
    """
    # What every convolution waits for, walking backwards from the outputs.
    feeds: set[str] = set()
    ahead = set()
    for node in reversed(nodes):
        if node.op_type in CONVOLUTIONS or feeds.intersection(node.outputs):
            ahead.add(node.name)
            feeds.update(node.inputs)
    reached: set[str] = set()
    behind = set()
    for node in nodes:
        if node.op_type in CONVOLUTIONS or reached.intersection(node.inputs):
            reached.update(node.outputs)
            if node.name not in ahead:
                behind.add(node.name)
    return frozenset(behind)
