"""What each loss asks of a GPU, counted on a CPU: it must not grow, nor follow the number of objects."""

from __future__ import annotations

import pytest
import torch
from launches import Launches

from aweigh.train.dense.points import make_points
from aweigh.train.methods import METHODS, Predictions, Targets, make_method

# Computing calls and waits of the host, forward and backward.
MOST_COMPUTING, MOST_WAITING = 300, 2


def case(name: str, per_image: int) -> Launches:
    method = make_method(name, 3)
    points = make_points([(16, 20), (8, 10), (4, 5), (2, 3), (1, 2)], [8, 16, 32, 64, 128], method.point_offset)
    generator = torch.Generator().manual_seed(per_image)
    reg = (torch.randn(2, len(points.xy), 4, generator=generator).abs() + 0.5) * points.stride[:, None]
    values = (
        torch.randn(2, len(points.xy), 3, generator=generator) - 2,
        reg if name != "paa" else reg / reg.amax(),
        torch.randn(2, len(points.xy), generator=generator),
    )
    predictions = Predictions(*(value.requires_grad_() for value in values))
    centres = torch.rand(2, per_image, 2, generator=generator) * torch.tensor([160.0, 128.0])
    half = torch.rand(2, per_image, 2, generator=generator) * 35 + 6
    boxes = torch.cat((centres - half, centres + half), dim=2)
    targets = Targets.join(list(boxes), list(torch.randint(0, 3, (2, per_image), generator=generator)))
    with Launches() as counted:
        total = torch.stack(list(method.loss(predictions, points, targets, 0.5).values())).sum()
        torch.autograd.backward(total)
    return counted


@pytest.mark.parametrize("per_image", [12, 100, 300])
@pytest.mark.parametrize("name", list(METHODS))
def test_a_loss_stays_within_its_launches_and_waits(name: str, per_image: int) -> None:
    counted = case(name, per_image)
    assert counted.computing.total() <= MOST_COMPUTING, counted.computing
    assert counted.waiting.total() <= MOST_WAITING, counted.waiting


def test_the_count_knows_what_computes_and_what_waits() -> None:
    values = torch.arange(6.0)
    with Launches() as counted:
        _ = values.view(2, 3).t()  # views are free
        _ = values[values > 2]
        _ = float(values.sum())
        _ = torch.repeat_interleave(torch.tensor([1, 2]), output_size=3)
    assert counted.waiting == {"index": 1, "_local_scalar_dense": 1}
    assert counted.computing["gt"] == counted.computing["sum"] == 1
