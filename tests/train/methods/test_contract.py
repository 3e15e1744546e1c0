"""What every method must hold, whatever its idea: one suite over METHODS."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

from aweigh.runtime.errors import BadInput
from aweigh.train.dense.boxes import iou
from aweigh.train.dense.points import Points, make_points
from aweigh.train.dense.postprocess import Dense, PostProcess
from aweigh.train.methods import METHODS, Method, Predictions, Targets, make_method, method_class

SHAPES = [(16, 20), (8, 10), (4, 5), (2, 3), (1, 2)]
STRIDES = [8, 16, 32, 64, 128]
SIZE_WH = torch.tensor([160.0, 128.0])


def points_for(method: Method, dtype: torch.dtype = torch.float32) -> Points:
    return make_points(SHAPES, STRIDES, method.point_offset, dtype=dtype)


def random_predictions(
    points: Points, images: int, classes: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    count = len(points.xy)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    reg = (normal(images, count, 4).abs() + 0.5) * points.stride[:, None].to(dtype)
    return Predictions(
        (normal(images, count, classes) - 2).requires_grad_(),
        reg.requires_grad_(),
        normal(images, count).requires_grad_(),
    )


def random_targets(images: int, per_image: int, classes: int, seed: int = 0) -> Targets:
    generator = torch.Generator().manual_seed(seed)
    boxes, labels = [], []
    for _ in range(images):
        centre = torch.rand(per_image, 2, generator=generator) * SIZE_WH
        half = torch.rand(per_image, 2, generator=generator) * 35 + 6
        boxes.append(torch.cat((centre - half, centre + half), dim=1))
        labels.append(torch.randint(0, classes, (per_image,), generator=generator))
    return Targets.join(boxes, labels)


def no_targets(images: int) -> Targets:
    return Targets.join([torch.zeros(0, 4)] * images, [torch.zeros(0, dtype=torch.long)] * images)


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def require_finite(losses: dict[str, Tensor], predictions: Predictions) -> None:
    total(losses).backward()
    for name, value in losses.items():
        assert torch.isfinite(value), f"{name} is {value}"
        assert value.ndim == 0
    for tensor in (predictions.cls_logits, predictions.reg, predictions.obj_logits):
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()


@pytest.fixture(params=sorted(METHODS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("classes", [1, 5, 1200])
def test_loss_and_gradients_are_finite_for_any_number_of_classes(name: str, classes: int) -> None:
    method = make_method(name, classes)
    points = points_for(method)
    predictions = random_predictions(points, 2, classes)
    require_finite(method.loss(predictions, points, random_targets(2, 5, classes), 0.5), predictions)


@pytest.mark.parametrize("per_image", [(0, 0), (0, 3), (3, 0)])
def test_images_without_objects_are_negatives(name: str, per_image: tuple[int, int]) -> None:
    method = make_method(name, 4)
    points = points_for(method)
    predictions = random_predictions(points, 2, 4)
    parts = [random_targets(1, n, 4, seed=n) if n else no_targets(1) for n in per_image]
    targets = Targets.join([p.boxes_xyxy for p in parts], [p.labels for p in parts])
    losses = method.loss(predictions, points, targets, 0.0)
    require_finite(losses, predictions)
    assert predictions.cls_logits.grad is not None
    assert (predictions.cls_logits.grad[0].abs().sum() > 0).item(), "an empty image must still be learnt from"


def test_object_that_holds_no_point(name: str) -> None:
    method = make_method(name, 3)
    points = points_for(method)
    predictions = random_predictions(points, 1, 3)
    targets = Targets.join([torch.tensor([[9.0, 9.0, 10.0, 10.0]])], [torch.tensor([1])])
    require_finite(method.loss(predictions, points, targets, 0.3), predictions)


def test_three_hundred_objects_in_one_image(name: str) -> None:
    method = make_method(name, 3)
    points = points_for(method)
    predictions = random_predictions(points, 1, 3)
    require_finite(method.loss(predictions, points, random_targets(1, 300, 3), 0.9), predictions)


def test_order_of_the_truths_does_not_matter(name: str) -> None:
    """Different classes throughout: of the same class, DW's authors let the last truth win where two overlap."""
    method = make_method(name, 6).double()
    points = points_for(method, torch.float64)
    targets = random_targets(1, 6, 6)
    boxes, labels = targets.boxes_xyxy.double(), torch.arange(6)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    values = []
    for b, t in ((boxes, labels), (boxes[order], labels[order])):
        predictions = random_predictions(points, 1, 6, dtype=torch.float64)
        values.append(float(total(method.loss(predictions, points, Targets.join([b], [t]), 0.4)).detach()))
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_duplicated_image_leaves_the_loss(name: str) -> None:
    """Every normaliser counts over the batch."""
    method = make_method(name, 3).double()
    points = points_for(method, torch.float64)
    targets = random_targets(1, 5, 3)
    boxes = targets.boxes_xyxy.double()
    one = random_predictions(points, 1, 3, dtype=torch.float64)
    two = Predictions(*(torch.cat((t, t)) for t in (one.cls_logits, one.reg, one.obj_logits)))
    single = method.loss(one, points, Targets.join([boxes], [targets.labels]), 0.4)
    double = method.loss(two, points, Targets.join([boxes, boxes], [targets.labels, targets.labels]), 0.4)
    for key, value in single.items():
        # DW's negative normaliser is a float32, as its authors'.
        assert float(value.detach()) == pytest.approx(float(double[key].detach()), rel=1e-6)


