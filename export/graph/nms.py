"""NMS for the exporter: what the custom operators of :mod:`aweigh.train.dense.nms` become in the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnx import TensorProto, helper
from onnxscript import opset20 as op

import aweigh.train.dense.nms  # noqa: F401  registers torch.ops.aweigh

_ONE = helper.make_tensor("one", TensorProto.INT32, [1], [1])
_ZERO = helper.make_tensor("zero", TensorProto.INT32, [1], [0])


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """``custom_translation_table`` of torch.onnx.export."""
    return {
        torch.ops.aweigh.nms_keep.default: nms_keep_onnx,
        torch.ops.aweigh.last_rounds.default: last_rounds_onnx,
        torch.ops.aten.div.Tensor_mode: whole_division_onnx,
    }


def whole_division_onnx(dividend: Any, divisor: Any, rounding_mode: str) -> Any:
    """Of integers, as :func:`aweigh.train.dense.postprocess.top_pairs` needs it; the exporter's own goes by floats."""
    assert rounding_mode == "trunc"
    assert dividend.dtype.is_integer()
    return op.Div(dividend, divisor)


def last_rounds_onnx(every: Any, step: Any, rounds: int) -> tuple[Any, Any]:
    """The rounds of the matrix form one after the other: a loop would be a graph of its own that waits for the host."""
    keep = previous = every
    for _ in range(rounds):
        previous, keep = keep, op.Relu(op.MatMul(keep, step))
    return keep, previous


def nms_keep_onnx(
    boxes_xyxy: Any, scores: Any, labels: Any, iou_threshold: float, num_classes: int, max_det: int
) -> Any:
    """keep [B, K] bool from boxes [B, K, 4], scores [B, K] and labels [B, K].

    Classes are kept apart by the operator's own axis of classes, a score of 0 everywhere but in the box's class. The
    usual trick, boxes shifted by label * size, would cost digits: at label 80 of a 640 px input a coordinate is only
    known to 0.004 px. The operator reads corners as y1 x1 y2 x2; exchanging x and y changes no IoU.
    """
    classes = op.Constant(value=helper.make_tensor("classes", TensorProto.INT64, [num_classes, 1], range(num_classes)))
    one = op.Constant(value_ints=[1])
    own_class = op.Equal(op.Unsqueeze(labels, one), classes)  # [B, C, K]
    per_class = op.Where(own_class, op.Unsqueeze(scores, one), op.Constant(value_float=0.0))
    selected = op.NonMaxSuppression(
        boxes_xyxy,
        per_class,
        op.Constant(value_ints=[max_det]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[0.0]),  # scores strictly above it: rows without a candidate are left out
    )
    index = op.Gather(selected, op.Constant(value_ints=[0, 2]), axis=1)  # (image, box) of each survivor
    ones = op.ConstantOfShape(op.Shape(index, start=0, end=1), value=_ONE)
    # Scattered as int32: TensorRT's ScatterND takes no booleans.
    keep = op.ScatterND(op.ConstantOfShape(op.Shape(scores), value=_ZERO), index, ones)
    return op.Cast(keep, to=TensorProto.BOOL)
