"""Check what a network gave against its contract: a damaged or foreign graph may compute anything."""

from __future__ import annotations

import numpy as np

from aweigh.runtime.errors import CheckFailed
from aweigh.runtime.network import Outputs
from aweigh.runtime.spec import ModelSpec


def check_outputs(outputs: Outputs, count: int, spec: ModelSpec) -> None:
    """Raises CheckFailed where arrays are missing, or of other shapes than ``Backend.infer`` promises.

    Args:
        count: of the images in the batch.
    """
    missing = [name for name in spec.post.output_names if name not in outputs]
    if missing:
        raise CheckFailed(f"the network gave no {', '.join(missing)}; aweigh verify the file, or export it again")
    shapes = {name: outputs[name].shape for name in spec.post.output_names}
    rows = shapes["boxes"][1] if len(shapes["boxes"]) == 3 else 0
    expected: dict[str, tuple[int, ...]] = {"boxes": (count, rows, 4)}
    if spec.post.kind == "raw":
        expected["scores"] = (count, rows, len(spec.categories))
    else:
        expected |= {"scores": (count, rows), "labels": (count, rows), "num_dets": (count,)}
    wrong = [f"{name} {list(shapes[name])}, expected {list(e)}" for name, e in expected.items() if shapes[name] != e]
    if wrong:
        raise CheckFailed(f"the network gave {'; '.join(wrong)}; aweigh verify the file, or export it again")
    if spec.post.kind == "raw":
        return
    found = outputs["num_dets"]
    most = min(rows, spec.post.max_det)
    if count and not (found.min() >= 0 and found.max() <= most):
        raise CheckFailed(f"the network gave {found.min()} to {found.max()} detections, expected 0 to {most}")
    for row, number in enumerate(found.tolist()):
        labels = outputs["labels"][row, :number]
        if number and not (labels.min() >= 0 and labels.max() < len(spec.categories)):
            raise CheckFailed(
                f"the network gave labels from {labels.min()} to {labels.max()}, expected 0 to "
                f"{len(spec.categories) - 1}; aweigh verify the file, or export it again"
            )


def check_finite(outputs: Outputs, row: int) -> None:
    """Raises CheckFailed where a detection of an image has a box or a score that is not finite.

    Of one image, for a batch may hold the images of several clients.
    """
    found = int(outputs["num_dets"][row]) if "num_dets" in outputs else None  # a raw file: all candidates
    if not (np.isfinite(outputs["boxes"][row, :found]).all() and np.isfinite(outputs["scores"][row, :found]).all()):
        raise CheckFailed(
            "the network gave a box or a score that is not finite for this image; aweigh verify the file, or export it "
            "in a finer precision"
        )
