"""Whether half precision holds what a file computes in it.

ONNX Runtime on a CPU computes a file's FP16 layers in float32 and rounds only where values leave them for good, so that
one that overflows on a GPU gives finite values here. Each tensor of 16 bits is looked at for its largest value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from aweigh.export.graph.inference import with_types
from aweigh.export.graph.layers import convolutions
from aweigh.export.precision.table import graph_precision
from aweigh.export.proof.checks import Check, Part
from aweigh.export.proof.sides import OnnxSide, session_of
from aweigh.runtime.backends.base import INPUT_NAME, own_errors
from aweigh.runtime.files.golden import Golden

_SIXTEEN_BITS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def check_range(subject: OnnxSide, images: Sequence[Golden]) -> list[Check]:
    """The largest value of a tensor of 16 bits, over the images; nothing to check in other precisions.

    It may be half of what overflows. Measured on BCCD: the largest value of one layer was 84,700 on six images and
    104,000 on six others, and a layer at 58,900 passed.
    """
    limit = graph_precision(subject.spec.precision).largest_safe
    if math.isinf(limit):
        return []
    model = with_types(subject.model)
    places = _with_maxima(model)
    if not places:  # the file is not in the precision that it names: another check fails
        return []
    session = session_of(model, subject.threads, subject.device)
    largest, where = 0.0, "nothing in 16 bits"
    for image in images:
        feed = {INPUT_NAME: image.image_u8[None].repeat(subject.spec.batch[0], axis=0)}
        with own_errors(subject.runs_in, len(feed[INPUT_NAME])):
            values = session.run(list(places), feed)
        for name, value in zip(places, values, strict=True):
            found = math.inf if np.isnan(value) else float(value)
            if found > largest:
                largest, where = found, places[name]
    measured = f"largest {largest:.3g} ({where})"
    return [Check("range", largest <= limit, measured, f"at most {limit:g} in tensors of 16 bits", Part.TENSORS)]


def _with_maxima(model: ir.Model) -> dict[str, str]:
    """Add the largest absolute value of each tensor of 16 bits to the outputs, in place.

    Returns the convolution that each comes from or behind, by name of the output.
    """
    graph = model.graph
    layers = {node: layer for layer, node in convolutions(graph)}
    places: dict[str, str] = {}
    layer = "before all layers"
    for node in list(graph):
        layer = layers.get(node, layer)
        for value in node.outputs:
            if value.dtype not in _SIXTEEN_BITS:
                continue
            as_float, absolute = ir.val(f"{value.name}_f32"), ir.val(f"{value.name}_abs")
            largest = ir.val(f"{value.name}_largest", ir.DataType.FLOAT, ir.Shape([]))
            graph.extend(
                [
                    ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value}, outputs=[as_float]),
                    ir.node("Abs", [as_float], outputs=[absolute]),
                    ir.node("ReduceMax", [absolute], {"keepdims": 0}, outputs=[largest]),
                ]
            )
            graph.outputs.append(largest)
            assert largest.name is not None
            places[largest.name] = layer
    return places
