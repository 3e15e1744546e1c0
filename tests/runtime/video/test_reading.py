from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from aweigh.runtime import BadInput, Detector
from aweigh.runtime.errors import CannotRun
from aweigh.runtime.flow.failure import Failure
from aweigh.runtime.video.reading import FrameLimits, read_video, video_facts
from aweigh.runtime.video.writing import VideoWriter

MakePicture = Callable[..., Any]
WriteVideo = Callable[..., Path]
ALL = FrameLimits()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("aweigh")] == []


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_frames_and_times(suffix: str, moving: Any, write_video: WriteVideo, tmp_path: Path) -> None:
    frames = moving(20)
    path = write_video(tmp_path / f"räd 1{suffix}", frames, fps=25.0)
    read = list(read_video(path, "clip", ALL))
    assert [frame.index for frame in read] == list(range(20))
    np.testing.assert_allclose([frame.time_s for frame in read], np.arange(20) / 25, atol=1e-3)
    for frame, original in zip(read, frames, strict=True):
        difference = np.abs(frame.image_rgb_u8.astype(int) - original)
        assert np.median(difference) <= 8  # of the codec; red and blue the wrong way round would be 255 in the box
        assert difference[30:80, 2 * frame.index + 10 : 2 * frame.index + 30].mean() < 20
    facts = video_facts(path, "clip")
    assert facts.fps == pytest.approx(25)
    assert facts.frames == (None if suffix == ".mkv" else 20)


def test_limits(moving: Any, write_video: WriteVideo, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(20), fps=10.0)
    assert len(list(read_video(path, "clip", FrameLimits(frames=7)))) == 7
    assert len(list(read_video(path, "clip", FrameLimits(seconds=0.55)))) == 6
    assert len(list(read_video(path, "clip", FrameLimits(frames=3, seconds=0.55)))) == 3
    assert len(list(read_video(path, "clip", FrameLimits(frames=99)))) == 20


def test_files_that_are_no_videos(moving: Any, write_video: WriteVideo, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", moving(40)).read_bytes()
    files = {
        "text.mp4": b"hello" * 99,
        "empty.mp4": b"",
        "cut.mp4": whole[: len(whole) // 2],
    }  # its index is at the end
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadInput, match=f"{name}: no video, damaged"):
            list(read_video(tmp_path / name, name, ALL))
    with pytest.raises(BadInput, match=r"none\.mp4: no such file"):
        list(read_video(tmp_path / "none.mp4", "none.mp4", ALL))
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(BadInput, match="this is a folder"):
        list(read_video(tmp_path / "folder.mp4", "folder.mp4", ALL))


def test_a_video_cut_off_gives_its_frames_and_then_says_so(
    model: Path, moving: Any, write_video: WriteVideo, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "clip.avi", moving(40))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    failures: list[Failure] = []
    with Detector(model) as detector:
        found = list(detector.stream([path, tmp_path / "clip.avi"], on_error=failures.append))
        assert 10 < len(found) // 2 < 30
        assert [f.frame for f in found] == [*range(len(found) // 2)] * 2
        with pytest.raises(BadInput, match=r"clip\.avi: \d+ of 40 frames could be read"):
            list(detector.stream(path))
    assert [f.path for f in failures] == [str(path)] * 2


def test_damage_inside_a_video_costs_no_frame_behind_it(
    model: Path, moving: Any, write_video: WriteVideo, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "clip.avi", moving(40))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 60] = bytes(60)
    path.write_bytes(data)
    with Detector(model) as detector:
        found = list(detector.stream(path, on_error="skip"))
    assert len(found) >= 39
    assert found[-1].xyxy[0, 0] == pytest.approx(2 * 39, abs=3)


def test_results_of_a_video(model: Path, moving: Any, write_video: WriteVideo, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(30))
    with Detector(model) as detector:
        found = list(detector.stream(path, conf=0.6))
        assert [f.frame for f in found] == list(range(30))
        assert {f.path for f in found} == {str(path)}
        np.testing.assert_allclose([f.xyxy[0, 0] for f in found], np.arange(30) * 2, atol=3)
        assert found[3].to_dict()["frame"] == 3
        assert found[3].to_dict()["time_s"] == pytest.approx(0.1, abs=1e-3)
        assert found[3].plot().shape == (128, 192, 3)
        assert len(list(detector.stream(tmp_path, max_frames=4))) == 4
        (bare,) = detector.stream(path, max_frames=1, keep_images=False)
        with pytest.raises(BadInput, match="give plot the image"):
            bare.plot()


def test_writing(moving: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.mp4"
    writer = VideoWriter(path, 25.0)
    frames = moving(12)
    for i, frame in enumerate(frames):
        writer.write(frame, i / 25)
    assert not path.exists()
    writer.close()
    writer.discard()  # too late, as after an error further on
    assert os.listdir(path.parent) == ["out.mp4"]
    read = list(read_video(path, "out", ALL))
    assert len(read) == 12
    assert np.abs(read[5].image_rgb_u8.astype(int) - frames[5]).mean() < 6


def test_without_a_rate_a_video_plays_as_fast_as_the_time_went_by(moving: Any, tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "live.mp4", None)
    for frame, time_s in zip(moving(4), (0.0, 0.03, 1.0, 2.0), strict=True):
        writer.write(frame if time_s < 2 else cv2.resize(frame, (96, 64)), time_s)
    writer.close()
    read = list(read_video(tmp_path / "live.mp4", "live", ALL))
    assert read[-1].time_s == pytest.approx(2.0, abs=0.05)
    assert {frame.image_rgb_u8.shape for frame in read} == {(128, 192, 3)}


def test_what_cannot_be_written(moving: Any, tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", 25.0)
    with pytest.raises(CannotRun, match="cannot write a video of 1x1 pixels"):
        writer.write(np.zeros((1, 1, 3), np.uint8), 0.0)
    writer.discard()
    writer = VideoWriter(tmp_path / "out.mp4", 25.0)
    for frame in moving(5):
        writer.write(frame, 0.0)
    writer._codec.release()
    temporary = next(tmp_path.iterdir())
    temporary.write_bytes(temporary.read_bytes()[:100])  # as a full disk leaves it
    with pytest.raises(CannotRun, match="0 of 5 frames were written; is the disk full"):
        writer.close()
    assert os.listdir(tmp_path) == []
