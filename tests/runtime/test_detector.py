from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import aweigh.runtime
from aweigh.runtime import BadInput, CannotRun, CheckFailed, Detections, Detector
from aweigh.runtime.images.preprocess import prepare
from aweigh.runtime.images.reading import read_image

MakeModel = Callable[..., Path]
MakePicture = Callable[..., Any]


def test_boxes_are_in_pixels_of_the_picture(model: Path, make_picture: MakePicture) -> None:
    with Detector(model) as detector:
        found = detector(make_picture())  # 128x192, halved for the network
        assert isinstance(found, Detections)
        assert found.xyxy.tolist() == [[20, 30, 100, 90], [20, 30, 60, 90]]
        assert found.conf.tolist() == [1.0, 0.5]  # best first, though the graph lists them the other way round
        assert found.cls.tolist() == [3, 17]
        assert [str(a.dtype) for a in (found.xyxy, found.conf, found.cls)] == ["float32", "float32", "int64"]
        assert found.names == detector.names == {17: "left half", 3: "whole"}
        assert (found.orig_shape, found.path) == ((128, 192), None)
        assert set(found.speed) == {"decode", "preprocess", "network", "postprocess"}
        assert all(ms >= 0 for ms in found.speed.values())


def test_every_kind_of_source(
    model: Path, make_picture: MakePicture, write_picture: Callable[..., Path], tmp_path: Path
) -> None:
    image = make_picture()
    path = write_picture(tmp_path / "x.png", image)
    with Detector(str(model)) as detector:
        expected = detector(image).to_dict()["detections"]
        for source in (path, str(path), path.read_bytes(), Image.open(path), Image.fromarray(image)):
            assert detector(source).to_dict()["detections"] == expected
        assert detector(path).path == detector([str(path)])[0].path == str(path)
        assert detector(path).image is None
        assert detector(path).plot().shape == image.shape


def test_colours_are_rgb(model: Path, make_picture: MakePicture) -> None:
    with Detector(model) as detector:
        assert len(detector(make_picture())) == 2
        assert len(detector(make_picture()[..., ::-1])) == 0