def test_bfloat16_network_output(name: str) -> None:
    """Maps arrive in bfloat16 under autocast; the loss is computed in float32."""
    method = make_method(name, 3)
    points = points_for(method)
    generator = torch.Generator().manual_seed(0)
    maps = []
    for rows, columns in SHAPES:
        level = {
            branch.name: torch.randn(2, branch.channels or 3, rows, columns, generator=generator).bfloat16()
            for branch in method.branches()
        }
        maps.append({key: value.requires_grad_() for key, value in level.items()})
    predictions = method.predictions(maps, points)
    losses = method.loss(predictions, points, random_targets(2, 4, 3), 0.5)
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in losses.values())
    total(losses).backward()
    assert all(torch.isfinite(level["cls"].grad).all() for level in maps)


def test_free_predictions_learn_the_objects(name: str) -> None:
    """Descend on the predictions themselves: the method's own post-processing must then return just the truths."""
    method = make_method(name, 3)
    points = points_for(method)
    boxes = torch.tensor([[20.0, 20.0, 70.0, 80.0], [90.0, 30.0, 150.0, 100.0], [60.0, 70.0, 100.0, 120.0]])
    labels = torch.tensor([0, 2, 1])
    targets = Targets.join([boxes], [labels])
    leaves = [
        {branch.name: torch.full((1, branch.channels or 3, *shape), branch.bias) for branch in method.branches()}
        for shape in SHAPES
    ]
    for level in leaves:
        level["cls"] -= 3.0
        for leaf in level.values():
            leaf.requires_grad_()
    optimizer = torch.optim.Adam([leaf for level in leaves for leaf in level.values()], lr=0.1)
    steps = 300
    for step in range(steps):
        optimizer.zero_grad()
        losses = method.loss(method.predictions(leaves, points), points, targets, step / (steps - 1))
        total(losses).backward()
        optimizer.step()
    predictions = method.predictions(leaves, points)
    dense = Dense(
        method.boxes(predictions.reg, points.xy, points.stride),
        method.scores(predictions),
        predictions.cls_logits.sigmoid(),
        points.level_sizes,
        (128, 160),
    )
    found, boxes_xyxy, scores, found_labels = PostProcess(method.post())(dense)
    strong = scores[0] > 0.5
    assert int(found[0]) >= 3
    overlaps = iou(boxes_xyxy[0, strong][:, None], boxes)
    assert overlaps.shape[0] == 3, f"one strong detection per object, got {overlaps.shape[0]}"
    best = overlaps.max(dim=0)
    assert (best.values > 0.8).all()
    assert torch.equal(found_labels[0, strong][best.indices], labels)


