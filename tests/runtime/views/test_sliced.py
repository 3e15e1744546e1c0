"""Slicing with a real model that finds planted objects: each colour (20, 40, ... in green, under full red) is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aweigh.runtime import BadInput, Detector
from aweigh.runtime.spec import METADATA_KEY, ModelSpec
from aweigh.runtime.views.sliced import Sliced

COLOURS = 12
TILE = 96


def planted_model(spec: ModelSpec) -> onnx.ModelProto:
    """One detection per colour in the picture: the box around it, the blue of it / 255 as score, less up to a quarter
    by its share of the input (so that a part of an object scores more than the whole), and label 0 or 1 in turns.
    """
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def const(value: Any, dtype: Any = np.int64) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(constants)}"))
        return constants[-1].name

    def op(kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        name = name or f"t{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    planes = op("Transpose", op("Cast", "images", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    red, green, blue = (
        op("Slice", planes, const([i]), const([i + 1]), const([1])) for i in range(3)
    )  # [B, 1, H, W] each
    wanted = const(20.0 * np.arange(COLOURS).reshape(1, -1, 1, 1), np.float32)
    same = op("Less", op("Abs", op("Sub", green, wanted)), const(6, np.float32))
    mask = op("Cast", op("And", same, op("Greater", red, const(250, np.float32))), to=TensorProto.FLOAT)  # [B,K,H,W]

    def ends(axis: int) -> list[str]:
        line = op("ReduceMax", mask, const([axis]), keepdims=0)
        return [
            op(
                "Cast",
                op("Add", op("ArgMax", line, axis=2, keepdims=1, select_last_index=last), const(last)),
                to=TensorProto.FLOAT,
            )
            for last in (0, 1)
        ]

    (left, right), (top, bottom) = ends(2), ends(3)
    seen = op("ReduceMax", mask, const([2, 3]), keepdims=0)  # [B, K] 0 or 1
    share = op("ReduceMean", mask, const([2, 3]), keepdims=0)
    brightness = op("Div", op("ReduceMax", op("Mul", mask, blue), const([2, 3]), keepdims=0), const(255, np.float32))
    lessened = op("Mul", brightness, op("Sub", const(1, np.float32), op("Mul", share, const(0.25, np.float32))))
    scores, order = "scores", "order"
    nodes.append(helper.make_node("TopK", [op("Mul", lessened, seen), const([COLOURS])], [scores, order], axis=1))
    boxes = op("Mul", op("Concat", left, top, right, bottom, axis=2), op("Unsqueeze", seen, const([2])))
    index = op("Expand", op("Unsqueeze", order, const([2])), const([1, 1, 4]))
    op("GatherElements", boxes, index, axis=1, name="boxes")
    held = op("Cast", op("Greater", scores, const(0, np.float32)), to=TensorProto.INT64)
    label = op("Add", op("Mod", order, const(2)), const(1))
    op("Sub", op("Mul", label, held), const(1), name="labels")
    op("ReduceSum", held, const([1]), keepdims=0, name="num_dets")
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", *spec.input.size_hw, 3])],
        [
            helper.make_tensor_value_info("num_dets", TensorProto.INT64, ["B"]),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["B", COLOURS, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["B", COLOURS]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["B", COLOURS]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    return model


@pytest.fixture
def planted(tmp_path: Path, make_spec: Callable[..., ModelSpec]) -> Path:
    spec = make_spec(input={"size_hw": (TILE, TILE)}, post={"max_det": COLOURS})
    path = tmp_path / "planted.onnx"
    onnx.save(planted_model(spec), str(path))
    return path


def scene(hw: tuple[int, int], objects: dict[int, tuple[int, int, int, int]]) -> np.ndarray:
    image = np.full((*hw, 3), 60, np.uint8)
    for colour, (x1, y1, x2, y2) in objects.items():
        image[y1:y2, x1:x2] = (255, 20 * colour, 255 - 8 * colour)
    return image


# Tiles of 96 with an overlap of a fifth begin at 0, 76, 152, ... and, last, at 404 across and 304 down.
OBJECTS = {
    0: (10, 10, 28, 26),  # in one tile
    1: (80, 40, 92, 52),  # whole in two tiles
    2: (70, 70, 88, 88),  # across two edges; whole in one of four tiles
    3: (88, 130, 106, 148),  # cut by the right edge of the first column
    4: (150, 150, 160, 168),  # at an edge exactly
    5: (482, 382, 500, 400),  # in the corner of the picture
    6: (0, 200, 12, 214),
    7: (396, 296, 414, 312),  # across the edges of the last tiles, which are moved inwards
    8: (240, 240, 252, 262),
}
LARGE = (180, 20, 380, 70)  # larger than the overlap, and than a tile


def by_box(found: Any) -> dict[tuple[int, ...], tuple[int, float]]:
    rows = zip(found.xyxy.tolist(), found.cls.tolist(), found.conf.tolist(), strict=True)
    result = {tuple(map(round, box)): (cls, conf) for box, cls, conf in rows}
    assert len(result) == len(found)
    return result


def test_every_object_is_found_once_in_its_place(planted: Path) -> None:
    image = scene((400, 500), {**OBJECTS, 9: LARGE})
    with Detector(planted) as detector:
        found = Sliced(detector, full_picture=False)(image)
    boxes = by_box(found)
    assert set(boxes) == {*OBJECTS.values(), LARGE}
    for colour, box in {**OBJECTS, 9: LARGE}.items():
        cls, conf = boxes[box]
        assert cls == (17, 3)[colour % 2]
        assert 0.75 * (255 - 8 * colour) / 255 <= conf <= (255 - 8 * colour) / 255
    assert (np.diff(found.conf) <= 0).all()


def test_the_full_picture_gives_what_no_tile_holds(planted: Path) -> None:
    with Detector(planted) as detector:
        found = Sliced(detector)(scene((400, 500), {**OBJECTS, 9: LARGE}))
    boxes = by_box(found)
    large = set(boxes) - set(OBJECTS.values())
    assert len(boxes) == len(OBJECTS) + 1
    np.testing.assert_allclose(large.pop(), LARGE, atol=500 / TILE + 1)  # one pixel of the small picture


def test_speed_path_and_picture(planted: Path, tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    image = scene((200, 300), OBJECTS)
    path = write_picture(tmp_path / "x.png", image)
    with Detector(planted) as detector:
        sliced = Sliced(detector, overlap=0.3)
        found = sliced(path)
        assert found.path == str(path)
        assert found.image is None
        assert found.orig_shape == (200, 300)
        assert set(found.speed) == {"decode", "preprocess", "network", "postprocess"}
        assert all(ms > 0 for ms in found.speed.values())
        from_memory, again = sliced([image, path])
        assert from_memory.image is not None
        assert found.plot().shape == image.shape
        assert from_memory.to_dict()["detections"] == again.to_dict()["detections"] == found.to_dict()["detections"]
        assert len(sliced(path, conf=0.99)) < len(found)
        assert sliced([]) == []
        assert sliced.names == detector.names
        with pytest.raises(BadInput, match=r"score threshold 0\.05"):
            sliced(path, conf=0.01)


def test_a_picture_that_fits_into_a_tile_is_detected_in_as_it_is(planted: Path) -> None:
    image = scene((90, 80), {0: (10, 10, 40, 40), 1: (60, 60, 80, 90)})
    with Detector(planted) as detector:
        assert Sliced(detector)(image).to_dict() == detector(image).to_dict()


def test_tiles_of_another_size_than_the_input(planted: Path) -> None:
    objects = {0: (20, 20, 60, 60), 3: (170, 100, 230, 160)}
    with Detector(planted) as detector:
        found = Sliced(detector, slice_hw=2 * TILE, full_picture=False)(scene((300, 400), objects))
    assert len(found) == 2
    np.testing.assert_allclose(found.xyxy[np.argsort(found.xyxy[:, 0])], list(objects.values()), atol=2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"slice_hw": 16}, "tiles of 16x16"),
        ({"overlap": 1}, "overlap 1 of tiles"),
        ({"match_threshold": 1.5}, "match threshold 1.5"),
        ({"match_metric": "dice"}, "match metric 'dice'"),
    ],
)
def test_values_out_of_range(planted: Path, values: dict[str, Any], words: str) -> None:
    with Detector(planted) as detector, pytest.raises(BadInput, match=words):
        Sliced(detector, **values)
