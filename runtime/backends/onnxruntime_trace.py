"""What ONNX Runtime really executed, from its own profiler: where each node ran, in which types, for how long."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.files.reading import read_once
from aweigh.runtime.json_text import parse_json

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
    """The nodes of all runs in a profile that ``InferenceSession.end_profiling`` wrote.

    Raises BadInput where the file is no such profile.
    """
    events = parse_json(read_once(Path(path), "profile"), os.fspath(path), foreign=True)
    if not isinstance(events, list):
        raise BadInput(f"{path}: expected a list of events, as ONNX Runtime's profiler writes it")
    nodes = [_node(event) for event in events if _is_node(event)]
    whole = [node for node in nodes if node is not None]
    if len(whole) < len(nodes):
        raise BadInput(f"{path}: {len(nodes) - len(whole)} of {len(nodes)} nodes lack a name, provider, types or time")
    return whole


def _is_node(event: object) -> bool:
    return isinstance(event, dict) and event.get("cat") == "Node" and str(event.get("name")).endswith(_SUFFIX)


def _node(event: Mapping[str, Any]) -> ExecutedNode | None:
    """None where it is not as ONNX Runtime writes it."""
    arguments, duration_us = event.get("args"), event.get("dur")
    if not isinstance(arguments, dict) or not isinstance(duration_us, int):
        return None
    op_type, provider, inputs = (arguments.get(key) for key in ("op_name", "provider", "input_type_shape"))
    if not isinstance(op_type, str) or not isinstance(provider, str) or not isinstance(inputs, list):
        return None
    if not all(isinstance(types, dict) for types in inputs):
        return None
    types = tuple(name for one in inputs for name in one)
    return ExecutedNode(str(event["name"]).removesuffix(_SUFFIX), op_type, provider, types, duration_us)


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
