from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime import BadInput, Detections, Detector
from aweigh.runtime.spec import Category, InputSpec, PostSpec
from aweigh.runtime.views.augmented import Augmented, merge_views, mirror, scaled_size
from aweigh.runtime.views.merge import vote
from aweigh.runtime.views.sliced import Sliced

MakeModel = Callable[..., Path]
MakePicture = Callable[..., Any]
PARENTS = {"checkpoint_sha256": "f" * 64}


@pytest.fixture
def opened(make_model: MakeModel) -> Iterator[Callable[..., Detector]]:
    """Opens a model of red boxes, by default of any input size; closes them all."""
    with ExitStack() as stack:

        def open_model(name: str = "red.onnx", dynamic_size: bool = True, **changes: Any) -> Detector:
            size = {"dynamic_size": dynamic_size, **changes.pop("input", {})}
            changes = {"parents": PARENTS, **changes}
            return stack.enter_context(Detector(make_model(name, input=size, **changes)))

        yield open_model


def rows(found: Detections) -> list[tuple[str, list[float], float]]:
    labels = [found.names[i] for i in found.cls.tolist()]
    return sorted(zip(labels, found.xyxy.tolist(), found.conf.tolist(), strict=True))


def test_mirrored_views_come_back_to_their_place(opened: Callable[..., Detector], make_picture: MakePicture) -> None:
    """The mirrored view's left half is the right half of the box: both halves stay, the whole box is there once."""
    found = Augmented(opened())(make_picture())
    assert rows(found) == [
        ("left half", [20, 30, 60, 90], 0.5),
        ("left half", [60, 30, 100, 90], 0.5),
        ("whole", [20, 30, 100, 90], 1.0),
    ]
    assert found.conf.tolist() == [1.0, 0.5, 0.5]
    assert found.orig_shape == (128, 192)


def test_mirror_is_its_own_inverse() -> None:
    found = Detections(
        np.array([[1, 2, 11, 22]], np.float32), np.ones(1, np.float32), np.ones(1, np.int64), {1: "a"}, (40, 60)
    )
    assert mirror(found).xyxy.tolist() == [[49, 2, 59, 22]]
    assert mirror(mirror(found)).xyxy.tolist() == found.xyxy.tolist()


def test_scales_really_are_other_inputs(opened: Callable[..., Detector], make_picture: MakePicture) -> None:
    detector = opened()
    augmented = Augmented(detector, flip=False, scales=(1.0, 2.0, 0.5))
    assert [view.spec.input.size_hw for view, _ in augmented.views] == [(64, 96), (128, 192), (32, 64)]
    assert detector.spec.input.size_hw == (64, 96)
    # An odd box: the half-size input cannot hold its edges, the double one shows them exactly.
    picture = make_picture(box_xyxy=(21, 31, 101, 91))
    assert detector(picture).xyxy[0].tolist() != [21, 31, 101, 91]
    assert detector.resized((128, 192))(picture).xyxy[0].tolist() == [21, 31, 101, 91]
    found = augmented(picture)
    assert [name for name, *_ in rows(found)] == ["left half", "whole"]
    np.testing.assert_allclose(found.xyxy[0], [21, 31, 101, 91], atol=6)


def test_votes_are_those_of_all_views(opened: Callable[..., Detector], make_picture: MakePicture) -> None:
    detector = opened()
    picture = make_picture(box_xyxy=(21, 31, 101, 91))
    views = [detector(picture), detector.resized((128, 192))(picture)]
    found = Augmented(detector, flip=False, scales=(2.0,), merge="vote")(picture)
    xyxy, conf, cls = (np.concatenate([getattr(v, n) for v in views]) for n in ("xyxy", "conf", "cls"))
    expected = vote(views[0].xyxy, views[0].cls, xyxy, conf, cls, 0.025, 0.01)
    np.testing.assert_allclose(found.xyxy, expected)
    assert not np.allclose(expected, views[0].xyxy)
    plain = Augmented(detector, flip=False, scales=(2.0,))(picture)
    assert plain.xyxy.tolist() == views[0].xyxy.tolist()  # of equal scores the first view's


def test_the_file_says_how_views_are_merged(opened: Callable[..., Detector], make_picture: MakePicture) -> None:
    picture = make_picture(box_xyxy=(21, 31, 101, 91))
    for kind, merge in (("vote", "vote"), ("none", "nms")):
        detector = opened(post={"kind": kind})
        found = Augmented(detector, scales=(2.0,))(picture)
        assert rows(found) == rows(Augmented(detector, scales=(2.0,), merge=merge)(picture))


