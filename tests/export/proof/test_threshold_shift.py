from __future__ import annotations

import pytest

from aweigh.export.proof.threshold_shift import threshold_shifts


def rows(category: int, scores: list[float]) -> list[dict[str, float]]:
    return [{"category_id": category, "score": score} for score in scores]


def test_a_threshold_is_where_as_many_are_reported() -> None:
    metrics = {
        "per_class": {
            "1": {"name": "one", "best_threshold": 0.5},
            "2": {"name": "two", "best_threshold": 0.4},
            "3": {"name": "three", "best_threshold": None},
        }
    }
    trained = rows(1, [0.3, 0.9, 0.5, 0.7]) + rows(2, [0.8, 0.6]) + rows(3, [0.2])
    exported = rows(1, [0.88, 0.45, 0.66, 0.28]) + rows(2, [0.8]) + rows(3, [0.2])
    shifts = threshold_shifts(metrics, trained, exported)
    assert set(shifts) == {"1", "2"}
    assert shifts["1"] == {
        "name": "one",
        "trained": 0.5,
        "exported": 0.45,
        "detections": 3,
        "shift": pytest.approx(-0.05),
    }
    # One detection is missing altogether: no threshold of the file's own brings it back.
    assert (shifts["2"]["exported"], shifts["2"]["detections"]) == (0.0, 2)
