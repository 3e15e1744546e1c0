"""Both forms of NMS, an independent greedy one and ONNX Runtime's operator agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from aweigh.runtime.spec import PostSpec
from aweigh.train.dense import nms
from aweigh.train.dense.boxes import Extents
from aweigh.train.dense.nms import FIRST_CANDIDATES, FIRST_ROUNDS, MATRIX_ROUNDS, nms_keep
from aweigh.train.dense.postprocess import Dense, PostProcess

ToSession = Callable[..., Callable[..., list[Any]]]
IOU = 0.6
MAX_DET = 100


def greedy(
    boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """The textbook's loop."""
    keep = np.zeros(len(scores), bool)
    for i in np.argsort(-scores, kind="stable"):
        if scores[i] <= 0:
            continue
        for j in np.flatnonzero(keep):
            if labels[i] != labels[j]:
                continue
            low, high = np.maximum(boxes[i, :2], boxes[j, :2]), np.minimum(boxes[i, 2:], boxes[j, 2:])
            overlap = np.prod(np.clip(high - low, 0, None))
            areas = [np.prod(boxes[k, 2:] - boxes[k, :2]) for k in (i, j)]
            if overlap / max(areas[0] + areas[1] - overlap, np.float32(1e-6)) > np.float32(IOU):
                break
        else:
            keep[i] = True
    return keep


def crowded(seed: int, count: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Candidates of one image, sorted: whole coordinates (IoU 0.6 exactly occurs), tied scores, some of them 0."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 100, (max(1, count // 25), 2))
    corner = centres[rng.integers(0, len(centres), count)] + rng.integers(-4, 5, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers((0, 16), 40, (count, 2))], axis=1).astype(np.float32)
    scores = -np.sort(-(rng.integers(0, 24, count) / 24).astype(np.float32))
    return torch.tensor(boxes), torch.tensor(scores), torch.tensor(rng.integers(0, classes, count))


def nms_matrix(
    boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, rows: int | None = None
) -> tuple[Tensor, Tensor]:
    return nms.nms_matrix(Extents.of(boxes_xyxy), scores, labels, iou_threshold, rows)


