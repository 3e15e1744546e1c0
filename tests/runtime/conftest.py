"""Fixtures of the runtime's tests: files and images of the detector of red things (tests/support/red.py)."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from red import red_picture, red_spec
from red_files import folder, make_model, make_picture, model, write_picture

from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.files.engine import BuildSettings, EngineFile, EngineTensor, PrecisionShare, write_engine
from aweigh.runtime.files.fingerprint import Fingerprint
from aweigh.runtime.files.golden import GOLDEN_KEY, Golden, encode_golden
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.files.shape_ranges import ShapeProfile
from aweigh.runtime.spec import ModelSpec

__all__ = ["folder", "make_model", "make_picture", "model", "write_picture"]


@pytest.fixture
def spec() -> ModelSpec:
    return red_spec()


@pytest.fixture
def make_spec() -> Callable[..., ModelSpec]:
    return red_spec


@pytest.fixture
def golden() -> Callable[..., str]:
    """The text of two golden images of ``red_graph``, 64x96; ``moved_px``, ``score`` and ``label`` are added to what
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
        source = make_model("red.onnx", **changes)
        spec = read_onnx(source).spec(source)
        plan = source.read_bytes()
        (low, high), hw = spec.batch, spec.input.size_hw
        names = (INPUT_NAME, *spec.post.output_names)
        engine = {
            "golden": read_onnx(source).metadata.get(GOLDEN_KEY),
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
        path = source.with_suffix(".engine")
        write_engine(plan, path, EngineFile(**engine))
        return path

    return make


@pytest.fixture
def only_runtime_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line as of an environment that has the runtime alone: train and export fail for want of torch."""
    from importlib.metadata import EntryPoint

    from aweigh.runtime.cli import main as cli

    points = [
        EntryPoint("runtime", "aweigh.runtime.cli.verbs:register", "aweigh.verbs"),
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
