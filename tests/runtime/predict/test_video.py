from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from aweigh.runtime import BadInput, Detections, Detector
from aweigh.runtime.cli.main import main
from aweigh.runtime.predict.plan import PredictEvents, PredictPlan
from aweigh.runtime.predict.run import predict_sources
from aweigh.runtime.video.reading import FrameLimits, read_video, video_facts

pytestmark = pytest.mark.usefixtures("only_runtime_verbs")
WriteVideo = Callable[..., Path]
MakePicture = Callable[..., Any]


def test_video_in_video_out(
    model: Path, moving: Any, write_video: WriteVideo, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_video(folder / "clip.avi", moving(40), fps=12.0)
    out = tmp_path / "out"
    assert main(["predict", "--model", str(model), "--source", str(folder), "--json", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    entries = json.loads(printed.out)
    assert json.loads((out / "detections.json").read_text()) == entries
    assert printed.err.startswith(f"4 images or videos and detections.json written to {out}\n")
    assert [Path(entry["file"]).name for entry in entries] == ["a.png", "b.jpg", *["clip.avi"] * 40, "a.png"]
    frames = entries[2:-1]
    assert [entry["frame"] for entry in frames] == list(range(40))
    np.testing.assert_allclose([entry["time_s"] for entry in frames], np.arange(40) / 12, atol=1e-3)
    lefts = [entry["detections"][0]["box"][0] for entry in frames]
    np.testing.assert_allclose(lefts, np.arange(40) * 2, atol=3)
    assert set(frames[0]) == {"file", "frame", "time_s", "image", "drawn_above", "detections"}
    assert set(entries[0]) == {"file", "image", "drawn_above", "detections"}

    written = out / "clip.avi.mp4"
    assert video_facts(written, "out").fps == pytest.approx(12)
    drawn, plain = (list(read_video(p, "x", FrameLimits())) for p in (written, path))
    assert len(drawn) == 40
    differing = [np.abs(a.image_rgb_u8.astype(int) - b.image_rgb_u8).max() for a, b in zip(drawn, plain, strict=True)]
    assert min(differing) > 60  # boxes


def test_words_for_frames(
    model: Path, moving: Any, write_video: WriteVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(10), fps=10.0)
    assert main(["predict", f"model={model}", f"source={path}", "frames=2"]) == 0
    assert capsys.readouterr().out == (
        f"{path}, frame 0 (0.00 s): 1 whole, 1 left half\n{path}, frame 1 (0.10 s): 1 whole, 1 left half\n"
    )
    assert main(["predict", f"model={model}", f"source={path}", "seconds=0.25", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3


def test_memory_does_not_grow_with_the_video(
    model: Path, make_picture: MakePicture, write_video: WriteVideo, tmp_path: Path
) -> None:
    """400 frames of 173 kB, 69 MB in all, with their results and the annotated video."""
    frames = (make_picture((180, 320), (i % 200, 20, i % 200 + 60, 90)) for i in range(400))
    path = write_video(tmp_path / "clip.mp4", frames)
    held: list[int] = []

    def on_result(found: Detections) -> None:
        if found.frame in (100, 390):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])

    with Detector(model) as detector:
        tracemalloc.start()
        try:
            plan = PredictPlan([path], out=tmp_path / "out")
            done = predict_sources(detector, plan, PredictEvents(on_result=on_result))
        finally:
            tracemalloc.stop()
    assert done.count == 400
    growth, frame_bytes = held[1] - held[0], 180 * 320 * 3
    # Between the two moments lie 290 frames; what is under way varies by some batches of 4.
    assert growth < 30 * frame_bytes


def test_failures_are_for_machines_too(
    model: Path, moving: Any, write_video: WriteVideo, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "b.jpg").write_bytes(b"no picture")
    cut = write_video(folder / "cut.avi", moving(40))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (folder / "text.mp4").write_text("no video")
    failures = tmp_path / "deep" / "failures.json"
    arguments = ["predict", "--model", str(model), "--source", str(folder), "--json", "--failures", str(failures)]
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert "3 of 5 images or videos could not be read" in printed.err
    names = {Path(entry["file"]).name for entry in json.loads(printed.out)}
    assert names == {"a.png", "cut.avi"}  # a video gives what comes before the damage
    told = json.loads(failures.read_text())
    assert [(Path(entry["file"]).name, set(entry)) for entry in told] == [
        (name, {"file", "error"}) for name in ("b.jpg", "cut.avi", "text.mp4")
    ]
    assert "of 40 frames could be read" in told[1]["error"]


def test_stopping_at_a_damaged_video_leaves_nothing_half_written(
    model: Path, moving: Any, write_video: WriteVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "clip.avi", moving(40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    out = tmp_path / "out"
    arguments = ["predict", "--model", str(model), "--source", str(path), "--json", "--out", str(out)]
    assert main([*arguments, "--on-error", "stop"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "clip.avi: " in printed.err
    assert list(out.iterdir()) == []


def test_a_video_that_cannot_be_written_ends_the_run(
    model: Path, moving: Any, write_video: WriteVideo, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(40))
    out = tmp_path / "out"
    (out / "clip.mp4").mkdir(parents=True)
    with Detector(model) as detector, pytest.raises(IsADirectoryError):
        predict_sources(detector, PredictPlan([path], out=out))
    assert [p.name for p in out.iterdir()] == ["clip.mp4"]


def test_an_interrupt_leaves_nothing_half_written(
    model: Path, make_picture: MakePicture, write_video: WriteVideo, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "clip.mp4", [make_picture()] * 2000)
    out = tmp_path / "out"
    command = ["-m", "aweigh.runtime.cli", "predict", "--model", str(model), "--source", str(path), "--out", str(out)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(f"{path}, frame 0")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "aweigh: interrupted\n")
    assert list(out.iterdir()) == []


def test_videos_are_never_overwritten(model: Path, moving: Any, write_video: WriteVideo, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(3))
    before = path.read_bytes()
    with Detector(model) as detector, pytest.raises(BadInput, match="would overwrite the source"):
        predict_sources(detector, PredictPlan([path], out=tmp_path))
    assert path.read_bytes() == before


def test_totals(model: Path, moving: Any, write_video: WriteVideo, folder: Path) -> None:
    write_video(folder / "clip.mp4", moving(12))
    (folder / "text.mp4").write_text("no video")
    totals: list[int | None] = []
    with Detector(model) as detector:
        for limits in (FrameLimits(), FrameLimits(frames=5), FrameLimits(seconds=0.1)):
            events = PredictEvents(on_total=totals.append)
            done = predict_sources(detector, PredictPlan([folder], limits=limits), events)
            assert (done.sources, len(done.failures)) == (5, 1)
    assert totals == [15, 8, None]


def test_a_camera_by_its_number(
    model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    if cv2.VideoCapture(96).isOpened():
        pytest.skip("this machine has a camera 96")
    assert main(["predict", "--model", str(model), "--source", "96"]) == 2
    assert "camera:96: cannot be opened" in capsys.readouterr().err
    (tmp_path / "96").write_bytes((folder / "a.png").read_bytes())  # a file of that name comes first
    assert main(["predict", "--model", str(model), "--source", "96"]) == 0
    assert capsys.readouterr().out == "96: 1 whole, 1 left half\n"
