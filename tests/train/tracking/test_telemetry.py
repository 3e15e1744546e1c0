"""Telemetry: what the assignment did, summed over steps and written beside the losses."""

from __future__ import annotations

import csv
import dataclasses

import pytest
import torch

from aweigh.train.config import TrainConfig
from aweigh.train.dense.points import make_points
from aweigh.train.methods import METHODS, Predictions, Targets, make_method
from aweigh.train.run.session import train
from aweigh.train.tracking import telemetry

OWN = {
    "fcos": set(),
    "dw": {"weighted_iou", "negative_share"},
    "o2f": {"temperature", "soft_label", "ambiguous_per_truth"},
    "autoassign": {"mu_x", "mu_y", "sigma_x", "sigma_y"},
    "paa": {"separation", "positives_per_truth"},
    "ala": {"mu_x", "mu_y", "sigma_x", "sigma_y", "hard_per_truth", "soft_label", "foreground"},
}


def test_mass_counts_the_positives_of_each_size_and_starvation_the_truths_without() -> None:
    method = make_method("fcos", 2)
    points = make_points([(16, 16), (8, 8)], [8, 16], method.point_offset)
    count = len(points.xy)
    predictions = Predictions(torch.zeros(1, count, 2), torch.ones(1, count, 4), torch.zeros(1, count))
    # 24 px square around a point of stride 8; 1 px between the points of stride 8.
    boxes = torch.tensor([[8.0, 8.0, 32.0, 32.0], [64.5, 64.5, 65.5, 65.5]])
    targets = Targets.join([boxes], [torch.tensor([0, 1])])
    seen = telemetry.observe(method, predictions, points, targets, 0.0)
    assert seen["mass_S"] == [9.0, 2.0]
    assert seen["mass_M"] == seen["mass_L"] == [0.0, 0.0]
    assert seen["starved"] == [1.0, 2.0]


def test_sums_add_up_to_means_and_empty_columns() -> None:
    total: telemetry.Sums = {}
    telemetry.add(total, {"mass_S": [9.0, 2.0], "mass_M": [0.0, 0.0]})
    telemetry.add(total, {"mass_S": [1.0, 2.0], "mass_M": [0.0, 0.0]})
    assert telemetry.columns(total) == {"assign/mass_S": 2.5, "assign/mass_M": ""}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_results_hold_masses_and_the_methods_own_quantities(tiny_config: TrainConfig, method: str) -> None:
    config = dataclasses.replace(tiny_config, method=method, epochs=1)
    train(config)
    with (config.run_dir / "results.csv").open() as file:
        row = next(csv.DictReader(file))
    names = {name.removeprefix("assign/") for name in row if name.startswith("assign/")}
    assert names == {"mass_S", "mass_M", "mass_L", "starved"} | OWN[method]
    assert 0 <= float(row["assign/starved"]) <= 1
    assert float(row["assign/mass_S"] or row["assign/mass_M"]) > 0
    assert all(float(row[f"assign/{name}"]) == float(row[f"assign/{name}"]) for name in OWN[method])
