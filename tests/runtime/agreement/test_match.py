"""Counting what one model finds and another does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aweigh.runtime.agreement.match import Match, match_detections


def detections(*rows: tuple[float, float, float, float, float, int]) -> tuple[Any, Any, Any]:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64)


A = (0.0, 0.0, 10.0, 10.0, 0.9, 0)
B = (50.0, 50.0, 80.0, 90.0, 0.8, 1)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ([A, B], {}),
        ([B, A], {}),  # the order of rows does not matter
        ([A], {"lost": 1}),
        ([], {"lost": 2}),
        ([A, B, (20.0, 20.0, 30.0, 30.0, 0.5, 0)], {"new": 1}),
        ([A, (50.0, 50.0, 80.0, 90.0, 0.8, 2)], {"relabelled": 1}),
        ([A, (50.0, 50.0, 80.0, 90.5, 0.8, 1)], {"moved": 1}),
        ([A, (70.0, 50.0, 99.0, 90.0, 0.8, 1)], {"lost": 1, "new": 1}),  # too far to be the same
    ],
)
def test_counts(second: list[Any], expected: dict[str, int]) -> None:
    match = match_detections(detections(A, B), detections(*second), moved_px=0.01)
    assert match.compared == 2
    counted = {name: getattr(match, name) for name in ("lost", "new", "relabelled", "moved")}
    assert counted == {"lost": 0, "new": 0, "relabelled": 0, "moved": 0, **expected}
    assert match.differing == sum(expected.values())


def test_a_score_beside_the_lowest_reported_is_borderline() -> None:
    faint = (20.0, 20.0, 30.0, 30.0, 0.0500001, 0)
    match = match_detections(detections(A, faint), detections(A), moved_px=0.01, borderline_score=0.0501)
    assert (match.lost, match.borderline, match.differing) == (0, 1, 0)
    match = match_detections(detections(A), detections(A, B), moved_px=0.01, borderline_score=0.0501)
    assert (match.new, match.borderline) == (1, 0)


def test_nothing_against_nothing() -> None:
    assert match_detections(detections(), detections(), 0.01) == Match()


def test_one_box_of_two_classes_and_boxes_without_area() -> None:
    rows = [(5.0, 5.0, 5.0, 5.0, 0.7, 0), (5.0, 5.0, 5.0, 5.0, 0.6, 1), (5.0, 5.0, 5.0, 5.0, 0.5, 1)]
    assert match_detections(detections(*rows), detections(*rows[::-1]), 0.01).differing == 0


def test_swapped_survivors_of_nms_pair_with_their_likes() -> None:
    first = detections((0, 92, 65, 177, 0.912, 1), (0, 92, 51, 156, 0.186, 1))
    second = detections((0, 91, 56, 161, 0.908, 1), (0, 97, 69, 181.5, 0.102, 1))
    match = match_detections(first, second, moved_px=8.0, borderline_score=0.05)
    # The strong box is held against the strong one, 16 px away: it moved, and no score is off by 0.81.
    assert match.moved >= 1
    assert match.max_score_error < 0.1


def test_squared_scores_are_seen_as_scores() -> None:
    first = detections((0, 0, 40, 40, 0.6, 0), (12, 0, 52, 40, 0.36, 0))
    second = detections((0, 0, 40, 40, 0.36, 0), (12, 0, 52, 40, 0.1296, 0))
    match = match_detections(first, second, moved_px=8.0)
    assert match.moved == 0
    assert match.max_score_error == pytest.approx(0.24, abs=1e-6)


def test_sizes_of_the_differences() -> None:
    match = match_detections(detections(A), detections((0.0, 0.0, 10.0, 10.25, 0.85, 0)), moved_px=1.0)
    assert match.moved == 0
    assert match.max_moved_px == pytest.approx(0.25)
    assert match.max_score_error == pytest.approx(0.05, abs=1e-6)
    assert (match + Match(compared=3, lost=2, max_moved_px=0.5)) == Match(
        compared=4, lost=2, max_moved_px=0.5, max_score_error=match.max_score_error
    )
