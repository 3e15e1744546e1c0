"""Schedules and the average of the weights."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from aweigh.train.optim import WeightAverage, lr_factor, make_optimizer


def test_warm_up_then_cosine() -> None:
    factors = [lr_factor(i, 100, 0.1, "cosine", 0.01, ()) for i in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx((1 + 0.01) / 2, abs=1e-6)
    assert factors[99] == pytest.approx(0.01, abs=1e-3)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))


def test_steps_of_a_tenth() -> None:
    factors = [lr_factor(i, 12, 0.0, "step", 0.01, (8 / 12, 11 / 12)) for i in range(12)]
    assert factors == pytest.approx([1.0] * 8 + [0.1] * 3 + [0.01])


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_biases_and_norms_are_not_decayed(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = make_optimizer(model, name, 0.1, 0.05, 0.9)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {n: decay[id(p)] for n, p in model.named_parameters()} == {
        "0.weight": 0.05,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
    }


def test_average_follows_its_definition_and_copies_counters() -> None:
    model = nn.BatchNorm2d(2)
    average = WeightAverage(model, 0.9)
    expected = average.state["weight"].clone()
    for iteration in range(200):
        with torch.no_grad():
            model.weight.add_(0.1)
        model.num_batches_tracked += 1
        decay = min(0.9, (1 + iteration) / (10 + iteration))
        expected = decay * expected + (1 - decay) * model.weight.detach()
        average.update(model, iteration)
    torch.testing.assert_close(average.state["weight"], expected)
    assert int(average.state["num_batches_tracked"]) == 200
