from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime.boxes import overlap
from aweigh.runtime.errors import BadInput
from aweigh.runtime.views.merge import nms, require_metric, require_share, vote

ROOT = os.environ.get("AWEIGH_TEST_DATA")
needs_golden = pytest.mark.skipif(
    not ROOT or not (Path(ROOT) / "golden" / "paa").is_dir(), reason="needs golden/paa in AWEIGH_TEST_DATA"
)


def boxes(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("metric", "convention", "expected"),
    [
        ("iou", "continuous", [1, 50 / 150, 25 / 100, 0, 0]),
        ("ios", "continuous", [1, 50 / 100, 1, 0, 0]),
        ("iou", "plus-one", [1, 66 / 176, 36 / 121, 0, 1 / 121]),
    ],
)
def test_overlap_worked_by_hand(metric: str, convention: str, expected: list[float]) -> None:
    box = boxes([0, 0, 10, 10])
    others = boxes([0, 0, 10, 10], [5, 0, 15, 10], [5, 5, 10, 10], [20, 20, 30, 30], [3, 3, 3, 3])
    np.testing.assert_allclose(overlap(box, others, metric, convention), expected)
    np.testing.assert_allclose(overlap(others, box, metric, convention), expected)
    assert overlap(others[:, None], others[None], metric, convention).shape == (5, 5)


def test_nms_keeps_classes_apart_and_chains() -> None:
    # 1 overlaps 0 and 2; 2 overlaps 1 alone: with 1 gone, 2 stays.
    xyxy = boxes([0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10], [0, 0, 10, 10])
    scores = np.array([0.7, 0.6, 0.5, 0.9], np.float32)
    labels = np.array([1, 1, 1, 2], np.int64)
    assert nms(xyxy, scores, labels, 0.5).tolist() == [3, 0, 2]
    assert nms(xyxy, scores, labels, 0.5, max_det=2).tolist() == [3, 0]
    assert nms(xyxy, scores, labels, 0.6).tolist() == [3, 0, 1, 2]
    assert nms(xyxy[:0], scores[:0], labels[:0], 0.5).tolist() == []


def test_agnostic_nms_lets_any_class_suppress() -> None:
    xyxy = boxes([0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10], [0, 0, 10, 10])
    scores = np.array([0.7, 0.6, 0.5, 0.9], np.float32)
    labels = np.array([1, 1, 1, 2], np.int64)
    assert nms(xyxy, scores, labels, 0.5, agnostic=True).tolist() == [3, 2]
    assert nms(xyxy, scores, labels, 0.5, max_det=1, agnostic=True).tolist() == [3]


def test_the_threshold_itself_does_not_suppress() -> None:
    xyxy = boxes([0, 0, 2, 1], [0, 0, 1, 1])  # IoU 0.5 exactly
    assert nms(xyxy, np.array([0.9, 0.8]), np.zeros(2, np.int64), 0.5).tolist() == [0, 1]


def test_voting_worked_by_hand() -> None:
    xyxy = boxes([0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 8], [50, 50, 60, 60])
    scores, labels = np.array([0.9, 0.6, 0.6, 0.5], np.float32), np.array([0, 0, 1, 0], np.int64)
    weight = 0.6 * np.exp(-(0.2**2) / 0.025)
    expected = (0.9 * 10 + weight * 8) / (0.9 + weight)
    voted = vote(xyxy[[0, 3]], labels[[0, 3]], xyxy, scores, labels, sigma=0.025, min_iou=0.01)
    np.testing.assert_allclose(voted, [[0, 0, 10, expected], [50, 50, 60, 60]], rtol=1e-6)
    assert voted.dtype == np.float32
    alone = vote(xyxy[:1], np.array([7]), xyxy, scores, labels, sigma=0.025, min_iou=0.01)
    assert alone.tolist() == [[0, 0, 10, 10]]


@needs_golden
@pytest.mark.parametrize("case", ["pub_infer", "pub_infer_small"])
@pytest.mark.parametrize("image", [0, 1])
def test_agrees_with_the_authors_of_paa(case: str, image: int) -> None:
    """From the candidates of the authors' code to its detections, before and after voting."""
    with np.load(Path(ROOT or "") / "golden" / "paa" / f"{case}.npz") as file:
        names = ("cand_boxes", "cand_scores", "cand_labels", "det_boxes_nms", "det_boxes_voted", "det_scores")
        xyxy, scores, labels, by_nms, by_vote, det_scores = (file[f"{name}_{image}"] for name in names)
        det_labels = file[f"det_labels_{image}"]
        threshold, rows = float(file["nms_thresh"]), int(file["max_dets"])
    kept = nms(xyxy, scores, labels, threshold, "plus-one", rows)
    voted = vote(xyxy[kept], labels[kept], xyxy, scores, labels, 0.025, 0.01, "plus-one")
    theirs = np.lexsort((det_labels, -det_scores))  # they list detections by candidate
    ours = np.lexsort((labels[kept], -scores[kept]))
    assert np.array_equal(labels[kept][ours], det_labels[theirs])
    assert np.array_equal(scores[kept][ours], det_scores[theirs])
    np.testing.assert_allclose(xyxy[kept][ours], by_nms[theirs], rtol=1e-6)
    np.testing.assert_allclose(voted[ours], by_vote[theirs], rtol=1e-5, atol=1e-4)


def test_names_and_ranges() -> None:
    require_metric("ios")
    with pytest.raises(BadInput, match="'giou': expected iou"):
        require_metric("giou")
    require_share("overlap", 0)
    with pytest.raises(BadInput, match=r"overlap 1: expected 0 or more and below 1"):
        require_share("overlap", 1)
