"""AutoAssign against its authors' numbers: weights, the three losses, gradients of inputs and priors."""

from __future__ import annotations

import torch
from torch import Tensor

from aweigh.train.conformance.case import Case
from aweigh.train.conformance.checks import CaseChecks, QuantityCheck
from aweigh.train.methods.autoassign import AutoAssign, AutoAssignWeights


def run(case: Case) -> list[QuantityCheck]:
    """Both precisions of both priors; the weights are recorded only in float64."""
    results: list[QuantityCheck] = []
    for precision in ("float64", "float32"):
        checks = CaseChecks(case.in_precision(precision))
        for prior in ("init", "learned"):
            _prior(checks.case, checks, prior, "f64" if precision == "float64" else "f32")
        results += checks.results
    return results


def _prior(case: Case, checks: CaseChecks, prior: str, suffix: str) -> None:
    method = AutoAssign(case.num_classes).to(case.dtype)
    with torch.no_grad():
        method.mu.copy_(torch.from_numpy(case.array(f"mu__{prior}")))
        method.sigma.copy_(torch.from_numpy(case.array(f"sigma__{prior}")))
    points, predictions, targets = case.points(method.point_offset), case.predictions(), case.targets()
    checks.add("points", points.xy)
    weights = method.weigh(predictions, points, targets)
    losses = method.loss(predictions, points, targets, progress=0.0)
    # An image whose boxes hold no point makes the authors' third loss explode; here it is left out.
    held = [(weights.pairs.image == image).any().item() for image in range(case.images)]
    exploded = not all(h or len(case.array(f"gt_labels_{image}")) == 0 for image, h in enumerate(held))
    for name, value in losses.items():
        checks.add(f"{name}__{prior}_{suffix}", value, deviates=exploded and name == "loss_norm")
    total: Tensor = sum(losses.values(), torch.zeros(()))
    total.backward()  # type: ignore[no-untyped-call]
    for name, parameter in (("gmu", method.mu), ("gsigma", method.sigma)):
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        checks.add(f"{name}__{prior}_{suffix}", gradient, deviates=exploded)
    if suffix == "f64":
        checks.add_gradients(predictions, f"__{prior}_{suffix}")
        for image in range(case.images):
            _image(case, checks, weights, image, f"__{prior}_{suffix}")


def _image(case: Case, checks: CaseChecks, weights: AutoAssignWeights, image: int, suffix: str) -> None:
    mine = weights.pairs.image == image
    first = sum(len(case.array(f"gt_labels_{b}")) for b in range(image))
    truths = len(case.array(f"gt_labels_{image}"))
    point, truth = weights.pairs.point[mine], weights.pairs.truth[mine] - first
    num_points = len(case.array("points"))

    def table(values: Tensor) -> Tensor:  # [G, P]
        dense = values.detach().new_zeros(truths, num_points)
        dense[truth, point] = values.detach()[mine]
        return dense

    checks.add(f"inside_{image}", table(torch.ones_like(weights.prior)) > 0)
    checks.add(f"G_{image}{suffix}", table(weights.prior))
    checks.add(f"w_pos_{image}{suffix}", table(weights.positive_weight))
    checks.add(f"p_joint_{image}", table(weights.joint))
    bag = weights.pairs.sum(weights.positive_weight * weights.joint)
    checks.add(f"bag_prob_{image}{suffix}", bag[first : first + truths])
    share = weights.prior.detach().new_zeros(num_points, case.num_classes)
    order = torch.argsort(truth, stable=True)  # the last truth writes last
    share[point[order], weights.labels[mine][order]] = weights.positive_share[mine][order]
    checks.add(f"p_neg_{image}", share)
    best = torch.full((num_points,), torch.nan, dtype=case.dtype)
    best[point] = weights.best_iou[mine]
    reference = case.array(f"max_iou_{image}")
    inside = ~torch.isnan(best)
    checks.add_array(f"max_iou_{image}", best[inside], reference[inside.numpy()])
