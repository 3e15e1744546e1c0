"""Post-processing on the host, from raw files, against the graphs that have it inside.

The exports are those of test_parity, made once per run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime import BadInput, Detections, Detector
from aweigh.runtime.boxes import overlap
from aweigh.runtime.views.agnostic import Agnostic
from aweigh.runtime.views.augmented import Augmented, merge_views, mirror
from aweigh.runtime.views.candidates import CandidateDetector

pytestmark = pytest.mark.slow

MakeExport = Callable[..., Path]


@pytest.fixture
def pictures() -> list[np.ndarray]:
    """As large as the network input, so that no rounding comes between; one of them smaller."""
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (*hw, 3), dtype=np.uint8) for hw in ((128, 160), (128, 160), (128, 100))]


def equal(ours: Detections, theirs: Detections) -> None:
    assert len(theirs) > 20
    assert ours.cls.tolist() == theirs.cls.tolist()
    np.testing.assert_allclose(ours.conf, theirs.conf, atol=1e-6)
    np.testing.assert_allclose(ours.xyxy, theirs.xyxy, atol=1e-3)


def test_nms_on_the_host_is_the_graphs(make_export: MakeExport, pictures: list[np.ndarray]) -> None:
    with CandidateDetector(make_export("dw", post="raw")) as raw, Detector(make_export("dw", post="auto")) as whole:
        candidates = raw(pictures)
        for picture, ours, seen in zip(pictures, Augmented(raw, flip=False)(pictures), candidates, strict=True):
            equal(ours, whole(picture))
            assert len(seen) > len(ours)
            assert (np.diff(seen.conf) <= 0).all()
        assert len(raw(pictures[0], conf=0.5)) < len(candidates[0])


def test_agnostic_nms_on_the_host_is_the_graphs(make_export: MakeExport, pictures: list[np.ndarray]) -> None:
    """By the file's spec, and as an argument for a file that does not say so."""
    whole_path = make_export("dw", post="auto", agnostic=True)
    with Detector(whole_path) as whole, CandidateDetector(make_export("dw", post="raw", agnostic=True)) as raw:
        for picture in pictures:
            equal(Augmented(raw, flip=False)(picture), whole(picture))
    with Detector(whole_path) as whole, CandidateDetector(make_export("dw", post="raw")) as raw:
        for picture in pictures:
            equal(Augmented(raw, flip=False, agnostic=True)(picture), whole(picture))
            assert len(Augmented(raw, flip=False)(picture)) > len(whole(picture))


def test_agnostic_at_run_time_is_nearly_the_graphs(make_export: MakeExport, pictures: list[np.ndarray]) -> None:
    """Suppression among the survivors of NMS within classes: one label for an object, and no box that is not there."""
    with Detector(make_export("dw", post="auto", agnostic=True)) as whole, Detector(make_export("dw")) as plain:
        for picture in pictures:
            ours, theirs = Agnostic(plain)(picture), whole(picture)
            shares = overlap(ours.xyxy[:, None], ours.xyxy[None], "iou")
            assert (np.triu(shares, 1) <= plain.spec.post.iou_threshold + 1e-5).all()
            # The rows of the plain file are full with what the other's suppression leaves out.
            assert 0.5 * len(theirs) <= len(ours) < len(plain(picture))
            assert (ours.cls[0], ours.conf[0]) == (theirs.cls[0], pytest.approx(theirs.conf[0], abs=1e-6))


def test_voting_on_the_host_is_the_graphs(make_export: MakeExport, pictures: list[np.ndarray]) -> None:
    with CandidateDetector(make_export("dw", post="raw")) as raw, Detector(make_export("dw", post="vote")) as whole:
        voting = Augmented(raw, flip=False, merge="vote")
        for picture in pictures:
            equal(voting(picture), whole(picture))


def test_views_are_merged_before_nms(make_export: MakeExport, pictures: list[np.ndarray]) -> None:
    """One NMS over the candidates of both views; merging what NMS left of each gives something else here."""
    with CandidateDetector(make_export("dw", post="raw")) as raw, Detector(make_export("dw", post="auto")) as whole:
        picture = pictures[0]
        ours = Augmented(raw, merge="vote")(picture)
        views = [raw(picture), mirror(raw(picture[:, ::-1]))]
        equal(ours, merge_views(views, raw.spec.post, "vote"))
        behind = Augmented(whole, merge="vote")(picture)
    assert ours.to_dict() != behind.to_dict()


def test_candidates_and_detections_do_not_mix(make_export: MakeExport) -> None:
    with (
        CandidateDetector(make_export("dw", post="raw")) as raw,
        Detector(make_export("dw", post="auto")) as whole,
        pytest.raises(BadInput, match="candidates of raw files and detections of others cannot be merged"),
    ):
        Augmented((raw, whole))
