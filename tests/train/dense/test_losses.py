"""The fused dense term against its definition."""

from __future__ import annotations

import pytest
import torch

from aweigh.train.dense.losses import (
    focal_sum,
    joint_negative_log,
    negative_focal,
    negative_focal_rows,
)
from aweigh.train.kernels import focal


def negative_focal_sum(cls_logits: torch.Tensor, obj_logits: torch.Tensor | None) -> torch.Tensor:
    return negative_focal_rows(cls_logits, obj_logits, torch.empty(0, dtype=torch.long))[0].sum()


@pytest.mark.parametrize("with_objectness", [True, False])
def test_fused_sum_equals_its_definition(with_objectness: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(focal, "_PASS_ELEMENTS", 50)  # several passes, the last one short
    generator = torch.Generator().manual_seed(0)
    cls_logits = (torch.randn(37, 7, generator=generator, dtype=torch.float64) * 3).requires_grad_()
    obj_logits = (torch.randn(37, generator=generator, dtype=torch.float64)).requires_grad_()
    s = cls_logits.sigmoid() * (obj_logits.sigmoid()[:, None] if with_objectness else 1)
    expected = (s.square() * -torch.log(1 - s)).sum()
    wanted = torch.autograd.grad(expected, [cls_logits, obj_logits] if with_objectness else [cls_logits])
    found = negative_focal_sum(cls_logits, obj_logits if with_objectness else None)
    given = torch.autograd.grad(found * 3, [cls_logits, obj_logits] if with_objectness else [cls_logits])
    torch.testing.assert_close(found, expected)
    for a, b in zip(given, wanted, strict=True):
        torch.testing.assert_close(a, b * 3)


def test_fused_sum_without_gradients() -> None:
    cls_logits = torch.tensor([[0.0, -1.0]])
    torch.testing.assert_close(
        negative_focal_sum(cls_logits, torch.zeros(1)), negative_focal(cls_logits.sigmoid() * 0.5).sum()
    )


def test_extreme_logits_stay_finite() -> None:
    cls_logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    obj_logits = torch.tensor([200.0], requires_grad=True)
    value = negative_focal_sum(cls_logits, obj_logits)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(cls_logits.grad).all()
    assert torch.isfinite(obj_logits.grad).all()
    assert torch.isfinite(joint_negative_log(torch.tensor([-500.0]), torch.tensor([-500.0]))).all()


def test_logits_gathered_with_the_dense_term_share_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(focal, "_PASS_ELEMENTS", 50)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(37, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    at = torch.tensor([3, 3, 0, 37 * 7 - 1])  # one of them twice
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    rows, found = negative_focal_rows(logits, None, at)
    torch.testing.assert_close(rows, negative_focal(logits.sigmoid()).sum(dim=1))
    scale = torch.rand(37, generator=generator, dtype=torch.float64)
    (given,) = torch.autograd.grad((rows * scale).sum() + (found * weight).sum(), logits)
    expected = (negative_focal(logits.sigmoid()).sum(dim=1) * scale).sum() + (logits.flatten()[at] * weight).sum()
    torch.testing.assert_close(given, torch.autograd.grad(expected, logits)[0])


def test_focal_sum_equals_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    positive, labels = torch.tensor([2, 5]), torch.tensor([3, 0])
    target = torch.zeros_like(logits)
    target[positive, labels] = 1
    p = logits.sigmoid()
    expected = torch.where(target > 0, 0.25 * (1 - p) ** 2 * -p.log(), 0.75 * p**2 * -(1 - p).log()).sum()
    torch.testing.assert_close(focal_sum(logits, positive, labels, 0.25), expected)
