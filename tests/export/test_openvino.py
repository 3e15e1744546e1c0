"""The exported graph in OpenVINO: the same detections as in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.export.proof.stages import rows
from aweigh.runtime import Detector
from aweigh.runtime.agreement.match import match_detections
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.backends.openvino import OpenVinoBackend
from aweigh.runtime.files.golden import decode_golden

pytestmark = pytest.mark.slow
MakeExport = Callable[..., Path]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("fcos", {"post": "auto"}),
        ("fcos", {"post": "nms", "nms": "matrix"}),
        ("paa", {"post": "auto"}),
        ("o2f", {"post": "auto"}),
        ("dw", {"dynamic_size": True}),
        ("fcos", {"batch": (2, 2)}),
    ],
)
def test_detections_are_those_of_onnxruntime(make_export: MakeExport, method: str, options: dict[str, Any]) -> None:
    path = make_export(method, **options)
    with OnnxRuntimeBackend(path, threads=1) as reference, OpenVinoBackend(path, threads=1) as backend:
        assert backend.golden is not None
        picture = decode_golden(backend.golden)[0][0].image_u8
        others = [picture[::-1], picture[:, ::-1]]
        for batch in [2] if "batch" in options else [1, 3]:
            images_u8 = np.stack([picture, *others][:batch])
            sizes = [images_u8, images_u8[:, :96, :128]] if "dynamic_size" in options else [images_u8]
            for images in sizes:
                expected, got = reference.infer(images), backend.infer(images)
                assert list(got) == list(expected)
                for row in range(batch):
                    match = match_detections(rows(expected, row), rows(got, row), moved_px=5e-3)
                    assert match.compared > 20
                    # One pair may sit on the limit of the IoU, one detection on that of the 100 rows.
                    assert match.differing <= 1, match
                    assert match.max_score_error < 1e-5
        assert set(backend.layers) == {"fp32"}
    with Detector(path, threads=1, backend="openvino") as detector:
        assert detector.self_test().detections > 20
