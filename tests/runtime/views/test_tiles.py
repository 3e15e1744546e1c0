from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aweigh.runtime.errors import BadInput
from aweigh.runtime.views.tiles import cut_sides, merge_tiles, tiles

side = st.integers(1, 700)
tile_side = st.integers(32, 200)


@settings(max_examples=60, deadline=None)
@given(st.tuples(side, side), st.tuples(tile_side, tile_side), st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.77]))
def test_tiles_cover_the_picture_and_nothing_else(
    picture: tuple[int, int], tile: tuple[int, int], share: float
) -> None:
    found = tiles(picture, tile, share)
    covered = np.zeros(picture, int)
    for x1, y1, x2, y2 in found.tolist():
        assert (y2 - y1, x2 - x1) == (min(picture[0], tile[0]), min(picture[1], tile[1]))  # no tiny tile
        assert 0 <= x1 < x2 <= picture[1]
        assert 0 <= y1 < y2 <= picture[0]
        covered[y1:y2, x1:x2] += 1
    assert covered.min() >= 1
    assert len({tuple(row) for row in found.tolist()}) == len(found)
    for axis in (0, 1):
        starts = np.unique(found[:, axis])
        length = found[0, axis + 2] - found[0, axis]
        assert (length - np.diff(starts) >= np.floor(share * length)).all()


def test_tiles_worked_by_hand() -> None:
    assert tiles((100, 100), (100, 100), 0.2).tolist() == [[0, 0, 100, 100]]
    assert tiles((50, 240), (100, 100), 0.2).tolist() == [[0, 0, 100, 50], [80, 0, 180, 50], [140, 0, 240, 50]]


@pytest.mark.parametrize(
    ("tile", "share", "words"),
    [
        ((31, 64), 0.2, "tiles of 64x31 pixels: expected at least 32"),
        ((64, 64), 1.0, "overlap 1.0 of tiles: expected 0 or more and below 1"),
        ((64, 64), -0.1, "below 1"),
        ((64, 64), float("nan"), "below 1"),
        ((64, 64), 0.999, r"image of 3000x2000 pixels: \d+ tiles of 64x64, the limit is 10000"),
    ],
)
def test_tiles_out_of_range(tile: tuple[int, int], share: float, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        tiles((2000, 3000), tile, share)


def test_only_edges_inside_the_picture_cut() -> None:
    boxes = np.array([[0, 20, 40, 100], [0, 0, 99.5, 50], [50, 40, 60, 60]], np.float32)
    first, second = np.array([0, 0, 100, 100]), np.array([80, 0, 180, 100])
    assert cut_sides(boxes, first, (100, 180)).tolist() == [[False] * 4, [False, False, True, False], [False] * 4]
    assert cut_sides(boxes + np.array([80, 0, 80, 0]), second, (100, 180)).tolist() == [
        [True, False, False, False],
        [True, False, False, False],
        [False] * 4,
    ]


VIEWS = np.array([[0, 0, 100, 100], [80, 0, 180, 100], [0, 0, 180, 100]], np.int64)


def merge(
    *rows: tuple[list[float], float, int, int], views: int = 2, **settings: object
) -> list[tuple[list[float], float]]:
    """Rows of box, score, label, view; the boxes and scores that stay."""
    xyxy = np.array([row[0] for row in rows], np.float32)
    scores = np.array([row[1] for row in rows], np.float32)
    labels, view = np.array([row[2:] for row in rows], np.int64).T
    kept, boxes = merge_tiles(xyxy, scores, labels, VIEWS[:views], view, (100, 180), **settings)  # type: ignore[arg-type]
    return [(box, round(float(scores[i]), 3)) for i, box in zip(kept.tolist(), boxes.tolist(), strict=True)]


def test_an_object_whole_in_both_tiles_is_found_once() -> None:
    assert merge(([82, 10, 98, 30], 0.6, 0, 0), ([83, 10, 98, 30], 0.9, 0, 1)) == [([83, 10, 98, 30], 0.9)]


def test_what_one_tile_tells_apart_stays_apart() -> None:
    close = [([20.0, 10, 40, 30], 0.9, 0, 0), ([23.0, 10, 43, 30], 0.8, 0, 0)]
    assert len(merge(*close)) == 2
    assert len(merge(close[0], (close[1][0], 0.8, 0, 2), views=3)) == 1


def test_a_part_goes_to_the_whole_even_if_it_scores_higher() -> None:
    part, whole = ([90.0, 10, 100, 30], 0.95, 0, 0), ([90.0, 10, 120, 30], 0.6, 0, 1)
    assert merge(part, whole) == [(whole[0], 0.6)]


def test_a_part_that_nothing_completes_stays() -> None:
    part = ([90.0, 10, 100, 30], 0.95, 0, 0)
    assert merge(part) == [(part[0], 0.95)]
    assert len(merge(part, ([85.0, 60, 120, 90], 0.6, 0, 1))) == 2


def test_parts_of_an_object_larger_than_the_overlap_are_put_together() -> None:
    left, right = ([30.0, 10, 100, 50], 0.7, 0, 0), ([80.0, 12, 150, 50], 0.8, 0, 1)
    assert merge(left, right) == [([30, 10, 150, 50], 0.8)]
    full = ([28.0, 10, 152, 50], 0.5, 0, 2)
    assert merge(left, right, full, views=3) == [(full[0], 0.5)]  # what is whole comes first
    other_class = (right[0], 0.8, 1, 1)
    assert len(merge(left, other_class)) == 2
    assert len(merge(left, other_class, class_agnostic=True)) == 1


def test_two_objects_across_one_seam_stay_two() -> None:
    found = merge(
        ([30, 10, 100, 40], 0.7, 0, 0),
        ([80, 10, 150, 40], 0.8, 0, 1),
        ([20, 60, 100, 90], 0.6, 0, 0),
        ([80, 60, 130, 90], 0.5, 0, 1),
    )
    assert found == [([30, 10, 150, 40], 0.8), ([20, 60, 130, 90], 0.6)]


def test_a_chain_of_parts_becomes_one_box() -> None:
    views = np.array([[0, 0, 100, 100], [80, 0, 180, 100], [160, 0, 260, 100]], np.int64)
    xyxy = np.array([[20, 10, 100, 50], [80, 10, 180, 50], [160, 10, 230, 50]], np.float32)
    for scores in ([0.9, 0.5, 0.6], [0.5, 0.9, 0.6], [0.6, 0.5, 0.9]):
        kept, boxes = merge_tiles(
            xyxy, np.array(scores, np.float32), np.zeros(3, np.int64), views, np.arange(3), (100, 260)
        )
        assert boxes.tolist() == [[20, 10, 230, 50]]
        assert scores[kept[0]] == 0.9


def test_ios_merges_a_small_box_into_the_one_around_it() -> None:
    inner, outer = ([85.0, 15, 95, 25], 0.9, 0, 0), ([82.0, 10, 98, 60], 0.8, 0, 1)
    assert len(merge(inner, outer)) == 2
    assert merge(inner, outer, metric="ios") == [(inner[0], 0.9)]


def test_nothing_found() -> None:
    none = np.zeros((0, 4), np.float32)
    kept, boxes = merge_tiles(none, none[:, 0], np.zeros(0, np.int64), VIEWS, np.zeros(0, np.int64), (100, 180))
    assert kept.tolist() == []
    assert boxes.shape == (0, 4)
