"""Detectors that decode on the device, here a CPU: the detections of those that decode on the host."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hostile import encoded
from nvimgcodec_here import NEEDS_NVIMGCODEC
from PIL import Image

from aweigh.runtime import Detections, Detector
from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.runtime.views.agnostic import Agnostic
from aweigh.runtime.views.sliced import Sliced

MakeModel = Callable[..., Path]
MakePicture = Callable[..., Any]


pytestmark = NEEDS_NVIMGCODEC


@pytest.fixture
def pictures(tmp_path: Path, make_picture: MakePicture) -> Path:
    """Five JPEGs and a PNG of several sizes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(5):
        image = Image.fromarray(make_picture((128 + 16 * i, 192), (10 + i, 8, 90, 70)))
        (folder / f"{i}.jpg").write_bytes(encoded(image, "JPEG", quality=97))
    Image.fromarray(make_picture((64, 96), (10, 8, 50, 40))).save(folder / "5.png")
    return folder


def same(a: Detections, b: Detections) -> None:
    for name in ("xyxy", "conf", "cls"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.path, a.orig_shape, list(a.speed)) == (b.path, b.orig_shape, list(b.speed))


@pytest.mark.parametrize("changes", [{}, {"input": {"resize": "keep-ratio", "dynamic_size": True}}, {"batch": (4, 8)}])
def test_files_arrays_and_streams(
    changes: dict[str, Any], make_model: MakeModel, pictures: Path, make_picture: MakePicture
) -> None:
    path = make_model(**changes)
    paths, array = sorted(pictures.iterdir()), make_picture((70, 110), (9, 9, 60, 50))
    with Detector(path) as host, Detector(path, decode_on="device") as device:
        found = 0
        for source in (*paths, paths[0].read_bytes(), array):
            same(host(source), device(source))
            found += len(host(source))
        for a, b in zip(host([*paths, array]), device([*paths, array]), strict=True):
            same(a, b)
        for a, b in zip(host.stream([pictures, array]), device.stream([pictures, array]), strict=True):
            same(a, b)
            assert (a.image is None) == (b.image is None)
        assert b.image is not None
        np.testing.assert_array_equal(b.image, array)
        assert found > 0
        assert device.decoded == {"device": 5 * 3 + 1, "host": 3}
        assert host.decoded == {}


def test_kept_images_are_copied_to_the_host(model: Path, pictures: Path) -> None:
    with Detector(model) as host, Detector(model, decode_on="device") as device:
        pairs = zip(host.stream(pictures, keep_images=True), device.stream(pictures, keep_images=True), strict=True)
        for a, b in pairs:
            assert isinstance(b.image, np.ndarray)
            np.testing.assert_array_equal(a.image, b.image)


def test_views_go_through_it(model: Path, pictures: Path) -> None:
    path = min(pictures.iterdir())
    with Detector(model) as host, Detector(model, decode_on="device") as device:
        same(Agnostic(host)(path), Agnostic(device)(path))
        assert device.decoded["device"] == 1
        same(Sliced(host)(path), Sliced(device)(path))


def test_failures_keep_their_place(model: Path, pictures: Path) -> None:
    bad = pictures / "2.jpg"
    bad.write_bytes(bad.read_bytes()[:-40])
    failures = []
    with Detector(model, decode_on="device") as device:
        found = list(device.stream(pictures, on_error=failures.append))
    assert len(found) == 5
    (failure,) = failures
    assert failure.path == str(bad)
    assert "truncated JPEG" in str(failure.error)


def test_resized_detectors_share_it(make_model: MakeModel, pictures: Path) -> None:
    path = make_model(input={"dynamic_size": True})
    with Detector(path) as host, Detector(path, decode_on="device") as device:
        for source in sorted(pictures.iterdir()):
            same(host.resized((128, 128))(source), device.resized((128, 128))(source))


def test_what_it_does_not_go_with_is_refused(make_model: MakeModel) -> None:
    path = make_model()
    with pytest.raises(BadInput, match="decode_on 'gpu': expected host or device"):
        Detector(path, decode_on="gpu")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="binding and graph keep buffers of their own"):
        Detector(path, decode_on="device", ort_options="binding")
    with pytest.raises(BadInput, match="onnxruntime alone reads images from the device, got OpenVINO"):
        Detector(path, decode_on="device", backend="openvino")
    with pytest.raises(BadInput, match="only 'linear'"):
        Detector(make_model(input={"interpolation": "area"}), decode_on="device")


def test_predict_writes_the_same_files_and_says_where_it_decoded(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = {}
    for place in ("host", "device"):
        flags = ["--model", str(model), "--source", str(pictures), "--out", str(tmp_path / place)]
        assert main(["predict", *flags, "--decode-on", place]) == 0
        entries[place] = json.loads((tmp_path / place / "detections.json").read_text())
        said = capsys.readouterr().err
        assert ("images decoded: 5 on the device and 1 on the host" in said) == (place == "device")
    for entry in [*entries["host"], *entries["device"]]:
        entry.pop("speed", None)
    assert entries["host"] == entries["device"]
    drawn = [cv2.imread(str(tmp_path / place / "0.jpg")) for place in entries]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.gpu
def test_on_a_gpu(model: Path, pictures: Path) -> None:
    """nvJPEG rounds otherwise: the same objects, nearly the same boxes."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs a CUDA device and onnxruntime-gpu")
    with Detector(model, "cuda") as host, Detector(model, "cuda", decode_on="device") as device:
        for a, b in zip(host.stream(pictures), device.stream(pictures), strict=True):
            assert a.cls.tolist() == b.cls.tolist()
            np.testing.assert_allclose(a.xyxy, b.xyxy, atol=2.0)
        assert device.decoded == {"device": 5, "host": 1}