@pytest.mark.parametrize("hw", [(64, 96), (64, 300), (500, 96), (37, 41), (1, 1)])
@pytest.mark.parametrize("resize", ["letterbox", "stretch", "keep-ratio"])
def test_any_shape_comes_back(
    make_model: MakeModel, make_picture: MakePicture, resize: str, hw: tuple[int, int]
) -> None:
    height, width = hw
    box = (width // 4, height // 4, max(width // 4 + 1, width // 2), max(height // 4 + 1, height // 2))
    path = make_model(input={"resize": resize, "dynamic_size": resize == "keep-ratio"})
    with Detector(path) as detector:
        found = detector(make_picture(hw, box))
        prepared, where = prepare(make_picture(hw, box), detector.spec.input)
    if len(found):
        step = np.array([*where.scale_xy, *where.scale_xy])
        assert np.abs((found.xyxy[0] - box) * step).max() <= 1.01  # the graph sees whole network pixels
        assert (found.xyxy >= 0).all()
        assert (found.xyxy[:, 2:] <= [width, height]).all()
    else:
        assert prepared[..., 0].max() <= 200  # the box was too thin to survive the resizing


def test_lists_go_in_batches_and_keep_their_order(model: Path, make_picture: MakePicture) -> None:
    pictures = [make_picture(red=255 if i % 3 else 0, box_xyxy=(2 * i, 10, 100, 50)) for i in range(11)]
    with Detector(model) as detector:
        assert detector.batch_size == 4
        together = detector(pictures)
        assert [len(d) for d in together] == [0 if i % 3 == 0 else 2 for i in range(11)]
        for found, picture in zip(together, pictures, strict=True):
            assert np.array_equal(found.xyxy, detector(picture).xyxy)
        assert detector(tuple(pictures[:1]))[0].xyxy.shape == (0, 4)
        assert detector([]) == []


def test_only_equal_input_sizes_share_a_batch(make_model: MakeModel, make_picture: MakePicture) -> None:
    path = make_model(input={"resize": "keep-ratio", "dynamic_size": True})
    shapes = [(64, 64), (64, 300), (100, 40), (64, 64), (64, 300), (64, 64)]
    pictures = [make_picture(hw, (4, 4, 30, 30)) for hw in shapes]
    with Detector(path) as detector:
        for found, picture in zip(detector(pictures), pictures, strict=True):
            assert found.orig_shape == picture.shape[:2]
            assert np.array_equal(found.xyxy, detector(picture).xyxy)


@pytest.mark.parametrize("batch", [(3, 3), (2, 4), (8, 100)])
def test_batches_below_the_smallest_are_filled_up(
    make_model: MakeModel, make_picture: MakePicture, batch: tuple[int, int]
) -> None:
    with Detector(make_model(batch=batch)) as detector:
        assert len(detector(make_picture())) == 2
        assert [len(d) for d in detector([make_picture()] * 4)] == [2] * 4
        assert batch[0] <= detector.batch_size <= min(batch[1], 16)


def test_conf_raises_the_floor(model: Path, make_picture: MakePicture) -> None:
    with Detector(model) as detector:
        assert detector(make_picture(), conf=0.05).conf.tolist() == [1.0, 0.5]
        assert detector(make_picture(), conf=0.6).cls.tolist() == [3]
        assert len(detector(make_picture(), conf=0.5)) == 1  # strictly above
        assert len(detector(make_picture(), conf=1)) == 0


def test_conf_by_class_and_the_best_in_the_file(make_model: Callable[..., Path], make_picture: MakePicture) -> None:
    with Detector(make_model(best_conf=(None, 0.99))) as detector:
        (half, whole) = detector.names
        everything = detector(make_picture())
        assert sorted(zip(everything.cls.tolist(), everything.conf.tolist(), strict=True)) == [
            (whole, 1.0),
            (half, 0.5),
        ]
        assert detector(make_picture(), conf={half: 0.6}).cls.tolist() == [whole]
        assert detector(make_picture(), conf={whole: 1.0}).cls.tolist() == [half]
        assert detector(make_picture(), conf="best").cls.tolist() == [whole, half]
        assert [found.cls.tolist() for found in detector.stream([make_picture()], conf={half: 0.6})] == [[whole]]
    with Detector(make_model("none.onnx")) as detector, pytest.raises(BadInput, match="no best thresholds"):
        detector(make_picture(), conf="best")


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        (0.01, "score threshold 0.05"),
        (0, "score threshold 0.05"),
        (-1, "from 0.05 to 1"),
        (1.01, "to 1"),
        (float("nan"), "to 1"),
    ],
)
def test_conf_out_of_range(model: Path, make_picture: MakePicture, conf: float, words: str) -> None:
    with Detector(model) as detector, pytest.raises(BadInput, match=words):
        detector(make_picture(), conf=conf)


def test_raw_gives_the_graphs_outputs(model: Path, make_picture: MakePicture) -> None:
    with Detector(model) as detector:
        prepared, where = prepare(make_picture(), detector.spec.input)
        outputs = detector.raw(prepared[None])
        assert outputs["boxes"][0, 1].tolist() == [10, 15, 50, 45]
        assert detector.unmap(outputs, 0, where).xyxy.tolist() == detector(make_picture()).xyxy.tolist()


def test_nms_that_does_not_settle(make_model: MakeModel, make_picture: MakePicture) -> None:
    image = make_picture()
    image[:20, :20] = (0, 0, 255)
    with Detector(make_model(post={"kind": "nms", "nms_form": "matrix"})) as detector:
        assert len(detector(make_picture())) == 2
        with pytest.raises(CheckFailed, match="did not settle"):
            detector(image)


def test_raw_files_are_refused(make_model: MakeModel) -> None:
    with pytest.raises(BadInput, match="exported with --post raw"):
        Detector(make_model(post={"kind": "raw"}))


def test_unreadable_pictures_are_named(model: Path, make_picture: MakePicture, tmp_path: Path) -> None:
    with Detector(model) as detector, pytest.raises(BadInput, match=r"none\.jpg: no such file"):
        detector([make_picture(), tmp_path / "none.jpg"])