class Keep(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return nms_keep(boxes, scores, labels, IOU, self.classes, 10_000)


class Post(nn.Module):
    def __init__(self, spec: PostSpec) -> None:
        super().__init__()
        self.post = PostProcess(spec)

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.post(Dense(boxes, scores, scores, [boxes.shape[1]], (200, 200)))
        return outputs


@pytest.mark.parametrize("classes", [1, 3, 80])
def test_four_ways_agree(classes: int, to_session: ToSession) -> None:
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    example = tuple(torch.stack(x) for x in zip(*(crowded(i, 50, classes) for i in range(2)), strict=True))
    operator = to_session(Keep(classes), example, (axes, axes, axes))
    kept = suppressed = 0
    for seed in range(24):
        count = (1, 7, 60, 150)[seed % 4]
        batch = [crowded(100 * seed + i, count, classes) for i in range(3)]
        boxes, scores, labels = (torch.stack(x) for x in zip(*batch, strict=True))
        expected = np.stack([greedy(*(t.numpy() for t in one)) for one in batch])
        np.testing.assert_array_equal(nms_keep(boxes, scores, labels, IOU, classes, 10_000).numpy(), expected)
        matrix, converged = nms_matrix(boxes, scores, labels, IOU)
        assert converged.all()
        np.testing.assert_array_equal(matrix.numpy(), expected)
        np.testing.assert_array_equal(operator(boxes, scores, labels)[0], expected)
        kept += int(expected.sum())
        suppressed += int(((scores > 0).numpy() & ~expected).sum())
    assert min(kept, suppressed) > {1: 500, 3: 500, 80: 40}[classes]


class Matrix(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return nms_matrix(boxes, scores, labels, IOU)


@pytest.mark.slow
def test_both_exported_forms_agree_on_a_thousand_crowds(to_session: ToSession) -> None:
    """1,000 candidates each, as an exported file keeps by default, in clusters of 25."""
    batches, images, classes, count = 250, 4, 3, 1000
    example = tuple(torch.stack(x) for x in zip(*(crowded(i, count, classes) for i in range(images)), strict=True))
    operator = to_session(Keep(classes), example, ({}, {}, {}))
    matrix = to_session(Matrix(), example, ({}, {}, {}))
    kept = 0
    for batch in range(batches):
        crowds = [crowded(images * batch + i, count, classes) for i in range(images)]
        boxes, scores, labels = (torch.stack(x) for x in zip(*crowds, strict=True))
        by_matrix, converged = matrix(boxes, scores, labels)
        assert converged.all()
        np.testing.assert_array_equal(by_matrix, operator(boxes, scores, labels)[0])
        kept += int(by_matrix.sum())
    assert 0.2 < kept / (batches * images * count) < 0.8, "crowds in which many are suppressed"


def test_labels_far_apart_cost_no_digits(to_session: ToSession) -> None:
    """Two boxes whose IoU is above the limit by less than a coordinate shifted by label * size could tell."""
    side = 10.0
    shift = side * (1 - 0.6005) / (1 + 0.6005)  # IoU 0.6005
    boxes = torch.tensor([[[630.0, 630, 640, 640], [630 - shift, 630, 640 - shift, 640]]])
    scores, labels = torch.tensor([[0.9, 0.8]]), torch.tensor([[79, 79]])
    operator = to_session(Keep(80), (boxes, scores, labels), ({}, {}, {}))
    assert operator(boxes, scores, labels)[0].tolist() == [[True, False]]


def chain(length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Each box is suppressed by the one before it, if that one stands: greedy keeps every other one."""
    left = torch.arange(length) * 4.0
    boxes = torch.stack([left, torch.zeros(length), left + 20, torch.full((length,), 20.0)], dim=1)  # IoU 2/3, 3/7
    return boxes[None], torch.linspace(0.9, 0.5, length)[None], torch.zeros(1, length, dtype=torch.long)


def test_matrix_form_says_when_a_chain_is_too_long() -> None:
    short, enough = nms_matrix(*chain(MATRIX_ROUNDS - 2), IOU)
    assert enough.all()
    assert short[0].tolist() == [i % 2 == 0 for i in range(MATRIX_ROUNDS - 2)]
    _, too_short = nms_matrix(*chain(2 * MATRIX_ROUNDS), IOU)
    assert not too_short.any()
    # A long chain in one image does not touch the other's answer.
    boxes, scores, labels = chain(2 * MATRIX_ROUNDS)
    both = torch.cat([boxes, boxes]), torch.cat([scores, torch.zeros_like(scores)]), torch.cat([labels, labels])
    assert nms_matrix(*both, IOU)[1].tolist() == [False, True]


def dense_scores(seed: int, points: int, classes: int) -> tuple[Tensor, Tensor]:
    """Boxes [2, P, 4] and untied scores [2, P, C]; the second image is empty."""
    boxes = torch.stack([crowded(seed + i, points, 2)[0] for i in range(2)])
    scores = torch.from_numpy(np.random.default_rng(seed).random((2, points, classes), dtype=np.float32)) ** 3
    scores[1] *= 0.04
    return boxes, scores


@pytest.mark.parametrize(("points", "classes"), [(30, 1), (30, 3), (400, 3), (400, 80)])
def test_forms_give_the_same_rows_in_torch_and_in_onnx(points: int, classes: int, to_session: ToSession) -> None:
    """Fewer candidates than rows, an empty image, one class and eighty."""
    rows: dict[str, list[list[npt.NDArray[Any]]]] = {}
    for form in ("onnx", "matrix"):
        spec = PostSpec("nms", form, top_k_unit="image-pairs", pre_nms_top_k=300)  # type: ignore[arg-type]
        module = Post(spec)
        exported = to_session(module, dense_scores(0, points, classes), ({}, {}))
        rows[form] = []
        for seed in range(8):
            inputs = dense_scores(10 * seed, points, classes)
            expected = [t.numpy() for t in module(*inputs)]
            found = exported(*inputs)
            for ours, theirs in zip(expected, found, strict=True):
                np.testing.assert_array_equal(theirs, ours)
            assert expected[0][0] > 5
            assert expected[0][1] == 0
            assert (expected[3][1] == -1).all()
            rows[form].append(expected[:4])
    for ours, theirs in zip(rows["onnx"], rows["matrix"], strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_top_k_by_level_keeps_all_levels_in_both_forms() -> None:
    boxes, scores = dense_scores(3, 400, 3)
    sizes = [300, 80, 20]
    found = [
        PostProcess(PostSpec("nms", form, pre_nms_top_k=50))(Dense(boxes, scores, scores, sizes, (200, 200)))
        for form in ("onnx", "matrix")
    ]
    for a, b in zip(found[0], found[1][:4], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def first_rows(keep: npt.NDArray[np.bool_], rows: int) -> list[int]:
    return np.flatnonzero(keep)[:rows].tolist()


class Early(nn.Module):
    """The matrix form that stops once 100 rows are known."""

    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return nms_matrix(boxes, scores, labels, IOU, MAX_DET)


def spread(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that do not overlap: the best FIRST_CANDIDATES hold more than enough rows."""
    left = torch.arange(count) * 30.0
    boxes = torch.stack([left, torch.zeros(count), left + 20, torch.full((count,), 20.0)], dim=1)
    return boxes, torch.linspace(0.9, 0.1, count), torch.zeros(count, dtype=torch.long)


def copies(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Seven objects, all of whose copies come before two lonely boxes at the very end."""
    boxes = torch.tensor([[50.0 * (i % 7), 0, 50.0 * (i % 7) + 40, 40] for i in range(count)])
    boxes[-2:] = torch.tensor([[600.0, 0, 640, 40], [700, 0, 740, 40]])
    return boxes, torch.linspace(0.9, 0.1, count), torch.zeros(count, dtype=torch.long)


@pytest.mark.slow
def test_stopping_early_changes_no_row(to_session: ToSession) -> None:
    """Enough rows among the best, too few there, none behind them, and a chain that the first rounds do not settle."""
    count = 3 * FIRST_CANDIDATES
    long_chain = tuple(
        torch.cat([a[0][: FIRST_ROUNDS + 4], b[FIRST_ROUNDS + 4 :]])
        for a, b in zip(chain(FIRST_CANDIDATES), spread(count), strict=True)
    )
    long_chain[0][FIRST_ROUNDS + 4 :, 1::2] += 500
    few = spread(count)
    few[1][FIRST_CANDIDATES - 200 :] = 0
    cases = [spread(count), copies(count), few, long_chain, crowded(1, count, 3), crowded(2, count, 80)]
    example = tuple(torch.stack(x) for x in zip(*cases[:2], strict=True))
    exported = to_session(Early(), example, ({0: torch.export.Dim.DYNAMIC},) * 3)
    for batch in ([case] for case in cases):
        boxes, scores, labels = (torch.stack(x) for x in zip(*batch, strict=True))
        full, settled = nms_matrix(boxes, scores, labels, IOU)
        for keep, converged in (nms_matrix(boxes, scores, labels, IOU, MAX_DET), exported(boxes, scores, labels)):
            assert np.asarray(converged).all() == settled.all()
            assert first_rows(np.asarray(keep)[0], MAX_DET) == first_rows(full.numpy()[0], MAX_DET)
    boxes, scores, labels = (torch.stack(x) for x in zip(*cases, strict=True))
    full, _ = nms_matrix(boxes, scores, labels, IOU)
    together, _ = exported(boxes, scores, labels)
    for ours, whole in zip(together, full.numpy(), strict=True):
        assert first_rows(ours, MAX_DET) == first_rows(whole, MAX_DET)
    # The shortcut is really taken, and really left: behind the first candidates it keeps nothing, or all there is.
    assert not nms_matrix(*(t[None] for t in cases[0]), IOU, MAX_DET)[0][0, FIRST_CANDIDATES:].any()
    assert nms_matrix(*(t[None] for t in cases[1]), IOU, MAX_DET)[0][0, -2:].all()
