"""What tests/export/test_candidates.py, which compares with real graphs, leaves: a raw file worked by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime import BadInput, Detector
from aweigh.runtime.views.augmented import Augmented
from aweigh.runtime.views.candidates import CandidateDetector

RAW = {"kind": "raw", "top_k_unit": "image-pairs"}


def test_candidates_are_pairs_of_points_and_classes(make_model: Callable[..., Path], make_picture: Any) -> None:
    """The raw red model has two points and gives each of them both classes."""
    with CandidateDetector(make_model(post=RAW)) as raw:
        found = raw(make_picture())
        assert found.conf.tolist() == [1.0, 1.0, 0.5, 0.5]
        assert sorted(found.cls.tolist()) == [3, 3, 17, 17]
        assert found.xyxy.tolist() == 2 * [[20, 30, 100, 90]] + 2 * [[20, 30, 60, 90]]
        assert raw(make_picture(), conf=0.6).conf.tolist() == [1.0, 1.0]
        assert len(raw(make_picture(red=0))) == 0
        merged = Augmented(raw, flip=False, iou_threshold=0.4)(make_picture())
        assert sorted(merged.cls.tolist()) == [3, 17]  # the half covers half of the whole
    with CandidateDetector(make_model(post={**RAW, "pre_nms_top_k": 3})) as raw:
        assert raw(make_picture()).conf.tolist() == [1.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("post", "words"),
    [
        ({"kind": "none"}, "its graph ends in 'none'; export it with --post raw"),
        ({"kind": "raw"}, "counted by 'level-pairs'"),
        ({**RAW, "threshold_gates": "class-probability"}, "its threshold looks at class probabilities"),
    ],
)
def test_files_without_candidates(make_model: Callable[..., Path], post: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        CandidateDetector(make_model(post=post))


def test_a_plain_detector_still_refuses_raw_files(make_model: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match=r"exported with --post raw.*aweigh\.runtime\.views\.candidates"):
        Detector(make_model(post=RAW))