def test_config_is_frozen_and_every_option_is_settable(name: str) -> None:
    config = method_class(name).config_class
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config(), dataclasses.fields(config)[0].name, None)
    options = {f.name: f.default for f in dataclasses.fields(config)}
    assert make_method(name, 2, options).name == name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_loss_and_the_gradients_of_the_cpu(name: str) -> None:
    found = []
    for device in ("cpu", "cuda"):
        method = make_method(name, 3).double().to(device)
        grid = points_for(method, torch.float64)
        points = dataclasses.replace(grid, xy=grid.xy.to(device), stride=grid.stride.to(device))
        cpu = random_predictions(points_for(method, torch.float64), 2, 3, dtype=torch.float64)
        given = Predictions(
            *(t.detach().to(device).requires_grad_() for t in (cpu.cls_logits, cpu.reg, cpu.obj_logits))
        )
        truths = random_targets(2, 9, 3)
        targets = Targets(truths.boxes_xyxy.double().to(device), truths.labels.to(device), truths.image.to(device))
        losses = method.loss(given, points, targets, 0.4)
        total(losses).backward()
        grads = [t.grad.cpu() for t in (given.cls_logits, given.reg, given.obj_logits) if t.grad is not None]
        found.append(([value.detach().cpu() for value in losses.values()], grads))
    torch.testing.assert_close(found[0], found[1])


def _rank_gradients(rank: int, world: int, port: int, names: list[str], out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    for name in names:
        gradient = _joined_gradient(name, slice(rank, rank + 1))
        torch.distributed.all_reduce(gradient)
        torch.save(gradient / world, f"{out}/{name}-{rank}.pt")
    torch.distributed.destroy_process_group()


def _joined_gradient(name: str, images: slice) -> Tensor:
    """Gradient of a weight that every prediction depends on, over some images of a fixed batch of two."""
    method = make_method(name, 3).double()
    points = points_for(method, torch.float64)
    weight = torch.ones(6, dtype=torch.float64, requires_grad=True)
    full = random_predictions(points, 2, 3, dtype=torch.float64)
    scaled = Predictions(
        full.cls_logits.detach()[images] * weight[0],
        full.reg.detach()[images] * weight[1:5],
        full.obj_logits.detach()[images] * weight[5],
    )
    truths = [random_targets(1, n, 3, seed=n) for n in (3, 6)][images]
    targets = Targets.join([t.boxes_xyxy.double() for t in truths], [t.labels for t in truths])
    total(method.loss(scaled, points, targets, 0.4)).backward()
    assert weight.grad is not None
    return weight.grad


@pytest.fixture(scope="module")
def rank_gradients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files METHOD-RANK.pt of all methods, from one pair of processes: each start imports torch anew, for seconds."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments: tuple[Any, ...] = (2, port, sorted(METHODS), str(folder))
    mp.start_processes(_rank_gradients, args=arguments, nprocs=2, start_method="spawn")
    return folder


def test_two_processes_equal_one_with_the_joined_batch(name: str, rank_gradients: Path) -> None:
    expected = _joined_gradient(name, slice(0, 2))
    for rank in range(2):
        found = torch.load(rank_gradients / f"{name}-{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_options_of_methods_are_checked() -> None:
    with pytest.raises(BadInput, match="method paa: boundary: got 'z', expected one of b, c, d"):
        make_method("paa", 3, {"boundary": "z"})
    with pytest.raises(BadInput, match="temperature"):
        make_method("o2f", 3, {"temperature": [0.6]})
