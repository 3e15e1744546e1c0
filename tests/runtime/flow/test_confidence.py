"""Thresholds by class, and the best ones kept in the file."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.confidence import above, default_drawing, resolve_conf
from aweigh.runtime.spec import SCHEMA_VERSION, ModelSpec


@pytest.fixture
def best(spec: ModelSpec) -> ModelSpec:
    """17 has no best threshold, 3 has one."""
    return dataclasses.replace(spec, best_conf=(None, 0.4))


def test_best_is_by_class(best: ModelSpec) -> None:
    conf = resolve_conf("best", best)
    assert conf == {3: 0.4}
    scores, labels = np.array([0.06, 0.9, 0.41, 0.4]), np.array([0, 0, 1, 1])
    assert above(scores, labels, conf, best).tolist() == [True, True, True, False]
    assert above(scores, labels, 0.5, best).tolist() == [False, True, False, False]
    assert above(scores, labels, None, best).all()


def test_best_never_lies_below_what_the_file_computes(best: ModelSpec) -> None:
    low = dataclasses.replace(best, best_conf=(0.01, 0.4))
    assert resolve_conf("best", low) == {17: best.post.score_threshold, 3: 0.4}


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ("highest", "or best"),
        ({4: 0.5}, r"unknown category ids \[4\]"),
        ({3: 0.001}, "score threshold"),
        ({3: 1.5}, "to 1"),
        (float("nan"), "to 1"),
    ],
)
def test_thresholds_that_make_no_sense(best: ModelSpec, conf: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        resolve_conf(conf, best)


def test_files_without_best_thresholds(spec: ModelSpec) -> None:
    with pytest.raises(BadInput, match="no best thresholds"):
        resolve_conf("best", spec)
    with pytest.raises(BadInput, match="no best thresholds"):
        resolve_conf("best", dataclasses.replace(spec, best_conf=(None, None)))


def test_specs_of_before_and_after(best: ModelSpec) -> None:
    """A file of schema 1.0 has no such field; one of a later minor schema may have fields unknown here."""
    old = best.to_dict()
    del old["best_conf"]
    assert ModelSpec.from_dict({**old, "schema": "1.0"}) == dataclasses.replace(best, best_conf=())
    assert ModelSpec.from_json(best.to_json()) == best
    assert ModelSpec.from_dict({**best.to_dict(), "schema": "1.99", "colour": "red"}) == best
    with pytest.raises(BadInput, match="colour"):
        ModelSpec.from_dict({**best.to_dict(), "schema": SCHEMA_VERSION, "colour": "red"})
    with pytest.raises(BadInput, match="1 thresholds of 2 categories"):
        ModelSpec.from_dict({**best.to_dict(), "best_conf": [0.5]})


def test_images_are_drawn_at_the_best_thresholds(best: ModelSpec) -> None:
    assert default_drawing(best) == {17: 0.3, 3: 0.4}  # 0.3 for the class without
    assert default_drawing(dataclasses.replace(best, best_conf=(0.01, 0.2))) == {17: best.post.score_threshold, 3: 0.2}


def test_images_are_drawn_at_0_3_without_best_thresholds(spec: ModelSpec) -> None:
    assert default_drawing(spec) == 0.3
    assert default_drawing(dataclasses.replace(spec, best_conf=(None, None))) == 0.3
    high = dataclasses.replace(spec, post=dataclasses.replace(spec.post, score_threshold=0.6))
    assert default_drawing(high) == 0.6
