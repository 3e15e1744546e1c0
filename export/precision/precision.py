"""What a precision asks for, whether it may be had, and whether the graph has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from aweigh.export.graph.layers import convolutions
from aweigh.export.graph.operators import check_operators
from aweigh.export.precision.encoding import Encoding
from aweigh.runtime.errors import BadInput, CheckFailed
from aweigh.runtime.images.preprocess import prepare
from aweigh.runtime.spec import PRECISION_KEY, InputSpec, ModelSpec
from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split, read_record

PRECISION_SCHEMA = "1.0"
# AP on BCCD moved less between 16 and 64 pictures than between two seeds; more costs 0.3 s each.
CALIBRATION_PICTURES = 64
_ELEMENTS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@dataclass(frozen=True)
class Calibration:
    """Network inputs [H, W, 3] uint8 that ranges are measured on, and where they come from."""

    pictures_u8: Sequence[npt.NDArray[np.uint8]]
    split: str
    digest: str


@dataclass(frozen=True)
class Lowering:
    """What ``ModelSpec.precision`` leaves open.

    Attributes:
        keep_high: layers, or folders of layers, that stay in FP32.
        encoding: of int8.
        calibration: of int8.
    """

    keep_high: tuple[str, ...] = ()
    encoding: Encoding = "onnxruntime"
    calibration: Calibration | None = None


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
    high: tuple[str, ...] = field(default_factory=tuple)


def choose_lowering(
    spec: ModelSpec,
    data: str | None,
    keep_high: tuple[str, ...] = (),
    calib: int | None = None,
    encoding: Encoding | None = None,
    for_engine: bool = False,
) -> Lowering:
    """From the flags; reads the calibration pictures of int8.

    Args:
        data: data set whose split ``train`` int8 is calibrated on.
        calib: pictures; None is the default.
        encoding: None is that of the target.
        for_engine: whether TensorRT will run the graph, or ONNX Runtime.

    Raises:
        BadInput: flags that do not go together, or that lack another.
    """
    precision = spec.precision
    if precision == "bf16" and not for_engine:
        raise BadInput(
            "--precision bf16: is for engines; ONNX Runtime has no bfloat16 convolution on a CPU, so that nothing "
            "could be compared here. Take --precision fp16, which TensorRT runs as fast"
        )
    if precision == "fp32" and keep_high:
        raise BadInput(f"--keep-high {','.join(keep_high)}: with --precision fp32 every layer is kept high")
    if precision != "int8":
        for flag, value in (("--calib", calib), ("--int8-encoding", encoding)):
            if value is not None:
                raise BadInput(f"{flag} {value}: belongs to --precision int8, got --precision {precision}")
        return Lowering(keep_high)
    if data is None:
        raise BadInput("--precision int8: ranges are measured on pictures; give --data DIR with a split train")
    if calib is not None and calib < 1:
        raise BadInput(f"--calib {calib}: expected at least 1 picture")
    calibration = calibration_pictures(load_split(data, "train"), spec.input, calib or CALIBRATION_PICTURES)
    return Lowering(keep_high, encoding or ("tensorrt" if for_engine else "onnxruntime"), calibration)


def count_precision(model: onnx.ModelProto, precision: str) -> PrecisionCount:
    """Looks at the graph alone: types of weights, and what feeds each convolution."""
    inferred = onnx.shape_inference.infer_shapes(model)
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.graph.value_info, *inferred.graph.output)}
    types |= {i.name: i.data_type for i in model.graph.initializer}
    producers = {name: node.op_type for node in model.graph.node for name in node.output}
    lowered: dict[str, bool] = {}
    counted = 0
    for layer, node in convolutions(model.graph):
        if precision == "int8":
            low = all(producers.get(name) == "DequantizeLinear" for name in node.input[:2])
        else:
            low = precision in _ELEMENTS and types.get(node.input[1]) == _ELEMENTS[precision]
        counted += low
        lowered[layer] = low
    operators = [node.op_type for node in model.graph.node]
    return PrecisionCount(
        operators.count("Conv"),
        counted,
        operators.count("QuantizeLinear"),
        operators.count("DequantizeLinear"),
        sum(any(types.get(name) in _ELEMENTS.values() for name in node.output) for node in model.graph.node),
        tuple(layer for layer, low in lowered.items() if not low),
    )


def require_lowered(model: onnx.ModelProto, precision: str) -> PrecisionCount:
    """The counts. Raises CheckFailed where no convolution has the precision asked for."""
    count = count_precision(model, precision)
    if precision != "fp32" and count.lowered == 0:
        raise CheckFailed(
            f"--precision {precision}: none of {count.convolutions} convolutions has it; keep fewer layers high"
        )
    return count


def require_operators(model: onnx.ModelProto) -> None:
    """Raises BadInput where an operator is given bfloat16 that has no such form in TensorRT."""
    report = check_operators(model)
    without = [f"{f.operator} {f.node}" for f in report.findings if "BF16" in f.problem]
    if without:
        raise BadInput(
            f"--precision bf16: TensorRT {report.tensorrt} has no bfloat16 form of {', '.join(without)}; take fp16"
        )


def calibration_pictures(split: Split, spec: InputSpec, count: int) -> Calibration:
    """``count`` pictures of a split, evenly spaced, prepared as for the network. Raises BadInput for an empty split."""
    if not split.records:
        raise BadInput(f"split {split.name!r} has no pictures to calibrate on")
    chosen = np.unique(np.linspace(0, len(split.records) - 1, count).round().astype(int))
    images = [prepare(read_record(split.records[i]), spec)[0] for i in chosen]
    return Calibration(images, split.name, split.digest())


def precision_metadata(precision: str, lowering: Lowering, count: PrecisionCount) -> dict[str, str]:
    """The file's own note on how its precision came about; nothing for fp32."""
    if precision == "fp32":
        return {}
    note: dict[str, Any] = {"schema": PRECISION_SCHEMA, "precision": precision, **asdict(count)}
    if precision == "int8":
        assert lowering.calibration is not None
        note["encoding"] = lowering.encoding
        note["calibration"] = {
            "method": "min-max",
            "pictures": len(lowering.calibration.pictures_u8),
            "split": lowering.calibration.split,
            "data_digest": lowering.calibration.digest,
        }
    return {PRECISION_KEY: json.dumps(note, ensure_ascii=False)}
