"""What a damaged or foreign graph computes is compared with what its contract promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from red import red_spec

from aweigh.runtime.backends.outputs import check_finite, check_outputs
from aweigh.runtime.errors import CheckFailed

Arrays = dict[str, npt.NDArray[Any]]


def outputs(**changes: Any) -> Arrays:
    """Of two images: two detections in the first, none in the second."""
    right: Arrays = {
        "num_dets": np.array([2, 0]),
        "boxes": np.zeros((2, 4, 4), np.float32),
        "scores": np.zeros((2, 4), np.float32),
        "labels": np.array([[1, 0, -1, -1], [-1] * 4]),
    }
    return {name: array for name, array in (right | changes).items() if array is not None}


def test_what_is_promised_passes() -> None:
    check_outputs(outputs(), 2, red_spec())
    raw: Arrays = {"boxes": np.zeros((2, 9, 4)), "scores": np.zeros((2, 9, 2))}
    check_outputs(raw, 2, red_spec(post={"kind": "raw"}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": None}, "gave no labels"),
        ({"boxes": np.zeros((2, 4, 5))}, r"boxes \[2, 4, 5\], expected \[2, 4, 4\]"),
        ({"boxes": np.zeros((2, 4))}, "boxes"),
        ({"boxes": np.zeros((1, 4, 4))}, "boxes"),
        ({"scores": np.zeros((2, 3))}, "scores"),
        ({"labels": np.zeros(4, np.int64)}, "labels"),
        ({"num_dets": np.array([2])}, "num_dets"),
        ({"num_dets": np.array([2, 5])}, "2 to 5 detections, expected 0 to 4"),
        ({"num_dets": np.array([-1, 0])}, "-1 to 0 detections"),
        ({"labels": np.full((2, 4), 2)}, "labels from 2 to 2, expected 0 to 1"),
        ({"num_dets": np.array([3, 0])}, "labels from -1 to 1"),
    ],
)
def test_anything_else_is_refused(changes: Arrays, words: str) -> None:
    with pytest.raises(CheckFailed, match=words):
        check_outputs(outputs(**changes), 2, red_spec())


def test_scores_of_a_raw_file_have_a_column_for_each_class() -> None:
    raw: Arrays = {"boxes": np.zeros((2, 9, 4)), "scores": np.zeros((2, 9, 3))}
    with pytest.raises(CheckFailed, match=r"scores \[2, 9, 3\], expected \[2, 9, 2\]"):
        check_outputs(raw, 2, red_spec(post={"kind": "raw"}))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["boxes", "scores"])
def test_what_is_not_finite_is_refused_of_its_own_image_alone(name: str, bad: float) -> None:
    arrays = outputs()
    arrays[name][0, 1] = bad
    arrays[name][1, 0] = bad  # beyond the detections, of which the second image has none
    check_finite(arrays, 1)
    with pytest.raises(CheckFailed, match="not finite for this image"):
        check_finite(arrays, 0)


def test_candidates_of_a_raw_file_are_all_looked_at() -> None:
    raw: Arrays = {"boxes": np.zeros((1, 9, 4)), "scores": np.zeros((1, 9, 2))}
    check_finite(raw, 0)
    raw["scores"][0, 8, 1] = np.nan
    with pytest.raises(CheckFailed, match="not finite"):
        check_finite(raw, 0)
