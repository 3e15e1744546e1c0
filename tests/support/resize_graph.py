"""The graph that resizes on a device, runtime/device_images/resize.onnx: OpenCV's INTER_LINEAR for 8 bits, to the bit.

    python tests/support/resize_graph.py      writes it anew; a test holds the file to what is made here

OpenCV works in whole numbers: columns first, weights of 2048ths, then rows, a rounding at the end. So does the graph.
Which pixels meet, and with which weights, is computed on the host (device_images/taps.py) and given as inputs.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, checker, helper

PATH = Path(__file__).parents[2] / "runtime" / "device_images" / "resize.onnx"
OPSET, IR_VERSION = 18, 9


def resize_graph() -> onnx.ModelProto:
    def port(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, list(shape))

    def number(name: str, value: int) -> onnx.TensorProto:
        return helper.make_tensor(name, TensorProto.INT32, [], [value])

    node = helper.make_node
    nodes = [
        # Decoders may leave room at the end of a row.
        node("Slice", ["image_u8", "zero", "row_bytes", "one"], ["rows_u8"]),
        node("Reshape", ["rows_u8", "stored_hwc"], ["stored_u8"]),
        node("Cast", ["stored_u8"], ["stored"], to=TensorProto.INT32),
        node("Gather", ["stored", "column_first"], ["left"], axis=1),
        node("Gather", ["stored", "column_second"], ["right"], axis=1),
        node("Mul", ["left", "column_near"], ["left_share"]),
        node("Mul", ["right", "column_far"], ["right_share"]),
        node("Add", ["left_share", "right_share"], ["wide"]),
        node("Div", ["wide", "sixteen"], ["stretched"]),
        node("Gather", ["stretched", "row_first"], ["upper"], axis=0),
        node("Gather", ["stretched", "row_second"], ["lower"], axis=0),
        node("Mul", ["upper", "row_near"], ["upper_share"]),
        node("Mul", ["lower", "row_far"], ["lower_share"]),
        node("Div", ["upper_share", "two_to_16"], ["upper_quarters"]),
        node("Div", ["lower_share", "two_to_16"], ["lower_quarters"]),
        node("Add", ["upper_quarters", "lower_quarters"], ["quarters"]),
        node("Add", ["quarters", "two"], ["rounded"]),
        node("Div", ["rounded", "four"], ["content"]),
        # Where weights are 0 lies the padding: its grey level in a row or in a column, 0 elsewhere.
        node("Max", ["row_padding", "column_padding"], ["padding"]),
        node("Add", ["content", "padding"], ["padded"]),
        node("Cast", ["padded"], ["input_u8"], to=TensorProto.UINT8),
    ]
    inputs = [
        port("image_u8", TensorProto.UINT8, "stored_h", "stride"),
        port("row_bytes", TensorProto.INT64, 1),
        port("stored_hwc", TensorProto.INT64, 3),
    ]
    for axis, shape in (("column", ("w", 1)), ("row", ("h", 1, 1))):
        inputs += [port(f"{axis}_{which}", TensorProto.INT64, shape[0]) for which in ("first", "second")]
        inputs += [port(f"{axis}_{which}", TensorProto.INT32, *shape) for which in ("near", "far", "padding")]
    graph = helper.make_graph(
        nodes,
        "resize",
        inputs,
        [port("input_u8", TensorProto.UINT8, "h", "w", 3)],
        [
            helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            number("sixteen", 16),
            number("two_to_16", 1 << 16),
            number("two", 2),
            number("four", 4),
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="aweigh"
    )
    checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    PATH.write_bytes(resize_graph().SerializeToString(deterministic=True))
