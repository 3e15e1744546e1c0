"""Batched mixtures against one written out for a single sample, and what they must find."""

from __future__ import annotations

import math

import pytest
import torch

from aweigh.train.kernels.mixture import fit_mixtures


def one_by_one(values: list[float]) -> tuple[list[float], list[float], list[float], int]:
    """Expectation maximisation as it is taught: plain numbers, one sample."""
    weights, means, variances = [0.5, 0.5], [min(values), max(values)], [1.0, 1.0]
    last, rounds = -math.inf, 0
    for rounds in range(1, 101):  # noqa: B007
        shares, total = [], 0.0
        for x in values:
            densities = [
                w * math.exp(-((x - m) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)
                for w, m, v in zip(weights, means, variances, strict=True)
            ]
            total += math.log(sum(densities))
            shares.append([d / sum(densities) for d in densities])
        for k in (0, 1):
            mass = sum(s[k] for s in shares)
            means[k] = sum(s[k] * x for s, x in zip(shares, values, strict=True)) / mass
            variances[k] = sum(s[k] * (x - means[k]) ** 2 for s, x in zip(shares, values, strict=True)) / mass + 1e-6
            weights[k] = mass / len(values)
        if abs(total / len(values) - last) < 1e-3:
            break
        last = total / len(values)
    return weights, means, variances, rounds


def test_rows_are_fitted_apart_and_as_one_would_be() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.rand(n, generator=generator).double().sort().values * s for n, s in ((5, 1.0), (9, 8.0), (2, 3.0))]
    rows.append(torch.cat((torch.randn(12, generator=generator), torch.randn(20, generator=generator) + 9)).double())
    longest = max(map(len, rows))
    values = torch.stack([torch.nn.functional.pad(r, (0, longest - len(r)), value=1e9) for r in rows])
    valid = torch.stack([torch.arange(longest) < len(r) for r in rows])
    found = fit_mixtures(values, valid)
    for i, row in enumerate(rows):
        weights, means, variances, rounds = one_by_one(row.tolist())
        assert found.rounds[i] == rounds
        assert found.weights[i].tolist() == pytest.approx(weights, rel=1e-9)
        assert found.means[i].tolist() == pytest.approx(means, rel=1e-9)
        assert found.variances[i].tolist() == pytest.approx(variances, rel=1e-9)


def test_two_clear_groups_are_found() -> None:
    low, high = torch.linspace(0.0, 1.0, 12), torch.linspace(9.0, 11.0, 20)
    found = fit_mixtures(torch.cat((low, high))[None], torch.ones(1, 32, dtype=torch.bool))
    assert found.component[0].tolist() == [0] * 12 + [1] * 20
    assert found.means[0].tolist() == pytest.approx([0.5, 10.0], abs=1e-3)


def test_equal_values_do_not_divide_by_zero() -> None:
    found = fit_mixtures(torch.full((1, 6), 2.5), torch.ones(1, 6, dtype=torch.bool))
    assert torch.isfinite(found.log_likelihood).all()
