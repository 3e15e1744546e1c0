"""What ONNX Runtime really executed, from its own profiler: where each node ran, in which types, for how long."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aweigh.runtime.errors import CannotRun

CONVOLUTIONS = frozenset({"Conv", "FusedConv", "NhwcFusedConv", "ConvInteger", "QLinearConv", "ConvTranspose"})
_PRODUCTS = frozenset({"MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulInteger", "QLinearMatMul", "QGemm"})
_SUFFIX = "_kernel_time"
_PRECISION_OF = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "uint8": "int8", "int8": "int8"}


@dataclass(frozen=True)
class ExecutedNode:
    """One node in one run; ``input_types`` as ONNX Runtime writes them (``float``, ``uint8``)."""

    name: str
    op_type: str
    provider: str
    input_types: tuple[str, ...]
    duration_us: int


def read_profile(path: str | os.PathLike[str]) -> list[ExecutedNode]:
    """The nodes of all runs in a profile that ``InferenceSession.end_profiling`` wrote."""
    with open(path) as file:
        events = json.load(file)
    return [
        ExecutedNode(
            event["name"].removesuffix(_SUFFIX),
            event["args"]["op_name"],
            event["args"]["provider"],
            tuple(name for types in event["args"]["input_type_shape"] for name in types),
            event["dur"],
        )
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX)
    ]


def count_layers(nodes: Iterable[ExecutedNode]) -> dict[str, int]:
    """Convolutions by the precision of what they get."""
    kinds = (node.input_types[0] for node in nodes if node.op_type in CONVOLUTIONS and node.input_types)
    return dict(Counter(_PRECISION_OF.get(kind, kind) for kind in kinds))


def require_placement(path: str | os.PathLike[str], nodes: Sequence[ExecutedNode], provider: str) -> str:
    """Where nodes ran that ``provider`` did not take, as a remark; empty where there are none.

    ONNX Runtime hands what a provider lacks to the next one, at last to the CPU, without a word. Sizes are computed on
    the CPU for good reason: they are needed there to allocate, and cost nothing. So nodes elsewhere are listed, and an
    error only where the work itself, convolutions and matrix products, is not done on the device that was asked for.

    Raises CannotRun where it is not.
    """
    elsewhere = [node for node in nodes if node.provider != provider]
    work = [node for node in elsewhere if node.op_type in CONVOLUTIONS | _PRODUCTS]
    if work:
        raise CannotRun(
            f"{path}: {provider} left the work to others: {_listed(work)}; it lacks these operators in this precision, "
            "export the model with another --precision"
        )
    return f"not on {provider}: {_listed(elsewhere)}" if elsewhere else ""


def _listed(nodes: Sequence[ExecutedNode]) -> str:
    counts = Counter((node.provider, node.op_type) for node in nodes)
    return ", ".join(f"{count} {op_type} on {provider}" for (provider, op_type), count in counts.most_common())
