"""Fixtures that write the detector of red things and images for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper
from red import red_graph, red_picture, red_spec

from aweigh.runtime.files.golden import GOLDEN_KEY
from aweigh.runtime.spec import METADATA_KEY

MakeModel = Callable[..., Path]


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
