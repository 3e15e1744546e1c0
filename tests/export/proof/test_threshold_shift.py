from __future__ import annotations

import pytest

from aweigh.export.proof.threshold_shift import ThresholdShift, check_thresholds, threshold_shifts
from aweigh.runtime.agreement.tolerances import TOLERANCES
from aweigh.train.evaluation.metrics import BestThreshold, ClassMetrics, Metrics, ResultRow


def rows(category: int, scores: list[float]) -> list[ResultRow]:
    return [{"image_id": 1, "category_id": category, "bbox": [0.0, 0.0, 1.0, 1.0], "score": score} for score in scores]


def one(category: int, name: str, threshold: float | None) -> ClassMetrics:
    return ClassMetrics(category, name, {}, BestThreshold(threshold, None if threshold is None else 0.9))


def test_a_threshold_is_where_as_many_are_reported() -> None:
    metrics = Metrics({}, (one(1, "one", 0.5), one(2, "two", 0.4), one(3, "three", None)), images=4)
    trained = rows(1, [0.3, 0.9, 0.5, 0.7]) + rows(2, [0.8, 0.6]) + rows(3, [0.2])
    exported = rows(1, [0.88, 0.45, 0.66, 0.28]) + rows(2, [0.8]) + rows(3, [0.2])
    shifts = threshold_shifts(metrics, trained, exported)
    assert set(shifts) == {"1", "2"}
    assert shifts["1"] == ThresholdShift("one", 0.5, 0.45, 3, pytest.approx(-0.05))
    # One detection is missing altogether: no threshold of the file's own brings it back.
    assert (shifts["2"].exported, shifts["2"].detections) == (0.0, 2)
    [check] = check_thresholds(shifts, TOLERANCES["int8"])
    assert (check.passed, check.measured) == (False, "-0.4000 (two: 0.400 to 0.000)")
    assert check_thresholds({"1": shifts["1"]}, TOLERANCES["int8"])[0].passed
    assert check_thresholds({}, TOLERANCES["int8"]) == []
