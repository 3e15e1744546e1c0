from __future__ import annotations

import pytest

from aweigh.export.proof.metrics.threshold_shift import ThresholdShift, check_thresholds, threshold_shifts
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
    assert (shifts["2"].exported, shifts["2"].detections, shifts["2"].missing) == (0.0, 2, 1)
    check, classes = check_thresholds(shifts, TOLERANCES["int8"])
    assert (check.passed, check.measured) == (False, "-0.4000 (two: 0.400 to 0.000)")
    assert (classes.passed, classes.measured, classes.limit) == (True, "1 of 2 missing (two)", "at most 1")
    assert all(check.passed for check in check_thresholds({"1": shifts["1"]}, TOLERANCES["int8"]))
    assert check_thresholds({}, TOLERANCES["int8"]) == []


@pytest.mark.parametrize(("left", "passed"), [(40, True), (34, True), (33, False), (0, False)])
def test_a_class_that_is_gone_fails_however_low_its_scores_were(left: int, passed: bool) -> None:
    """Measured on BCCD in INT8: all 41 platelets of six images were lost, at scores of 0.05 to 0.1, and counted as
    borderline; the shift of the threshold, from 0.07 to nothing, was within the tolerance for scores.
    """
    metrics = Metrics({}, (one(1, "one", 0.5), one(2, "two", 0.06)), images=4)
    common = rows(1, [0.9, 0.8, 0.7])
    shifts = threshold_shifts(metrics, common + rows(2, [0.08] * 40), common + rows(2, [0.075] * left))
    shift, classes = check_thresholds(shifts, TOLERANCES["int8"])
    assert shift.passed
    assert classes.passed == passed
    assert passed or (classes.measured, classes.limit) == (f"{40 - left} of 40 missing (two)", "at most 6")
