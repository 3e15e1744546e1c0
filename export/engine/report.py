"""What precision an engine really computes in, read off TensorRT's engine inspector.

Asking for FP16 and getting an FP32 engine is a known and silent failure of exporters; so every build is read back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aweigh.runtime.errors import BadInput, CheckFailed
from aweigh.runtime.files.engine import PrecisionShare
from aweigh.runtime.json_text import parse_json

_MOST = 1 << 48  # no tensor has so many numbers
_MOST_DIMENSIONS = 8  # TensorRT's own limit
_BITS = {"FP32": 32, "FP16": 16, "BF16": 16, "FP8": 8, "INT8": 8, "INT4": 4}
# In this order, for "uint8" holds "int8" and "bfloat16" holds "float"; None: no precision of a computation.
_PATTERNS: tuple[tuple[str, str | None], ...] = (
    (r"n/?a\b", None),
    (r"uint8|int32|int64|bool", None),
    (r"bfloat16|bf16", "BF16"),
    (r"fp16|float16|half", "FP16"),
    (r"fp8|float8", "FP8"),
    (r"int8", "INT8"),
    (r"int4", "INT4"),
    (r"fp32|float", "FP32"),
)
# Precision asked for -> name here, smallest share of the weights, smallest share of the bytes. Weights stand in the
# convolutions alone, all of which are exported in half (INT8 leaves out what does not bear it). Where the inspector
# names no weights, bytes must do, and what follows the head stays FP32 and is large in small networks.
_EXPECTED = {"fp32": ("FP32", 0.99, 0.99), "fp16": ("FP16", 0.9, 0.25), "bf16": ("BF16", 0.9, 0.25)}
_EXPECTED |= {"int8": ("INT8", 0.5, 0.15)}


@dataclass(frozen=True)
class EngineReport:
    """Shares per precision, largest share of bytes first; layers that report no precision (on integers, say) apart."""

    shares: tuple[PrecisionShare, ...]
    unknown_layers: int

    def share(self, precision: str) -> PrecisionShare:
        """The share of ``FP16``, say; zeros where no layer has it."""
        return next((s for s in self.shares if s.precision == precision), PrecisionShare(precision, 0, 0, 0, 0, 0, 0))

    def describe(self) -> str:
        """In one line."""
        lines = [
            f"{s.precision} {s.layer_share:.1%} of layers, {s.weight_share:.1%} of weights, {s.byte_share:.1%} of bytes"
            for s in self.shares
        ]
        return "; ".join(lines) or "no layer reports its precision"


def read_report(text: str) -> EngineReport:
    """Parse ``get_engine_information(LayerInformationFormat.JSON)`` of an engine built with detailed verbosity.

    A layer has the precision of its weights, or, without weights, of its first output that is no integer. Bytes are
    those of weights and outputs.

    Raises:
        CheckFailed: no JSON, or an engine that was built without details.
    """
    try:
        content = parse_json(text, "the engine inspector", foreign=True)
    except BadInput as error:
        raise CheckFailed(f"the engine inspector gave no JSON with layers ({error}): {text[:200]!r}") from error
    if not isinstance(content, dict) or "Layers" not in content:
        raise CheckFailed(f"the engine inspector gave no JSON with layers: {text[:200]!r}")
    layers = content["Layers"]
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise CheckFailed("the engine inspector names layers only: the engine was not built with detailed verbosity")
    counts: dict[str, list[int]] = {}
    unknown = 0
    for layer in layers:
        weights = [layer[key] for key in ("Weights", "Bias") if isinstance(layer.get(key), dict)]
        outputs = [(precision_of(tensor), _elements(tensor)) for tensor in _list(layer.get("Outputs"))]
        weighed = [(_precision(str(w.get("Type", ""))), _count(w.get("Count"))) for w in weights]
        main = _first(p for p, count in weighed[:1] if count) or _first(p for p, _ in outputs)
        if main is None:
            unknown += 1
            continue
        counts.setdefault(main, [0, 0, 0])[0] += 1
        for precision, count in weighed:
            if precision:
                counts.setdefault(precision, [0, 0, 0])[1] += count
        for precision, count in (*weighed, *outputs):
            if precision:
                counts.setdefault(precision, [0, 0, 0])[2] += count * _BITS[precision] // 8
    return EngineReport(_shares(counts), unknown)


def require_precision(report: EngineReport, asked: str) -> None:
    """Raises CheckFailed where the engine has less of the precision asked for (``fp16``, say) than it must have."""
    name, least_weights, least_bytes = _EXPECTED[asked]
    got = report.share(name)
    by_weights = any(share.weights for share in report.shares)
    measured, least = (got.weight_share, least_weights) if by_weights else (got.byte_share, least_bytes)
    if measured < least:
        raise CheckFailed(
            f"the engine was to compute in {asked}, but {name} has {measured:.1%} of its "
            f"{'weights' if by_weights else 'bytes'}, at least {least:.0%} were expected ({report.describe()}); "
            f"precision lives in the ONNX file: export that with --precision {asked}"
        )


def precision_of(tensor: Any) -> str | None:
    """``FP16``, say, from a tensor's entry: TensorRT 10 has ``Format/Datatype``, 11 a ``DataType`` of its own; None for
    integers, and where TensorRT does not report it.
    """
    if not isinstance(tensor, dict):
        return None
    for key in ("DataType", "Datatype", "Format/Datatype", "Format"):
        if key in tensor:
            return _precision(str(tensor[key]))
    return None


def _precision(text: str) -> str | None:
    for pattern, name in _PATTERNS:
        if re.search(pattern, text, flags=re.IGNORECASE):
            return name
    return None


def _elements(tensor: Any) -> int:
    """0 where a dimension is not known."""
    dimensions = _list(tensor.get("Dimensions")) if isinstance(tensor, dict) else []
    known = all(isinstance(d, int) and 0 <= d < _MOST for d in dimensions) and len(dimensions) <= _MOST_DIMENSIONS
    return math.prod(dimensions) if known else 0


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(value: Any) -> int:
    """0 where it is no number of weights."""
    return value if isinstance(value, int) and 0 <= value < _MOST else 0


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value is not None), None)


def _shares(counts: dict[str, list[int]]) -> tuple[PrecisionShare, ...]:
    totals = [max(1, sum(values)) for values in zip(*counts.values(), strict=True)] if counts else []
    rows = []
    for precision, values in counts.items():
        layers, weights, size = values
        shares = [value / total for value, total in zip(values, totals, strict=True)]
        rows.append(PrecisionShare(precision, layers, shares[0], weights, shares[1], size, shares[2]))
    return tuple(sorted(rows, key=lambda row: (-row.bytes, row.precision)))
