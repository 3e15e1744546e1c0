"""Detections as JSON of another program, next to those of the runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

from aweigh.runtime.results.detections import Detections


def require_same(answer: dict[str, Any], expected: Detections, threshold: float) -> int:
    """Same number and labels, boxes within 0.01 px, scores within 1e-4; how many there are.

    Detections whose score is within 1e-4 of the threshold may be missing on either side.
    """
    found = answer["detections"]
    assert [answer["height"], answer["width"]] == list(expected.orig_shape)
    left = list(range(len(expected)))
    for row in found:
        box_xyxy = np.array(row["box"])
        near = [
            i
            for i in left
            if expected.cls[i] == row["class_id"]
            and np.abs(expected.xyxy[i] - box_xyxy).max() <= 0.01
            and abs(expected.conf[i] - row["score"]) <= 1e-4
        ]
        assert near or row["score"] <= threshold + 1e-4, row
        if near:
            assert row["label"] == expected.names[row["class_id"]]
            left.remove(near[0])
    assert [i for i in left if expected.conf[i] > threshold + 1e-4] == []
    return len(found)
