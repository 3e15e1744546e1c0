from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from aweigh.runtime import BadInput, Detector
from aweigh.runtime.flow.failure import Failure
from aweigh.runtime.video import reading as video

Serve = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("aweigh")] == []


def test_every_frame_over_http(model: Path, moving: Any, serve_mjpeg: Serve) -> None:
    failures: list[Failure] = []
    with Detector(model) as detector, serve_mjpeg(moving(30)) as address:
        with_password = address.replace("://", "://user:secret@")
        found = list(detector.stream(with_password, on_error=failures.append, every_frame=True))
    assert [f.frame for f in found] == list(range(30))
    np.testing.assert_allclose([f.xyxy[0, 0] for f in found], np.arange(30) * 2, atol=3)
    times_s = [f.time_s for f in found]
    assert times_s == sorted(times_s)
    assert times_s[0] == 0
    assert {f.path for f in found} == {address}
    assert str(failures[0].error).startswith(f"{address}: the stream ended")


def test_rtsp_drops_what_the_caller_is_too_slow_for(model: Path, moving: Any, serve_rtsp: Serve) -> None:
    frames = []
    with Detector(model) as detector, serve_rtsp(moving(60)) as address:
        for found in detector.stream(address, max_frames=6):
            assert len(found) == 2
            frames.append(found.frame)
            time.sleep(0.2)  # twenty frames of the server
    assert len(frames) == 6
    # One result is worked out while the caller has the one before; each further one is newer by what was dropped.
    assert frames[-1] - frames[0] > 2 * len(frames)


def test_seconds_of_a_live_source(model: Path, moving: Any, serve_rtsp: Serve) -> None:
    with Detector(model) as detector, serve_rtsp(moving(60)) as address:
        times_s = [found.time_s for found in detector.stream(address, max_seconds=0.3)]
    assert times_s
    assert max(times_s) < 0.3


def test_a_live_source_that_falls_silent_lets_go(
    model: Path, moving: Any, serve_mjpeg: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "_TIMEOUT_MS", 500)
    with Detector(model) as detector, serve_mjpeg(moving(3), endless=True) as address:
        stream = detector.stream(address)
        next(stream)
        stream.close()  # the fixture looks for threads
        with pytest.raises(BadInput, match=r"gave nothing for 0\.5 s"):
            list(detector.stream(address))


def test_live_sources_that_are_not_there(model: Path) -> None:
    with Detector(model) as detector:
        for source, words in (
            (97, "camera:97: cannot be opened; check its number"),
            ("rtsp://127.0.0.1:9/none", "rtsp://127.0.0.1:9/none: cannot be opened; check the address"),
            ("http://127.0.0.1:9/none.mp4", r"none\.mp4: no video"),
            ("gopher://here/there", "cannot read gopher://; expected one of http"),
        ):
            with pytest.raises(BadInput, match=words):
                list(detector.stream(source))


def run(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "aweigh.runtime.cli", "predict", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_predict_takes_so_many_frames(model: Path, moving: Any, serve_rtsp: Serve, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serve_rtsp(moving(60)) as address:
        process = run("--model", model, "--source", address, "--frames", 5, "--json", "--out", out)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    written, drawn = stderr.splitlines()
    assert written == f"1 images or videos and detections.json written to {out}"
    assert "drawn are scores above 0.3" in drawn
    entries = json.loads(stdout)
    assert len(entries) == 5
    assert {entry["file"] for entry in entries} == {address}
    assert json.loads((out / "detections.json").read_text()) == entries
    (video,) = out.glob("rtsp-127.0.0.1-*-street.mp4")
    capture = cv2.VideoCapture(str(video))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == int(entries[-1]["time_s"] * 25) + 1
    capture.release()


@pytest.mark.parametrize("asking", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_a_live_source_with_its_results(
    asking: signal.Signals, model: Path, moving: Any, serve_rtsp: Serve, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with serve_rtsp(moving(60)) as address:
        process = run("--model", model, "--source", address, "--out", out, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(asking)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert lines[0].startswith(f"{address}, frame ")
    entries = json.loads((out / "detections.json").read_text())
    assert len(entries) == 3 + len(stdout.splitlines())
    assert json.loads((out / "failures.json").read_text()) == []
    assert sorted(path.suffix for path in out.iterdir()) == [".json", ".json", ".mp4"]


@pytest.mark.parametrize("on_error", ["skip", "stop"])
def test_a_stream_that_breaks_off_keeps_its_results(
    on_error: str, model: Path, moving: Any, serve_mjpeg: Serve, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with serve_mjpeg(moving(20)) as address:
        process = run("--model", model, "--source", address, "--every-frame", "--out", out, "--on-error", on_error)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "1 of 1 images or videos could not be read" in stderr
    assert [entry["frame"] for entry in json.loads((out / "detections.json").read_text())] == list(range(20))
    (failure,) = json.loads((out / "failures.json").read_text())
    assert failure["file"] == address
    assert "the stream ended" in failure["error"]
