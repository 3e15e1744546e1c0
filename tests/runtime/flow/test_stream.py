from __future__ import annotations

import gc
import io
import logging
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aweigh.runtime import BadInput, CheckFailed, Detections, Detector
from aweigh.runtime.errors import NotAnImage
from aweigh.runtime.flow.failure import Failure

MakeModel = Callable[..., Path]
MakePicture = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()  # streams that a failing test left open
    assert ours() == []


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("aweigh")]


def lefts(results: Any) -> list[float]:
    return [found.xyxy[0, 0] for found in results]


def test_order_and_results_are_those_of_single_pictures(
    model: Path, make_picture: MakePicture, write_picture: Callable[..., Path], tmp_path: Path
) -> None:
    pictures = [make_picture(box_xyxy=(2 * i, 10, 100, 50), red=255 if i % 5 else 0) for i in range(23)]
    paths = [write_picture(tmp_path / f"{i:02}.png", picture) for i, picture in enumerate(pictures)]
    with Detector(model) as detector:
        alone = [detector(path) for path in paths]
        for sources in (paths, tmp_path, str(tmp_path / "*.png"), (str(p) for p in paths), iter(pictures)):
            streamed = list(detector.stream(sources, conf=0.3))
            assert [f.xyxy.tolist() for f in streamed] == [f.xyxy.tolist() for f in alone]
        assert [f.path for f in detector.stream(tmp_path)] == [str(p) for p in paths]
        assert all(f.image is None and f.frame is None and f.time_s is None for f in detector.stream(paths))
        assert set(streamed[0].speed) == {"decode", "preprocess", "network", "postprocess"}
        assert list(detector.stream([])) == []


def test_every_kind_of_source(model: Path, folder: Path, make_picture: MakePicture) -> None:
    image = make_picture()
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    with Detector(model) as detector:
        for single in (image, png.getvalue(), Image.fromarray(image), folder / "a.png", str(folder / "a.png")):
            assert lefts(detector.stream(single)) == [20]
        mixed = [folder, image, png.getvalue(), folder / "b.jpg"]
        assert [len(found) for found in detector.stream(mixed)] == [2, 2, 0, 2, 2, 2]
        kept = list(detector.stream(mixed, keep_images=True))
        assert all(found.image is not None and found.plot().shape == found.image.shape for found in kept)
        assert [found.image is None for found in detector.stream(mixed)] == [True, True, True, False, False, True]
        assert all(found.image is None for found in detector.stream(mixed, keep_images=False))


def test_shapes_share_batches_within_a_window(make_model: MakeModel, make_picture: MakePicture) -> None:
    """One odd shape at the start must not hold everything behind it back until the end."""
    path = make_model(input={"resize": "keep-ratio", "dynamic_size": True})
    with Detector(path) as detector:
        window = 4 * detector.batch_size
        pulled = 0

        def pictures() -> Iterator[Any]:
            nonlocal pulled
            for i in range(10 * window):
                pulled += 1
                yield make_picture((100, 40) if i == 0 else (64, 300), (4, 4, 30, 30))

        stream = detector.stream(pictures())
        assert next(stream).orig_shape == (100, 40)
        assert pulled < 3 * window
        shapes = [found.orig_shape for found in stream]
    assert shapes == [(64, 300)] * (10 * window - 1)


def test_batches_below_the_smallest_are_filled_up(make_model: MakeModel, make_picture: MakePicture) -> None:
    with Detector(make_model(batch=(3, 4))) as detector:
        assert [len(found) for found in detector.stream([make_picture()] * 5)] == [2] * 5


def test_only_some_pictures_are_read_ahead(model: Path, make_picture: MakePicture) -> None:
    pulled = 0

    def pictures() -> Iterator[Any]:
        nonlocal pulled
        while True:
            pulled += 1
            yield make_picture()

    with Detector(model) as detector:
        stream = detector.stream(pictures())
        for _ in range(3):
            next(stream)
        settled, deadline = -1, time.monotonic() + 20
        while settled != pulled and time.monotonic() < deadline:
            settled = pulled
            time.sleep(0.3)
        assert settled == pulled < 60
        stream.close()


def test_a_picture_that_comes_alone_is_not_kept_waiting(model: Path, make_picture: MakePicture) -> None:
    """The second picture is given only after the first one's result: waiting for a full batch would never end."""
    seen = threading.Event()

    def pictures() -> Iterator[Any]:
        yield make_picture(box_xyxy=(10, 10, 60, 60))
        assert seen.wait(30)
        yield make_picture(box_xyxy=(30, 10, 60, 60))

    found = []
    with Detector(model) as detector:
        for detections in detector.stream(pictures()):
            found.append(detections.xyxy[0, 0])
            seen.set()
    assert found == [10, 30]


