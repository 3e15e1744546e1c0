"""A small real detector for the runtime's tests: it finds what is red in a picture."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aweigh.runtime.backends.base import INPUT_NAME, output_names
from aweigh.runtime.engine_file import BuildSettings, EngineFile, EngineTensor, PrecisionShare, write_engine
from aweigh.runtime.fingerprint import Fingerprint
from aweigh.runtime.golden import GOLDEN_KEY, Golden, encode_golden
from aweigh.runtime.onnx_file import read_onnx
from aweigh.runtime.shape_profile import ShapeProfile
from aweigh.runtime.spec import METADATA_KEY, Category, InputSpec, ModelSpec, PostSpec

MakeModel = Callable[..., Path]
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


@pytest.fixture
def spec() -> ModelSpec:
    return red_spec()


@pytest.fixture
def make_spec() -> Callable[..., ModelSpec]:
    return red_spec


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Writes a model file; keywords change the spec, ``graph_batch`` and ``metadata`` break the file on purpose."""

    def make(
        name: str = "red.onnx",
        *,
        metadata: str | None = "spec",
        graph_batch: int | str | None = None,
        graph_hw: tuple[int | str, int | str] | None = None,
        without_output: str | None = None,
        golden: str | None = None,
        **changes: Any,
    ) -> Path:
        spec = red_spec(**changes)
        smallest, largest = spec.batch
        batch = graph_batch or (smallest if smallest == largest else "B")
        hw = graph_hw or (("H", "W") if spec.input.dynamic_size else spec.input.size_hw)
        model = red_graph(spec, batch, *hw)
        if without_output is not None:
            kept = [o for o in model.graph.output if o.name != without_output]
            del model.graph.output[:]
            model.graph.output.extend(kept)
        properties = {} if golden is None else {GOLDEN_KEY: golden}
        if metadata is not None:
            properties[METADATA_KEY] = spec.to_json() if metadata == "spec" else metadata
        helper.set_model_props(model, properties)
        path = tmp_path / name
        onnx.save(model, str(path))
        return path

    return make


@pytest.fixture
def model(make_model: MakeModel) -> Path:
    return make_model()


@pytest.fixture
def golden() -> Callable[..., str]:
    """The text of two golden pictures of ``red_graph``, 64x96; ``moved_px``, ``score`` and ``label`` are added to what
    is expected of the first detection, ``lost`` is whether the second is left out.
    """

    def make(moved_px: float = 0, score: float = 0, label: int = 0, lost: bool = False) -> str:
        pictures, outputs = [], []
        for left, top, right, bottom in ((10, 8, 50, 40), (20, 10, 90, 60)):
            name = f"red at {left}, {top}"
            pictures.append(Golden(name, red_picture((64, 96), (left, top, right, bottom))))
            middle = (left + right) / 2
            boxes = np.array([[[left, top, middle, bottom], [left, top, right, bottom]]], np.float32)
            boxes[0, 0, 0] += moved_px
            scores = np.array([[0.5 + score, 1.0]], np.float32)
            count = 1 if lost else 2
            outputs.append(
                {
                    "num_dets": np.array([count]),
                    "boxes": boxes,
                    "scores": scores,
                    "labels": np.array([[label, 1]]),
                }
            )
        return encode_golden(pictures, outputs)

    return make


@pytest.fixture
def fingerprint() -> Fingerprint:
    """Of the stand-ins."""
    return Fingerprint(
        "11.4.0.106", "Stand-in GPU", "9.0", "13.0", "13.1", f"{platform.system().lower()}-{platform.machine()}"
    )


@pytest.fixture
def make_engine(make_model: Callable[..., Path], fingerprint: Fingerprint) -> Callable[..., Path]:
    """Writes a plan of the stand-in and its sidecar; keywords as ``make_model``, ``sidecar`` changes the sidecar."""

    def make(
        profiles: tuple[ShapeProfile, ...] | None = None, sidecar: dict[str, Any] | None = None, **changes: Any
    ) -> Path:
        onnx = make_model("red.onnx", **changes)
        spec = read_onnx(onnx).spec(onnx)
        plan = onnx.read_bytes()
        (low, high), hw = spec.batch, spec.input.size_hw
        names = (INPUT_NAME, *output_names(spec.post))
        engine = {
            "golden": read_onnx(onnx).metadata.get(GOLDEN_KEY),
            "plan_sha256": hashlib.sha256(plan).hexdigest(),
            "plan_bytes": len(plan),
            "spec": spec,
            "built": fingerprint,
            "profiles": profiles or (ShapeProfile((low, *hw, 3), (high, *hw, 3), (high, *hw, 3)),),
            "settings": BuildSettings(),
            "tensors": tuple(EngineTensor(name, name, "float32", (-1,)) for name in names),
            "precision": (PrecisionShare("FP32", 3, 1.0, 12, 1.0, 96, 1.0),),
            "parents": {"onnx_sha256": "0" * 64},
            **(sidecar or {}),
        }
        path = onnx.with_suffix(".engine")
        write_engine(plan, path, EngineFile(**engine))
        return path

    return make


def red_picture(
    hw: tuple[int, int] = (128, 192), box_xyxy: tuple[int, int, int, int] = (20, 30, 100, 90), red: int = 255
) -> npt.NDArray[np.uint8]:
    """Grey with one red box, RGB."""
    image = np.full((*hw, 3), 60, np.uint8)
    left, top, right, bottom = box_xyxy
    image[top:bottom, left:right] = (red, 0, 0)
    return image


@pytest.fixture
def make_picture() -> Callable[..., npt.NDArray[np.uint8]]:
    return red_picture


@pytest.fixture
def write_picture() -> Callable[[Path, npt.NDArray[np.uint8]], Path]:
    """Writes an RGB picture by OpenCV in the format of the suffix."""

    def write(path: Path, image_rgb_u8: npt.NDArray[np.uint8]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), cv2.cvtColor(image_rgb_u8, cv2.COLOR_RGB2BGR))
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path, write_picture: Callable[..., Path]) -> Path:
    """Three readable pictures, one in a subfolder, and a text file."""
    root = tmp_path / "pictures"
    write_picture(root / "a.png", red_picture())
    write_picture(root / "b.jpg", red_picture(box_xyxy=(40, 8, 160, 120)))
    write_picture(root / "more" / "a.png", np.full((50, 60, 3), 60, np.uint8))
    (root / "notes.txt").write_text("not a picture")
    return root


@pytest.fixture
def only_runtime_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line as of an environment that has the runtime alone: train and export fail for want of torch."""
    from importlib.metadata import EntryPoint

    from aweigh.runtime import cli

    points = [
        EntryPoint("runtime", "aweigh.runtime.verbs:register", "aweigh.verbs"),
        EntryPoint("train", "a_module_that_is_not_installed:register", "aweigh.verbs"),
    ]
    monkeypatch.setattr(cli, "entry_points", lambda group: points)


@pytest.fixture
def write_video() -> Callable[..., Path]:
    """Writes RGB pictures as a video in the container of the suffix."""

    def write(path: Path, frames: Iterable[npt.NDArray[np.uint8]], fps: float = 30.0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
        writer: Any = None
        for frame in frames:
            if writer is None:
                writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, fps, (frame.shape[1], frame.shape[0]))
                assert writer.isOpened()
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
        return path

    return write


@pytest.fixture
def moving() -> Callable[[int], list[npt.NDArray[np.uint8]]]:
    """Frames whose box moves two pixels to the right each time."""
    return lambda count: [red_picture(box_xyxy=(2 * i, 20, 2 * i + 40, 90)) for i in range(count)]
