from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.images.reading import read_image
from aweigh.runtime.predict.annotated import AnnotatedWriter
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.video.reading import FrameLimits, read_video


@pytest.fixture
def found(make_picture: Callable[..., Any]) -> Callable[..., Detections]:
    def make(path: str, frame: int | None = None) -> Detections:
        image = make_picture()
        box = np.array([[20, 30, 100, 90]], np.float32)
        time_s = None if frame is None else frame / 10
        score, label = np.ones(1, np.float32), np.zeros(1, np.int64)
        return Detections(box, score, label, {0: "red"}, (128, 192), path, {}, image, frame, time_s)

    return make


def test_pictures_and_videos_in_turn(found: Callable[..., Detections], tmp_path: Path) -> None:
    targets = {name: tmp_path / target for name, target in (("a", "a.png"), ("v", "v.mp4"), ("w", "w.mp4"))}
    with AnnotatedWriter(targets, {"v": 10.0, "w": 20.0}) as writer:
        for name, frame in (("v", 0), ("v", 1), ("a", None), ("w", 0), ("w", 1), ("w", 2)):
            writer.add(found(name, frame))
    assert writer.saved == [targets["v"], targets["a"], targets["w"]]
    assert sorted(os.listdir(tmp_path)) == ["a.png", "v.mp4", "w.mp4"]
    assert np.array_equal(read_image(targets["a"]), found("a").plot())
    assert [len(list(read_video(targets[name], name, FrameLimits()))) for name in ("v", "w")] == [2, 3]


def test_an_error_takes_the_video_begun_away(found: Callable[..., Detections], tmp_path: Path) -> None:
    def write() -> None:
        targets = {"a": tmp_path / "a.png", "v": tmp_path / "v.mp4"}
        with AnnotatedWriter(targets, {"v": 10.0}) as writer:
            writer.add(found("a"))
            writer._images.wait()
            writer.add(found("v", 0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert os.listdir(tmp_path) == ["a.png"]


def test_errors_of_writing_reach_the_caller(found: Callable[..., Detections], tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    def write() -> None:
        with AnnotatedWriter({"a": tmp_path / "file" / "a.png"}, {}) as writer:
            for _ in range(100):
                writer.add(found("a"))

    with pytest.raises((NotADirectoryError, FileExistsError)):
        write()