def test_errors_of_opening(tmp_path: Path, model: Path) -> None:
    with pytest.raises(BadInput, match="no such model file"):
        Detector(tmp_path / "none.onnx")
    with pytest.raises((BadInput, CannotRun)):
        Detector(model, device="tpu")


def test_closed(model: Path, make_picture: MakePicture) -> None:
    with Detector(model) as detector:
        pass
    with pytest.raises(BadInput, match="closed"):
        detector(make_picture())


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_threads_may_call_at_once(model: Path, make_picture: MakePicture, backend: str) -> None:
    pictures = [make_picture(box_xyxy=(i, i, 100 + i, 80 + i)) for i in range(16)]
    with Detector(model, threads=1, backend=backend) as detector, ThreadPoolExecutor(8) as pool:
        one_by_one = [detector(picture).to_json() for picture in pictures]
        for _ in range(10):
            assert [found.to_json() for found in pool.map(detector, pictures)] == one_by_one
            lists = list(pool.map(detector, [pictures[i:] for i in range(8)]))
            assert [[found.to_json() for found in part] for part in lists] == [one_by_one[i:] for i in range(8)]


def test_several_detectors_work_side_by_side(make_model: MakeModel, make_picture: MakePicture) -> None:
    paths = [make_model(f"{width}.onnx", input={"size_hw": (64, width)}) for width in (64, 96)]
    pictures = [make_picture(box_xyxy=(i, i, 100 + i, 80 + i)) for i in range(8)]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        detectors = [
            stack.enter_context(Detector(path, threads=1, backend=backend))
            for path in paths
            for backend in ("onnxruntime", "openvino")
        ]
        alone = [[detector(picture).to_json() for picture in pictures] for detector in detectors]
        assert alone[0] == alone[1]
        assert alone[2] == alone[3]
        calls = [pool.submit(detector, picture) for picture in pictures for detector in detectors]
        together = [call.result().to_json() for call in calls]
    assert [together[i::4] for i in range(4)] == alone


@pytest.mark.parametrize(
    ("changes", "shapes"),
    [
        ({}, [(1, 64, 96, 3), (4, 64, 96, 3)]),
        ({"batch": (3, 3)}, [(3, 64, 96, 3)]),
        ({"batch": (2, 50)}, [(2, 64, 96, 3), (16, 64, 96, 3)]),
        ({"batch": (1, 1), "input": {"resize": "keep-ratio", "dynamic_size": True}}, [(1, 64, 96, 3)]),
    ],
)
def test_warm_up_runs_the_smallest_batch_and_that_of_lists(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], shapes: list[tuple[int, ...]]
) -> None:
    with Detector(make_model(**changes)) as detector:
        ran = []
        infer = detector.backend.infer
        monkeypatch.setattr(detector.backend, "infer", lambda images: (ran.append(images.shape), infer(images))[1])
        detector.warm_up()
    assert ran == shapes


def test_pil_images_opened_from_a_phone_are_turned(model: Path, make_picture: MakePicture) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    buffer = io.BytesIO()
    Image.fromarray(np.rot90(make_picture())).save(buffer, "PNG", exif=exif)
    with Detector(model) as detector:
        for source in (buffer.getvalue(), Image.open(buffer)):
            assert detector(source).xyxy[0].tolist() == [20, 30, 100, 90]


def test_the_package_names_what_it_exports() -> None:
    assert set(aweigh.runtime.__all__) <= set(dir(aweigh.runtime))
    for name in aweigh.runtime.__all__:
        assert getattr(aweigh.runtime, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        aweigh.runtime.Trainer  # noqa: B018


def test_saved_pictures_show_the_boxes(model: Path, make_picture: MakePicture, tmp_path: Path) -> None:
    with Detector(model) as detector:
        found = detector(make_picture())
    saved = read_image(found.save(tmp_path / "x.png"))
    assert np.array_equal(saved, found.plot())
    assert json.loads(found.to_json())["detections"][0]["label"] == "whole"
