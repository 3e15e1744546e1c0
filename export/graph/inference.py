"""Types and shapes of all tensors of a graph."""

from __future__ import annotations

import onnx
import onnx_ir as ir


def with_types(model: ir.Model) -> ir.Model:
    """A copy in which every tensor has the type and the shape that ONNX's own inference gives it."""
    return ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model), data_prop=True))


def dtype_of(value: ir.Value | None) -> ir.DataType | None:
    """The type of a tensor's elements; None where it is not known, and of an input that is left out."""
    if value is None:
        return None
    return value.const_value.dtype if value.const_value is not None else value.dtype
