"""TOOD's head: its equations, and that it starts and learns as the other one."""

from __future__ import annotations

import pytest
import torch

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import InputSpec
from aweigh.train.methods import Targets
from aweigh.train.models.detector import build_detector
from aweigh.train.models.tood import LayerAttention, TaskAlignedHead, geometric_mean_logits

NETWORK = {"width": 8, "channels": 16, "convs": 3, "head": "tood"}


def test_logits_of_the_geometric_mean() -> None:
    a, b = torch.meshgrid(torch.linspace(-30, 15, 91), torch.linspace(-30, 15, 91), indexing="ij")
    p = (a.double().sigmoid() * b.double().sigmoid()).sqrt()
    torch.testing.assert_close(geometric_mean_logits(a, b).double(), p.logit(), rtol=1e-5, atol=1e-5)
    far = torch.tensor([-200.0, 200.0], requires_grad=True)
    mean = geometric_mean_logits(far, far.detach())
    mean.sum().backward()
    assert mean.isfinite().all()
    assert far.grad is not None
    assert far.grad.isfinite().all()


def test_layers_are_weighed_by_the_picture() -> None:
    torch.manual_seed(0)
    module = LayerAttention(8, 3, 0)
    for parameter in module.attention.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.rand(2, 24, 5, 6)
    hidden = (module.attention[0].weight[:, :, 0, 0] @ x.mean((2, 3)).T).T + module.attention[0].bias
    weights = (hidden.relu() @ module.attention[2].weight[:, :, 0, 0].T + module.attention[2].bias).sigmoid()
    kernel = module.reduction.weight[:, :, 0, 0]
    feature = torch.stack(  # the attention on the kernel, as the authors apply it
        [torch.einsum("oi,ihw->ohw", kernel * weights[i].repeat_interleave(8), x[i]) for i in range(2)]
    )
    torch.testing.assert_close(module(x), module.norm(feature).relu())


@pytest.mark.parametrize("method", ["dw", "o2f"])
def test_it_starts_calm_and_learns(method: str) -> None:
    torch.manual_seed(0)
    detector = build_detector("nano", method, 3, InputSpec((64, 64)), NETWORK)
    assert isinstance(detector.head, TaskAlignedHead)
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    targets = Targets.join([torch.tensor([[8.0, 8.0, 40.0, 48.0]])] * 2, [torch.tensor([1])] * 2)
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.01)
    totals = []
    for _ in range(3):
        maps = detector(images)
        points, predictions = detector.read(maps)
        total = torch.stack(list(detector.method.loss(predictions, points, targets, 0.0).values())).sum()
        optimizer.zero_grad()
        total.backward()
        silent = [name for name, p in detector.head.named_parameters() if p.grad is None]
        assert silent == []
        optimizer.step()
        totals.append(float(total.detach()))
        assert predictions.cls_logits.sigmoid().mean() < 0.05
    assert totals[2] < totals[0] < 20


def test_a_stack_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="at least one"):
        build_detector("nano", "dw", 3, InputSpec((64, 64)), {**NETWORK, "convs": 0})