def test_unreadable_sources_stop_or_are_reported_in_their_place(
    model: Path, folder: Path, make_picture: MakePicture, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "b.jpg").write_bytes(b"no picture")
    sources = [folder / "a.png", folder / "b.jpg", "nowhere/*.png", make_picture(), folder / "none.png", 3.5]
    order: list[object] = []
    with Detector(model) as detector:
        stream = detector.stream(sources)
        assert next(stream).path == str(folder / "a.png")
        with pytest.raises(BadInput, match=r"b\.jpg: not an image"):
            next(stream)
        for found in detector.stream(sources, on_error=order.append):
            order.append(found.path)
        with caplog.at_level(logging.WARNING):
            assert len(list(detector.stream(sources, on_error="skip"))) == 2
    names = [(item.path, type(item.error)) if isinstance(item, Failure) else item for item in order]
    assert names == [
        str(folder / "a.png"),
        (str(folder / "b.jpg"), NotAnImage),
        ("nowhere/*.png", BadInput),
        None,
        (str(folder / "none.png"), BadInput),
        (None, BadInput),
    ]
    assert [record.message.split(":")[0] for record in caplog.records] == ["skipped"] * 4


def test_wrong_arguments_are_refused_before_anything_is_read(model: Path) -> None:
    with Detector(model) as detector:
        for arguments, words in (
            ({"conf": 0.01}, "score threshold"),
            ({"on_error": "ignore"}, "expected 'stop', 'skip' or a function"),
            ({"max_frames": 0}, "frames 0: expected at least 1"),
            ({"max_seconds": 0}, "seconds 0: expected more than 0"),
        ):
            with pytest.raises(BadInput, match=words):
                detector.stream(iter([]), **arguments)
        with pytest.raises(BadInput, match="sources: expected a path"):
            list(detector.stream(None))


def test_threads_end_with_the_iterator(model: Path, make_picture: MakePicture) -> None:
    with Detector(model) as detector:
        for found in detector.stream([make_picture()] * 200):
            assert ours()
            assert len(found) == 2
            break
        assert ours() == []
        stream = detector.stream([make_picture()] * 200)
        assert ours() == []  # nothing runs before the first result is asked for
        next(stream)
        with pytest.raises(KeyboardInterrupt):
            stream.throw(KeyboardInterrupt)
        assert ours() == []
        stream = detector.stream([make_picture()] * 200)
        next(stream)
        del stream
        gc.collect()
        assert ours() == []


def test_an_iterable_that_blocks_does_not_keep_the_caller(model: Path, make_picture: MakePicture) -> None:
    release, ended = threading.Event(), threading.Event()

    def pictures() -> Iterator[Any]:
        try:
            yield make_picture()
            release.wait(30)
            yield make_picture()
        finally:
            ended.set()

    with Detector(model) as detector:
        stream = detector.stream(pictures())
        next(stream)
        stream.close()
        assert ours() == ["aweigh-read"]  # inside the iterable above, where nothing can end it
        release.set()
        assert ended.wait(10)
        for thread in threading.enumerate():
            if thread.name == "aweigh-read":
                thread.join(10)


def test_errors_of_an_iterable_come_after_the_results_before_it(model: Path, make_picture: MakePicture) -> None:
    def pictures() -> Iterator[Any]:
        for _ in range(7):
            yield make_picture()
        raise ZeroDivisionError("mine")

    with Detector(model) as detector:
        for on_error in ("stop", "skip"):
            results: list[Detections] = []
            with pytest.raises(ZeroDivisionError, match="mine") as caught:
                results.extend(detector.stream(pictures(), on_error=on_error))
            assert len(results) == 7
            assert "in pictures" in "".join(traceback.format_exception(caught.value))


def test_errors_of_the_network_reach_the_caller(make_model: MakeModel, make_picture: MakePicture) -> None:
    blue = make_picture()
    blue[..., 2] = 255
    with Detector(make_model(post={"kind": "nms", "nms_form": "matrix"})) as detector:
        results: list[Detections] = []
        with pytest.raises(CheckFailed, match="did not settle") as caught:
            results.extend(detector.stream([make_picture()] * 8 + [blue] + [make_picture()] * 50, on_error="skip"))
        assert len(results) == 8
        assert "in _run" in "".join(traceback.format_exception(caught.value))
        assert len(list(detector.stream([make_picture()] * 9))) == 9  # the detector is as good as before
    with pytest.raises(BadInput, match="closed"):
        list(detector.stream([make_picture()] * 9))


def test_streams_may_overlap(model: Path, make_picture: MakePicture) -> None:
    pictures = [make_picture(box_xyxy=(i, 10, 100, 50)) for i in range(12)]
    with Detector(model) as detector:
        one, other = detector.stream(pictures), detector.stream(pictures[::-1])
        pairs = [(a.xyxy[0, 0], b.xyxy[0, 0]) for a, b in zip(one, other, strict=True)]
        expected = [detector(picture).xyxy[0, 0] for picture in pictures]
    np.testing.assert_allclose(pairs, list(zip(expected, expected[::-1], strict=True)))


def test_a_process_ends_with_a_stream_left_open(model: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from aweigh.runtime import Detector\n"
        "stream = Detector(sys.argv[1]).stream(np.zeros((99, 99, 3), np.uint8) for _ in range(10**9))\n"
        "next(stream)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
