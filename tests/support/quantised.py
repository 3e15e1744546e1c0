"""A convolution in INT8 as a file has it, for tests of what a CPU makes of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper


def quantised_convolution(weight: npt.NDArray[np.int8]) -> bytes:
    """x [1, C, 8, 8] rounded by steps of 1 to uint8 around 128, convolved, the sums rounded by steps of 512."""
    constants = {
        "one": np.float32(1),
        "step": np.float32(512),
        "middle": np.uint8(128),
        "ones": np.ones(len(weight), np.float32),
        "zeros": np.zeros(len(weight), np.int8),
        "weight": weight,
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "middle"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "one", "middle"], ["xd"]),
        helper.make_node("DequantizeLinear", ["weight", "ones", "zeros"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["y"]),
        helper.make_node("QuantizeLinear", ["y", "step", "middle"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "step", "middle"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, weight.shape[1], 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())
