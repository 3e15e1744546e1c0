from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime import BadInput
from aweigh.runtime.flow.failure import Failure
from aweigh.runtime.flow.sources import Stop, is_live, is_video, named_source, open_sources, source_name
from aweigh.runtime.video.reading import FrameLimits


@pytest.mark.parametrize(
    ("source", "live", "video", "name"),
    [
        (0, True, False, "camera:0"),
        (np.int64(2), True, False, "camera:2"),
        ("rtsp://user:p%40ss@host:554/a?b=1", True, False, "rtsp://host:554/a?b=1"),
        ("http://host/stream", True, False, "http://host/stream"),
        ("https://host/Clip.MP4?x=1", False, True, "https://host/Clip.MP4?x=1"),
        ("folder/clip.MKV", False, True, "folder/clip.MKV"),
        (Path("a.jpg"), False, False, "a.jpg"),
        ("gopher://host/a.jpg", False, False, "gopher://host/a.jpg"),
        (b"bytes", False, False, None),
        (np.zeros((2, 2, 3), np.uint8), False, False, None),
    ],
)
def test_what_a_source_is(source: Any, live: bool, video: bool, name: str | None) -> None:
    assert (is_live(source), is_video(source), source_name(source)) == (live, video, name)


def test_digits_are_a_camera_unless_a_file_has_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (named_source("0"), named_source("12"), named_source("./0"), named_source("a1")) == (0, 12, "./0", "a1")
    Path("0").touch()
    assert named_source("0") == "0"


def test_items_in_order(folder: Path, moving: Any, write_video: Any) -> None:
    clip = write_video(folder / "clip.mp4", moving(2))
    array = np.zeros((4, 4, 3), np.uint8)
    sources = [folder, array, "nowhere", str(folder / "*.jpg"), folder / "*.txt"]
    opened = list(open_sources(sources, FrameLimits(), Stop()))
    items = [item for item in opened if not isinstance(item, Failure)]
    assert [(item.path and Path(item.path).name, item.frame) for item in items] == [
        ("a.png", None),
        ("b.jpg", None),
        ("clip.mp4", 0),
        ("clip.mp4", 1),
        ("a.png", None),
        (None, None),
        ("nowhere", None),  # reading it will tell
        ("b.jpg", None),
    ]
    assert [item.is_file for item in items] == [True, True, False, False, True, False, True, True]
    assert items[3].name == f"{clip}, frame 1"
    assert all(item.at_hand for item in items)
    assert isinstance(opened[-1], Failure)
    assert "no images in it, nor videos" in str(opened[-1].error)


def test_other_iterables_are_not_waited_for(folder: Path) -> None:
    opened = list(open_sources(iter([folder]), FrameLimits(), Stop()))
    assert [item.at_hand for item in opened if not isinstance(item, Failure)] == [False] * 3


@pytest.mark.parametrize("sources", [None, 1.5, object()])
def test_neither_source_nor_iterable(sources: Any) -> None:
    with pytest.raises(BadInput, match="sources: expected a path"):
        next(open_sources(sources, FrameLimits(), Stop()))
