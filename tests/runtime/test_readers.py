"""Every reader of the runtime on mutated files: only our errors, no growth, no hang."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from fuzzing import many, mutated_bytes, mutated_json, only_our_errors
from hypothesis import given
from hypothesis import strategies as st
from red import red_picture, red_spec

from aweigh.runtime.backends.onnxruntime_trace import count_layers, read_profile
from aweigh.runtime.backends.tensorrt.rtx import CacheKey, read_cache, write_cache
from aweigh.runtime.detector import Detector
from aweigh.runtime.files.digest import receipt_path
from aweigh.runtime.files.engine import read_sidecar, sidecar_path
from aweigh.runtime.files.fingerprint import Fingerprint
from aweigh.runtime.files.golden import decode_golden
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.images.header import read_header
from aweigh.runtime.inspection import inspect_model
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.results.files import read_image_ids, read_predictions
from aweigh.runtime.spec import ModelSpec


def _detections() -> dict[str, Any]:
    return {
        "file": "a.jpg",
        "image": {"width": 64, "height": 48},
        "detections": [{"box": [1.5, 2, 30, 40], "score": 0.5, "class_id": 3, "label": "whole"}] * 2,
    }


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


IMAGES = {"images": [{"file_name": "a.jpg", "id": 1}, {"file_name": "b.jpg", "id": "b"}]}
JSON_READERS: dict[str, tuple[Callable[[], Any], Callable[[Path], object]]] = {
    "spec": (lambda: json.loads(red_spec().to_json()), lambda path: ModelSpec.from_json(_text(path))),
    "detections": (_detections, lambda path: Detections.from_json(path.read_bytes())),
    "predictions": (lambda: [_detections(), _detections()], read_predictions),
    "image-ids": (lambda: IMAGES, read_image_ids),
}


@pytest.mark.parametrize("name", JSON_READERS)
def test_json_files(name: str, tmp_path: Path) -> None:
    valid, read = JSON_READERS[name]
    path = tmp_path / "mutated.json"

    @many
    @given(mutated_json(json.dumps(valid()).encode()))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        only_our_errors(lambda: read(path))

    check()


def test_golden_images(golden: Callable[..., str]) -> None:
    @many
    @given(mutated_json(golden().encode()))
    def check(data: bytes) -> None:
        only_our_errors(lambda: decode_golden(data.decode(errors="replace")))

    check()


def test_sidecars(make_engine: Callable[..., Path]) -> None:
    plan = make_engine()
    sidecar = sidecar_path(plan)

    @many
    @given(mutated_json(sidecar.read_bytes()))
    def check(data: bytes) -> None:
        sidecar.write_bytes(data)
        only_our_errors(lambda: read_sidecar(plan))

    check()


def test_receipts(model: Path) -> None:
    receipt = receipt_path(model)
    valid = {"schema": "1.0", "verdict": "PASS", "sha256": read_onnx(model).sha256, "pictures": 4}

    @many
    @given(mutated_json(json.dumps(valid).encode()))
    def check(data: bytes) -> None:
        receipt.write_bytes(data)
        only_our_errors(lambda: inspect_model(model))

    check()


def test_onnx_files(model: Path, golden: Callable[..., str], make_model: Callable[..., Path]) -> None:
    valid = make_model("valid.onnx", golden=golden()).read_bytes()

    @many
    @given(mutated_bytes(valid))
    def check(data: bytes) -> None:
        model.write_bytes(data)
        only_our_errors(lambda: read_onnx(model).spec(model))

    check()


def test_onnx_files_are_opened_and_run(model: Path, make_model: Callable[..., Path]) -> None:
    valid = make_model("valid.onnx").read_bytes()

    def open_and_run() -> None:
        with Detector(model, threads=1) as detector:
            detector(red_picture())

    @many
    @given(mutated_bytes(valid))
    def check(data: bytes) -> None:
        model.write_bytes(data)
        only_our_errors(open_and_run)

    check()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tif"])
def test_headers_of_images(suffix: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    done, encoded = cv2.imencode(f".{suffix}", picture)
    assert done
    valid = encoded.tobytes()
    if suffix == "jpg":
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
        valid = valid[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + valid[2:]

    @many
    @given(mutated_bytes(valid) | st.binary(max_size=60).map(lambda tail: valid[:16] + tail))
    def check(data: bytes) -> None:
        only_our_errors(lambda: read_header(data))

    check()


def test_caches_of_compiled_kernels(tmp_path: Path, fingerprint: Fingerprint) -> None:
    path, key = tmp_path / "a.cache", CacheKey.of("0" * 64, fingerprint)
    assert write_cache(path, key, b"kernels") is None

    @many
    @given(mutated_bytes(path.read_bytes()))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        only_our_errors(lambda: read_cache(path, key))

    check()


def test_profiles_of_onnx_runtime(model: Path, tmp_path: Path) -> None:
    with Detector(model, threads=1) as detector:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(tmp_path / "profile")
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        session.run(None, {"images": np.zeros((1, *detector.spec.input.size_hw, 3), np.uint8)})
    path = Path(session.end_profiling())
    nodes = read_profile(path)
    assert {node.op_type for node in nodes} >= {"Conv"}
    events = [event for event in json.loads(path.read_text()) if event.get("cat") == "Node"]

    @many
    @given(mutated_json(json.dumps(events[-6:]).encode()))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        only_our_errors(lambda: count_layers(read_profile(path)))

    check()
