"""A small real detector for tests: it finds what is red in an image."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from aweigh.runtime.spec import Category, InputSpec, ModelSpec, PostSpec

MAX_DET = 4


class _Graph:
    """Nodes and constants, with names made up on the way."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: Any) -> str:
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"node_{output}", **attributes))
        return output


def red_graph(spec: ModelSpec, batch: int | str, height: int | str, width: int | str) -> onnx.ModelProto:
    """Two detections per picture with red (> 200) in it: its bounding box (label 1, score red / 255), listed second,
    and the left half of that box (label 0, half the score), listed first. Blue above 250 stands for NMS that does not
    settle.
    """
    g = _Graph()
    planes = g.op("Transpose", g.op("Cast", "images", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    kernel = g.constant([[[[1.0]], [[0.0]], [[0.0]]]], np.float32)
    red = g.op("Squeeze", g.op("Conv", planes, kernel), g.constant([1], np.int64))  # [B, H, W]
    mask = g.op("Cast", g.op("Greater", red, g.constant(200, np.float32)), to=TensorProto.FLOAT)
    rows = g.op("ReduceMax", mask, g.constant([2], np.int64), keepdims=0)
    columns = g.op("ReduceMax", mask, g.constant([1], np.int64), keepdims=0)
    found = g.op("Cast", g.op("ReduceMax", rows, g.constant([1], np.int64), keepdims=1), to=TensorProto.INT64)

    def edge(line: str, last: int) -> str:
        position = g.op("ArgMax", line, axis=1, keepdims=1, select_last_index=last)
        return g.op("Cast", g.op("Add", position, g.constant(last, np.int64)), to=TensorProto.FLOAT)

    left, top, right, bottom = edge(columns, 0), edge(rows, 0), edge(columns, 1), edge(rows, 1)
    middle = g.op("Mul", g.op("Add", left, right), g.constant(0.5, np.float32))
    seen = g.op("Cast", found, to=TensorProto.FLOAT)  # [B, 1], 0 or 1
    highest = g.op("ReduceMax", red, g.constant([1, 2], np.int64), keepdims=0)
    score = g.op("Unsqueeze", g.op("Div", highest, g.constant(255, np.float32)), g.constant([1], np.int64))
    score = g.op("Mul", score, seen)
    half = g.op("Mul", score, g.constant(0.5, np.float32))
    whole_box = g.op("Concat", left, top, right, bottom, axis=1)
    half_box = g.op("Concat", left, top, middle, bottom, axis=1)
    one = g.constant([1], np.int64)
    boxes = g.op("Concat", g.op("Unsqueeze", half_box, one), g.op("Unsqueeze", whole_box, one), axis=1)
    boxes = g.op("Mul", boxes, g.op("Unsqueeze", seen, one))
    scores = g.op("Concat", half, score, axis=1)
    outputs = [("boxes", TensorProto.FLOAT, [batch, "K", 4]), ("scores", TensorProto.FLOAT, [batch, "K"])]
    if spec.post.kind == "raw":
        g.op("Identity", boxes, output="boxes")
        g.op("Concat", *[g.op("Unsqueeze", scores, g.constant([2], np.int64))] * 2, axis=2, output="scores")
        outputs[1] = ("scores", TensorProto.FLOAT, [batch, "K", 2])
    else:
        spare = MAX_DET - 2
        g.op("Pad", boxes, g.constant([0, 0, 0, 0, spare, 0], np.int64), output="boxes")
        g.op("Pad", scores, g.constant([0, 0, 0, spare], np.int64), output="scores")
        # label + 1, times seen, minus 1: -1 where nothing was found.
        labels = g.op("Mul", found, g.constant([[1, 2, 0, 0]], np.int64))
        g.op("Sub", labels, one, output="labels")
        g.op("Squeeze", g.op("Mul", found, g.constant(2, np.int64)), one, output="num_dets")
        outputs += [("labels", TensorProto.INT64, [batch, MAX_DET]), ("num_dets", TensorProto.INT64, [batch])]
    if spec.post.nms_form == "matrix":
        blue_kernel = g.constant([[[[0.0]], [[0.0]], [[1.0]]]], np.float32)
        blue = g.op("ReduceMax", g.op("Conv", planes, blue_kernel), g.constant([1, 2, 3], np.int64), keepdims=0)
        g.op("Less", blue, g.constant(250, np.float32), output="converged")
        outputs.append(("converged", TensorProto.BOOL, [batch]))
    graph = helper.make_graph(
        g.nodes,
        "red",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, height, width, 3])],
        [helper.make_tensor_value_info(*output) for output in outputs],
        g.initializers,
    )
    model = helper.make_model(graph, producer_name="tests", opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def red_spec(**changes: Any) -> ModelSpec:
    """The contract of ``red_graph``; ``input`` and ``post`` take dictionaries of changes."""
    input_changes, post_changes = changes.pop("input", {}), changes.pop("post", {})
    spec = ModelSpec(
        method="red",
        architecture="one convolution",
        categories=(Category(17, "left half"), Category(3, "whole")),
        input=dataclasses.replace(InputSpec(size_hw=(64, 96), pad_value=0), **input_changes),
        post=dataclasses.replace(PostSpec(kind="none", score_threshold=0.05, max_det=MAX_DET), **post_changes),
        batch=(1, 4),
        parents={"commit": "abc"},
        versions={"onnx": onnx.__version__},
    )
    return dataclasses.replace(spec, **changes)


def red_picture(
    hw: tuple[int, int] = (128, 192), box_xyxy: tuple[int, int, int, int] = (20, 30, 100, 90), red: int = 255
) -> npt.NDArray[np.uint8]:
    """Grey with one red box, RGB."""
    image = np.full((*hw, 3), 60, np.uint8)
    left, top, right, bottom = box_xyxy
    image[top:bottom, left:right] = (red, 0, 0)
    return image
