"""How much of a graph is in the precision that it was exported in, read off the graph."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import onnx_ir as ir

from aweigh.export.graph.inference import with_types
from aweigh.export.graph.layers import convolutions
from aweigh.export.precision.lowering import Lowering
from aweigh.export.precision.table import graph_precision
from aweigh.runtime.errors import CheckFailed
from aweigh.runtime.spec import PRECISION_KEY

PRECISION_SCHEMA = "1.0"
_SIXTEEN_BITS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class PrecisionCount:
    """How much of a graph is in low precision.

    Attributes:
        convolutions: all; lowered: those computed in the precision asked for.
        quantize_nodes, dequantize_nodes: Q and DQ nodes.
        sixteen_bit_nodes: nodes with an output in half or bfloat16.
        high: layers left in FP32.
    """

    convolutions: int = 0
    lowered: int = 0
    quantize_nodes: int = 0
    dequantize_nodes: int = 0
    sixteen_bit_nodes: int = 0
    high: tuple[str, ...] = ()


def count_precision(model: ir.Model, precision: str, typed: bool = False) -> PrecisionCount:
    """Looks at the graph only: types of weights, and what feeds each convolution.

    ``typed``: the model is one of ``with_types``.
    """
    entry = graph_precision(precision)
    graph = (model if typed else with_types(model)).graph
    layers = [(layer, entry.is_low(node)) for layer, node in convolutions(graph)]
    operators = [node.op_type for node in graph]
    return PrecisionCount(
        len(layers),
        sum(low for _, low in layers),
        operators.count("QuantizeLinear"),
        operators.count("DequantizeLinear"),
        sum(any(value.dtype in _SIXTEEN_BITS for value in node.outputs) for node in graph),
        tuple(layer for layer, low in dict(layers).items() if not low),
    )


def require_lowered(model: ir.Model, precision: str) -> PrecisionCount:
    """The counts. Raises CheckFailed where no convolution has the precision asked for."""
    count = count_precision(model, precision)
    if graph_precision(precision).lowers and count.lowered == 0:
        raise CheckFailed(
            f"--precision {precision}: none of {count.convolutions} convolutions has it; keep fewer layers high"
        )
    return count


def precision_metadata(precision: str, lowering: Lowering, count: PrecisionCount) -> dict[str, str]:
    """The file's own note on how its precision came about; empty for the trained model's own."""
    if not graph_precision(precision).lowers:
        return {}
    note = {"schema": PRECISION_SCHEMA, "precision": precision, **asdict(count), **lowering.to_dict()}
    return {PRECISION_KEY: json.dumps(note, ensure_ascii=False)}
