"""The precisions that a graph can be exported in: one entry each, which knows all that is particular to it.

Everywhere else a precision is looked up here (:func:`graph_precision`); nothing compares its name.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir
import torch

from aweigh.export.graph.inference import dtype_of
from aweigh.export.graph.operators import check_operators
from aweigh.export.precision.calibration import MISSING
from aweigh.export.precision.encoding import for_onnxruntime, for_tensorrt
from aweigh.export.precision.half import lowered, rounded
from aweigh.export.precision.lowering import Lowering
from aweigh.export.precision.quantize import quantized
from aweigh.runtime.errors import BadInput
from aweigh.runtime.precision import Precision
from aweigh.train.models.detector import DenseDetector

# The newest that TensorRT 10.13 and onnxruntime 1.20 read alike; 21 would bring GroupNormalization, which onnxruntime
# computes by a slower expansion on a CPU.
OPSET = 20


@dataclass(frozen=True)
class GraphPrecision:
    """What an export has to know about a precision. Without changes: float32, the trained model's own.

    Attributes:
        name: as in ``ModelSpec.precision``.
        opset: of the graph.
        lowers: whether anything is computed below float32, so that layers can be kept high.
        calibrated: whether ranges are measured on images.
        comparable_here: whether ONNX Runtime computes it on a CPU, so that a receipt can be made of the ONNX file.
        rounding: error of a layer that rounding explains, relative to the root mean square of its values.
        largest: absolute value above which a number overflows.
        evidence: the nodes that show it, for a receipt; a format of the fields of ``PrecisionCount``.
        widest: whose tolerances a receipt's limits may reach where the trained model, rounded by itself (``rounded``),
            moves so far; None for limits that are fixed.
    """

    name: Precision
    opset: int = OPSET
    lowers: bool = False
    calibrated: bool = False
    comparable_here: bool = True
    rounding: float = 0.0
    largest: float = math.inf
    evidence: str = "{sixteen_bit_nodes} nodes in 16 bits"
    widest: Precision | None = None

    @property
    def largest_safe(self) -> float:
        """Half of what overflows: other images than those that were looked at may show larger values."""
        return self.largest / 2

    def lower(self, detector: DenseDetector, keep_high: Collection[str]) -> DenseDetector:
        """The detector that is traced: the one given, or a copy in another type."""
        return detector

    def rounded(self, detector: DenseDetector, keep_high: Collection[str]) -> DenseDetector:
        """The detector that rounds as a file does, and computes in FP32: the one given, or a copy."""
        return detector

    def rewrite(self, model: ir.Model, lowering: Lowering, smallest_batch: int) -> ir.Model:
        """The traced graph in this precision.

        Raises:
            BadInput: a graph that cannot have it, or a lowering that lacks something.
        """
        return model

    def is_low(self, convolution: ir.Node) -> bool:
        """Whether a convolution of a graph with types (``with_types``) is computed in this precision."""
        return False


@dataclass(frozen=True)
class SixteenBits(GraphPrecision):
    """Convolutions and norms in a 16-bit float, set in torch before tracing.

    Attributes:
        dtype, element: the type of the weights, in torch and in the graph.
    """

    lowers: bool = True
    dtype: torch.dtype = torch.float16
    element: ir.DataType = ir.DataType.FLOAT16

    def lower(self, detector: DenseDetector, keep_high: Collection[str]) -> DenseDetector:
        return lowered(detector, self.dtype, keep_high)

    def rounded(self, detector: DenseDetector, keep_high: Collection[str]) -> DenseDetector:
        return rounded(detector, self.dtype, keep_high)

    def is_low(self, convolution: ir.Node) -> bool:
        return dtype_of(convolution.inputs[1]) == self.element


@dataclass(frozen=True)
class BFloat16(SixteenBits):
    """As FP16, for engines only: ONNX Runtime has no bfloat16 convolution on a CPU, TensorRT not every operator."""

    def rewrite(self, model: ir.Model, lowering: Lowering, smallest_batch: int) -> ir.Model:
        require_bfloat16(model)
        return model


@dataclass(frozen=True)
class Int8(GraphPrecision):
    """Q/DQ around convolutions, put in after tracing."""

    lowers: bool = True
    calibrated: bool = True
    evidence: str = "{quantize_nodes} Q and {dequantize_nodes} DQ nodes"

    def rewrite(self, model: ir.Model, lowering: Lowering, smallest_batch: int) -> ir.Model:
        if lowering.calibration is None:
            raise BadInput(f"--precision {self.name}: {MISSING}")
        model = quantized(model, lowering.calibration.images_u8, smallest_batch, lowering.keep_high)
        return for_onnxruntime(model) if lowering.encoding == "onnxruntime" else for_tensorrt(model)

    def is_low(self, convolution: ir.Node) -> bool:
        producers = [value.producer() if value else None for value in convolution.inputs[:2]]
        return all(node is not None and node.op_type == "DequantizeLinear" for node in producers)


_ENTRIES = (
    GraphPrecision("fp32"),
    SixteenBits("fp16", rounding=0.01, largest=65504.0, widest="bf16"),
    # Convolutions in bfloat16 came with opset 22.
    BFloat16("bf16", opset=22, comparable_here=False, dtype=torch.bfloat16, element=ir.DataType.BFLOAT16),
    Int8("int8", rounding=0.25),
)
TABLE: dict[str, GraphPrecision] = {entry.name: entry for entry in _ENTRIES}


def graph_precision(name: str) -> GraphPrecision:
    """The entry of a precision. Raises KeyError for a name that ``ModelSpec`` would refuse as well."""
    return TABLE[name]


def require_bfloat16(model: ir.Model) -> None:
    """Raises BadInput where an operator is given bfloat16 that has no such form in TensorRT."""
    report = check_operators(model)
    without = [f"{f.operator} {f.node}" for f in report.findings if "BF16" in f.problem]
    if without:
        raise BadInput(
            f"--precision bf16: TensorRT {report.tensorrt} has no bfloat16 form of {', '.join(without)}; take fp16"
        )
