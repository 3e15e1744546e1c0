"""Schedules and the average of the weights."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from aweigh.train.loop.optim import Schedule, WeightAverage, load_optimizer, make_optimizer, scaled_lr


def test_warm_up_then_cosine() -> None:
    schedule = Schedule("cosine", last=0.01, warmup=0.1)
    factors = [schedule(i, 100) for i in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx((1 + 0.01) / 2, abs=1e-6)
    assert factors[99] == pytest.approx(0.01, abs=1e-3)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))


def test_steps_of_a_tenth() -> None:
    schedule = Schedule("step", steps=(0.666667, 0.916667))  # as a recipe rounds 8/12 and 11/12
    factors = [schedule(i, 12) for i in range(12)]
    assert factors == pytest.approx([1.0] * 8 + [0.1] * 3 + [0.01])


def test_steps_of_the_papers_at_their_iterations() -> None:
    schedule = Schedule("step", steps=(0.666667, 0.888889))
    changes = [i for i in range(1, 90_000) if schedule(i, 90_000) != schedule(i - 1, 90_000)]
    assert changes == [60_000, 80_000]


def test_warm_up_counted_in_iterations() -> None:
    linear = Schedule("step", steps=(0.9,), warmup_iterations=4, warmup_from=0.2)
    assert [linear(i, 10) for i in range(10)] == pytest.approx([0.4, 0.6, 0.8, 1.0, 1, 1, 1, 1, 1, 0.1])
    constant = Schedule("step", steps=(0.9,), warmup_iterations=4, warmup_from=0.25, warmup_kind="constant")
    assert [constant(i, 10) for i in range(10)] == pytest.approx([0.25] * 4 + [1] * 5 + [0.1])
    assert Schedule("step", warmup_kind="constant")(0, 10) == 1.0


def test_learning_rate_follows_the_batch() -> None:
    assert scaled_lr(0.01, 16, 16) == 0.01
    assert scaled_lr(0.01, 4, 16) == pytest.approx(0.0025)
    assert scaled_lr(0.01, 4, 0) == 0.01


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


@pytest.mark.parametrize(
    ("undecayed", "expected"),
    [(["norm"], [0.05, 0.05, 0.0, 0.0, 0.05]), (["bias"], [0.05, 0.0, 0.05, 0.05, 0.05]), ([], [0.05] * 5)],
)
def test_exceptions_from_the_decay_and_the_rate_of_biases(undecayed: list[str], expected: list[float]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ParameterList([nn.Parameter(torch.ones(5))]))
    optimizer = make_optimizer(model, "sgd", 0.1, 0.05, 0.9, undecayed, bias_lr=2.0)
    of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert [of[id(p)]["weight_decay"] for p in model.parameters()] == expected
    assert [of[id(p)]["lr_share"] for p in model.parameters()] == [1.0, 2.0, 1.0, 1.0, 1.0]


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


def test_a_state_is_fused_on_a_gpu_only() -> None:
    model = nn.Linear(2, 2)
    optimizer = make_optimizer(model, "adamw", 0.1, 0.05, 0.9, device=torch.device("cpu"))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    before = optimizer.state_dict()
    load_optimizer(optimizer, before, torch.device("cuda"))
    assert [group["fused"] for group in optimizer.param_groups] == [True, True]
    load_optimizer(optimizer, optimizer.state_dict(), torch.device("cpu"))
    assert optimizer.state_dict()["param_groups"] == before["param_groups"]
