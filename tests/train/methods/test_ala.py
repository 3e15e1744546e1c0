"""ALA: the readings of the paper that its header lists, one by one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aweigh.runtime.spec import InputSpec
from aweigh.train.dense.points import Points, make_points
from aweigh.train.methods import Predictions, Targets, make_method
from aweigh.train.methods.ala import ALA
from aweigh.train.methods.instance_property import blurred
from aweigh.train.models.detector import build_detector

POINTS = make_points([(12, 16), (6, 8), (3, 4)], [8, 16, 32], 0.5, dtype=torch.float64)
BOXES = torch.tensor([[16.0, 12.0, 88.0, 80.0], [70.0, 10.0, 120.0, 60.0]], dtype=torch.float64)
LABELS = torch.tensor([1, 2])


def ala(**options: object) -> ALA:
    method = make_method("ala", 3, options).double()
    assert isinstance(method, ALA)
    return method


def predictions(images: int = 1, seed: int = 0, points: Points = POINTS) -> Predictions:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    count = len(points.xy)
    reg = (normal(images, count, 4).abs() + 1) * points.stride[:, None]
    tensors = (normal(images, count, 3) - 2, reg, normal(images, count))
    return Predictions(*(t.requires_grad_() for t in tensors))


def dense_loss(method: ALA, given: Predictions, progress: float) -> dict[str, Tensor]:
    """The loss of one image point by point, class by class, as the header reads the paper."""
    config, p = method.config, given.cls_logits[0].sigmoid()
    foreground = given.obj_logits[0].sigmoid()
    boxes = method.boxes(given.reg[0], POINTS.xy, POINTS.stride)
    covered = torch.zeros(len(POINTS.xy), dtype=torch.bool)
    positive, rival = torch.zeros_like(p, dtype=torch.bool), torch.zeros_like(p, dtype=torch.bool)
    negative = torch.zeros((), dtype=torch.float64)
    sums: list[tuple[Tensor, Tensor, int]] = []  # of each object: hard and soft loss, hard points
    scores: list[dict[int, Tensor]] = []  # of each object, by point
    for box, label in zip(BOXES, LABELS.tolist(), strict=True):
        inside = [i for i, (x, y) in enumerate(POINTS.xy.tolist()) if box[0] < x < box[2] and box[1] < y < box[3]]
        covered[inside] = True
        scores.append({})
        for i in inside:
            low, high = torch.maximum(boxes[i, :2], box[:2]), torch.minimum(boxes[i, 2:], box[2:])
            overlap = (high - low).clamp(min=0).prod()
            union = (boxes[i, 2:] - boxes[i, :2]).prod() + (box[2:] - box[:2]).prod() - overlap
            located = torch.exp(-config.loc_sharpness * (1 - overlap / union) ** config.loc_power)
            distance = (POINTS.xy[i] - (box[:2] + box[2:]) / 2) / POINTS.stride[i]
            prior = torch.exp(-distance.square().sum() / 2)
            quality = p[i, label] ** config.cls_power * located ** (1 - config.cls_power)
            scores[-1][i] = quality * prior * foreground[i]
    for own, other, label in ((scores[0], scores[1], int(LABELS[0])), (scores[1], scores[0], int(LABELS[1]))):
        kept = {i: value for i, value in own.items() if i not in other or value > other[i]}
        s = torch.stack(list(kept.values()))
        hard_sum = soft_sum = torch.zeros((), dtype=torch.float64)
        hard_count = 0
        mean, deviation = s.detach().mean(), s.detach().std(correction=0)
        for i, value in kept.items():
            lowering = p[i, label] ** 2 * -torch.log(1 - p[i, label])
            best = bool(value == s.max())
            if best or (value >= mean + deviation and not config.one_to_one):
                hard_sum, hard_count = hard_sum - value.log(), hard_count + 1
            elif config.one_to_one:
                rival[i, label] = True
                continue
            elif value >= mean - deviation:
                xi = float(0.5 * (value / s.max()).detach() * (1 + math.cos(math.pi * progress)))
                soft_sum = soft_sum - xi * value.log() + (1 - xi) * lowering
            else:
                continue
            positive[i, label] = True
        sums.append((hard_sum, soft_sum, hard_count))
    for i in range(len(p)):
        for c in range(p.shape[1]):
            if not positive[i, c]:
                s = p[i, c] if covered[i] else p[i, c] * (1 - foreground[i]).detach()
                power = 0 if rival[i, c] else 2
                negative = negative - 0.75 * s**power * torch.log(1 - s)
        if not covered[i]:
            negative = negative - 0.75 * foreground[i] ** 2 * torch.log(1 - foreground[i])
    count = sum(n for _, _, n in sums)
    if config.mean_over == "points":
        hard, soft = (sum(pair[k] for pair in sums) / count for k in (0, 1))
    else:
        hard, soft = (sum(pair[k] / pair[2] for pair in sums) / len(sums) for k in (0, 1))
    return {"loss_hard": hard, "loss_soft": soft, "loss_neg": negative / count}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("progress", "options"),
    [
        (0.0, {"mean_over": "points"}),
        (0.4, {"mean_over": "objects"}),
        (1.0, {"mean_over": "points"}),
        (0.4, {"one_to_one": True}),
        (0.4, {"one_to_one": True, "mean_over": "points"}),
    ],
)
def test_loss_equals_its_definition(progress: float, options: dict[str, object]) -> None:
    method, given = ala(giou_scale=0.0, **options), predictions()
    targets = Targets.join([BOXES], [LABELS])
    found = method.loss(given, POINTS, targets, progress)
    expected = dense_loss(method, given, progress)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")
    wanted = torch.autograd.grad(sum(expected.values()), [given.cls_logits, given.reg, given.obj_logits])  # type: ignore[arg-type]
    given_grads = torch.autograd.grad(sum(found.values()), [given.cls_logits, given.reg, given.obj_logits])  # type: ignore[arg-type]
    for a, b in zip(given_grads, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_prior_starts_at_the_centre_with_one_stride_and_its_loss_does_not_only_widen_it() -> None:
    method, given = ala(), predictions()
    targets = Targets.join([BOXES], [LABELS])
    mu, sigma = method.prior_of(given, targets)
    assert torch.equal(mu, torch.zeros_like(mu))
    torch.testing.assert_close(sigma, torch.ones_like(sigma))
    # Learn the prior alone while the best points crowd around the centre: sigma must settle, not grow for ever.
    optimizer = torch.optim.Adam([method.prior], lr=0.1)
    widths = []
    for _ in range(300):
        optimizer.zero_grad()
        method.loss(given, POINTS, targets, 1.0)["loss_hard"].backward()
        optimizer.step()
        widths.append(float(method.prior_of(given, targets)[1].max().detach()))
    assert widths[-1] < 2 * max(widths[:50])
    assert abs(widths[-1] - widths[-30]) < 0.05 * widths[-1]


def test_foreground_learns_from_objects_and_from_the_ground_and_never_by_sparing_negatives() -> None:
    method, given = ala(), predictions()
    sum(method.loss(given, POINTS, Targets.join([BOXES], [LABELS]), 0.5).values()).backward()  # type: ignore[union-attr]
    assert given.obj_logits.grad is not None
    grad = given.obj_logits.grad[0]
    inside = ((POINTS.xy[:, None] > BOXES[:, :2]) & (POINTS.xy[:, None] < BOXES[:, 2:])).all(dim=2).any(dim=1)
    assert (grad[inside] <= 0).all(), "inside, foreground rises"
    assert (grad[~inside] > 0).all(), "outside, it falls"


def test_an_object_without_a_point_takes_the_nearest_and_its_box_learns() -> None:
    method, given = ala(), predictions()
    box = torch.tensor([[36.9, 28.9, 37.4, 29.4]], dtype=torch.float64)  # between the points of every level
    targets = Targets.join([box], [LABELS[:1]])
    chosen = method.select(given, POINTS, targets, 0.5)
    assert POINTS.xy[chosen.pairs.point].tolist() == [[36.0, 28.0]]
    assert chosen.hard.tolist() == [True]
    sum(method.loss(given, POINTS, targets, 0.5).values()).backward()  # type: ignore[union-attr]
    assert given.reg.grad is not None
    assert (given.reg.grad[0, chosen.pairs.point] != 0).any()


@pytest.mark.parametrize("labels", [[1, 1], [1, 2]])
def test_of_two_objects_at_one_point_the_better_keeps_it(labels: list[int]) -> None:
    method, given = ala(), predictions()
    targets = Targets.join([torch.stack((BOXES[0], BOXES[0] + 4))], [torch.tensor(labels)])
    pairs = method.select(given, POINTS, targets, 0.5).pairs
    assert len(set(pairs.point.tolist())) == len(pairs)
    assert set(pairs.truth.tolist()) == {0, 1}


def test_one_to_one_has_one_positive_each_and_needs_no_nms() -> None:
    method, given = ala(one_to_one=True), predictions()
    chosen = method.select(given, POINTS, Targets.join([BOXES], [LABELS]), 0.0)
    assert chosen.pairs.sum(chosen.hard.long()).tolist() == [1, 1]
    assert not chosen.soft.any()
    best = [int(chosen.quality[chosen.pairs.truth == g].argmax()) for g in (0, 1)]
    assert [int(chosen.hard[chosen.pairs.truth == g].nonzero()) for g in (0, 1)] == best
    assert method.post().kind == "none"
    assert ala().post().kind == "nms"


def test_giou_term_is_there_where_asked_for() -> None:
    targets = Targets.join([BOXES], [LABELS])
    assert "loss_giou" not in ala(giou_scale=0.0).loss(predictions(), POINTS, targets, 0.5)
    losses = ala(giou_scale=2.0).loss(predictions(), POINTS, targets, 0.5)
    assert 0 < float(losses["loss_giou"].detach()) < 4


def test_ranking_score() -> None:
    given = predictions()
    torch.testing.assert_close(ala(ranking="cls").scores(given), given.cls_logits.sigmoid())
    both = given.cls_logits.sigmoid() * given.obj_logits.sigmoid()[..., None]
    torch.testing.assert_close(ala(ranking="cls-foreground").scores(given), both)


def test_blur_is_the_gaussian_of_radius_3_and_variance_2_with_edges_repeated() -> None:
    spike = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
    spike[0, 0, 7, 7] = 1
    seen = blurred(spike)[0, 0]
    assert float(seen.sum()) == pytest.approx(1)
    assert float(seen[7, 7] / seen[7, 8]) == pytest.approx(math.exp(1 / 4))
    assert float(seen[7, 10] / seen[10, 7]) == pytest.approx(1)
    assert (seen[7, 11:] == 0).all()
    torch.testing.assert_close(blurred(torch.full((1, 1, 5, 6), 0.3)), torch.full((1, 1, 5, 6), 0.3))


@pytest.mark.parametrize("prior", ["image", "class"])
def test_prior_of_the_picture_is_read_off_the_pyramid(prior: str) -> None:
    torch.manual_seed(0)
    network = {"width": 8, "channels": 16, "convs": 1}
    detector = build_detector("nano", "ala", 3, InputSpec((64, 64)), network, {"prior": prior})
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    maps = detector(images)
    points, found = detector.read(maps)
    assert (found.image_terms is None) == (prior == "class")
    targets = Targets.join([torch.tensor([[8.0, 8.0, 40.0, 40.0]])] * 2, [torch.tensor([1]), torch.tensor([1])])
    sum(detector.method.loss(found, points, targets, 0.5).values()).backward()  # type: ignore[union-attr]
    method = detector.method
    assert isinstance(method, ALA)
    assert method.prior.grad is not None
    assert (method.prior.grad[1] != 0).any()
    assert (method.prior.grad[[0, 2]] == 0).all()
    assert method.property_branch.properties.weight.grad is not None
    assert (method.property_branch.properties.weight.grad != 0).any()
    if prior == "image":
        assert method.prior_of_image.weight.grad is not None
        assert (method.prior_of_image.weight.grad.view(3, 4, -1)[1] != 0).any()
    assert torch.isfinite(found.obj_logits).all()
    assert ((found.obj_logits.sigmoid() > 0) & (found.obj_logits.sigmoid() < 1)).all()
