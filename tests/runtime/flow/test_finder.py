"""What wraps a Detector is streamed as one is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime import Augmented, BadInput, Detector, Sliced
from aweigh.runtime.cli.main import main
from aweigh.runtime.flow.failure import Failure

MakePicture = Callable[..., Any]


@pytest.fixture
def mixed(folder: Path, write_video: Callable[..., Path], moving: Callable[[int], list[Any]]) -> Path:
    """Three pictures, a video of five frames and a broken file."""
    write_video(folder / "video.mp4", moving(5))
    (folder / "broken.jpg").write_bytes(b"not a picture")
    return folder


@pytest.mark.parametrize("wrap", [lambda d: Sliced(d, slice_hw=80), lambda d: Augmented(d, flip=True)])
def test_a_stream_gives_what_single_calls_give(wrap: Callable[[Detector], Any], model: Path, mixed: Path) -> None:
    failures: list[Failure] = []
    with Detector(model, threads=1) as detector:
        finder = wrap(detector)
        results = list(finder.stream(mixed, 0.3, on_error=failures.append))
        assert [failure.path for failure in failures] == [str(mixed / "broken.jpg")]
        assert [(Path(r.path).name, r.frame) for r in results if r.frame is not None] == [
            ("video.mp4", i) for i in range(5)
        ]
        pictures = [r for r in results if r.frame is None]
        assert len(pictures) == 3
        for found in results:
            alone = finder(found.image if found.frame is not None else found.path, 0.3)
            np.testing.assert_array_equal(found.xyxy, alone.xyxy)
            np.testing.assert_array_equal(found.conf, alone.conf)
            assert set(found.speed) == {"decode", "preprocess", "network", "postprocess"}
        assert sum(len(found) for found in results) > 5
        with pytest.raises(BadInput, match=r"broken\.jpg"):
            list(finder.stream(mixed))


def test_predict_in_tiles_takes_videos_and_writes_labels_of_pictures_alone(
    model: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["predict", "--model", str(model), "--out", str(out), "--slice", "80"]
    assert main([*command, "--source", str(mixed / "video.mp4")]) == 0
    assert (out / "video.mp4").is_file()
    assert main([*command, "--source", str(mixed / "a.png"), "--save-txt"]) == 0
    assert (out / "labels" / "a.txt").read_text().count("\n") >= 1
    capsys.readouterr()
    assert main([*command, "--source", str(mixed / "video.mp4"), "--save-txt"]) == 2
    assert "label files and COCO results are for images" in capsys.readouterr().err