def test_max_det_and_threshold_hold_for_the_merged_result() -> None:
    xyxy = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]], np.float32)
    part = Detections(xyxy, np.array([0.9, 0.8, 0.7], np.float32), np.ones(3, np.int64), {1: "a"}, (99, 99))
    post = PostSpec("nms", iou_threshold=0.85, max_det=4)
    assert merge_views([part, part], post, "nms").conf.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert merge_views([part, part], replace(post, max_det=2), "nms").conf.tolist() == pytest.approx([0.9, 0.8])
    assert merge_views([part, part], replace(post, iou_threshold=0.5), "nms").conf.tolist() == pytest.approx([0.9, 0.7])
    assert len(merge_views([part[[]], part[[]]], post, "vote")) == 0


def test_files_of_several_sizes(opened: Callable[..., Detector], make_picture: MakePicture) -> None:
    small = opened(dynamic_size=False)
    large = opened("large.onnx", dynamic_size=False, input={"size_hw": (128, 192)})
    augmented = Augmented((small, large), flip=False)
    picture = make_picture()
    assert rows(augmented(picture)) == rows(large(picture))
    pictures = [make_picture(box_xyxy=(2 * i, 10, 100, 50)) for i in range(7)]
    assert [rows(found) for found in augmented(pictures)] == [rows(augmented(p)) for p in pictures]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parents": {"checkpoint_sha256": "0" * 64}}, "files of different models, by their metadata"),
        ({"parents": {}}, "files of different models, by their metadata"),
        ({"categories": (Category(1, "a"), Category(2, "b"))}, "files of different models: one knows the classes"),
    ],
)
def test_files_of_other_models(opened: Callable[..., Detector], changes: dict[str, Any], words: str) -> None:
    first, other = opened(), opened("other.onnx", **changes)
    with pytest.raises(BadInput, match=words):
        Augmented((first, other))


@pytest.mark.parametrize(
    ("dynamic", "values", "words"),
    [
        (False, {"scales": (2.0,)}, "takes only 96x64; export it with --dynamic-size, or once for each size"),
        (True, {"scales": (0.0,)}, "scale 0.0: expected a factor from 0.1 to 10"),
        (True, {"scales": (float("nan"),)}, "expected a factor"),
        (True, {"flip": False}, "one view is no augmentation"),
        (True, {"flip": False, "scales": (1.0,)}, "one view is no augmentation"),
        (True, {"merge": "mean"}, "merge 'mean': expected nms or vote"),
        (True, {"iou_threshold": 1.0}, "IoU threshold 1.0"),
    ],
)
def test_what_cannot_be_augmented(
    opened: Callable[..., Detector], dynamic: bool, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        Augmented(opened(dynamic_size=dynamic), **values)


def test_no_detector() -> None:
    with pytest.raises(BadInput, match="needs a detector"):
        Augmented([])


def test_scaled_sizes_are_what_the_network_takes() -> None:
    assert scaled_size(InputSpec((288, 384)), 1.5) == (448, 576)
    assert scaled_size(InputSpec((64, 96)), 0.1) == (32, 32)
    assert scaled_size(InputSpec((800, 1333), resize="keep-ratio"), 0.5) == (400, 666)


def test_resized_refuses_what_the_network_does_not_take(opened: Callable[..., Detector]) -> None:
    detector = opened()
    for size_hw in ((64, 100), (0, 64)):
        with pytest.raises(BadInput, match="expected positive multiples of 32"):
            detector.resized(size_hw)


def test_speed_sums_over_the_views_and_conf_is_checked(
    opened: Callable[..., Detector], make_picture: MakePicture
) -> None:
    augmented = Augmented(opened(), scales=(2.0,))
    found = augmented(make_picture(), conf=0.6)
    assert rows(found) == [("whole", [20, 30, 100, 90], 1.0)]
    assert set(found.speed) == {"decode", "preprocess", "network", "postprocess"}
    assert found.image is not None
    with pytest.raises(BadInput, match=r"score threshold 0\.05"):
        augmented(make_picture(), conf=0.01)


def test_tiles_may_be_augmented(opened: Callable[..., Detector], make_picture: MakePicture) -> None:
    augmented = Augmented(opened())
    picture = make_picture((64, 220), (180, 10, 212, 50))
    found = Sliced(augmented, full_picture=False)(picture)
    assert rows(found) == [
        ("left half", [180, 10, 196, 50], 0.5),
        ("left half", [196, 10, 212, 50], 0.5),
        ("whole", [180, 10, 212, 50], 1.0),
    ]
