"""An imported checkpoint against stored outputs of the code that its weights come from, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aweigh.runtime.agreement.match import Match, ScoredBoxes, match_detections
from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import PostSpec
from aweigh.train.checkpoint import Checkpoint
from aweigh.train.dense.postprocess import Dense, PostProcess
from aweigh.train.methods.anchors import anchors_xyxy
from aweigh.train.methods.paa import PAA
from aweigh.train.models.detector import DenseDetector
from aweigh.train.process.console import track
from aweigh.train.weights.array_file import read_arrays

Arrays = Mapping[str, npt.NDArray[Any]]

# Of a stage, relative to its largest value where that is above 1; of scores; of the sides of boxes.
TOLERANCE = 1e-4
TOLERANCE_PX = 0.01
# Two ways of rounding may differ by so many times the error that one of them has.
_ROUNDINGS = 4
# Prefix of stored detections -> how they differ from those of the family's own post-processing.
_DETECTIONS: dict[str, dict[str, Any]] = {
    "det": {},
    "det64_": {"pre_nms_top_k": 64, "max_det": 40},
    "detnovote_": {"kind": "nms"},
}


@dataclass(frozen=True)
class StageCheck:
    """One stage: largest absolute difference, the same relative to the stage's largest value if that is above 1,
    what it may be, and the largest absolute error of our float32 against our float64.
    """

    stage: str
    max_abs: float
    error: float
    tolerance: float
    rounding: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


@dataclass(frozen=True)
class DetectionCheck:
    """Detections of one stored case, all images together, as sets."""

    case: str
    match: Match
    tolerance_px: float
    tolerance_score: float

    @property
    def passed(self) -> bool:
        match = self.match
        return match.compared > 0 and match.differing == 0 and match.max_score_error <= self.tolerance_score


@dataclass(frozen=True)
class OfficialCheck:
    """All that was compared with one file of stored outputs."""

    stages: tuple[StageCheck, ...]
    detections: tuple[DetectionCheck, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.stages) and all(check.passed for check in self.detections)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "passed": self.passed,
            "stages": [{**asdict(check), "passed": check.passed} for check in self.stages],
            "detections": [{**asdict(check), "passed": check.passed} for check in self.detections],
        }


def check_against(checkpoint: Checkpoint, path: Path) -> OfficialCheck:
    """Run the stored image through the checkpoint and compare.

    A float32 network whose result depends on its rounding (deformable convolutions in a network of random weights do
    that) cannot be compared to the last digit. The difference from the network's own float64 run shows how much: a
    tolerance is widened to ``_ROUNDINGS`` times that difference, which does not depend on the stored values.

    Raises BadInput where ``path`` holds no image or no detections.
    """
    stored = read_stored(path)
    cases = stored_cases(stored, checkpoint.spec.post)
    if not cases:
        raise BadInput(f"--check {path}: no detections in it, det0_boxes say; it has {', '.join(stored)}")
    images_u8 = torch.from_numpy(stored["image_rgb_u8"])
    networks = (checkpoint.detector(), checkpoint.detector().double())
    ours, exact = (run_stages(network, images_u8) for network in track(networks, "check", total=len(networks)))
    detections = []
    for prefix, post in cases.items():
        own, exactly = (detections_of(PostProcess(post)(run.dense)) for run in (ours, exact))
        detections.append(compare_detections(stored, prefix, own, exactly))
    return OfficialCheck(tuple(compare_stages(stored, ours.stages, exact.stages)), tuple(detections))


@dataclass(frozen=True)
class StageRun:
    """What a network makes of images: ``stages`` under the names of the stored ones, and the decoded predictions."""

    stages: dict[str, Tensor]
    dense: Dense


@torch.inference_mode()
def run_stages(detector: DenseDetector, images_u8: Tensor) -> StageRun:
    """All stages of one run, in the order of the network."""
    seen: dict[str, Tensor] = {}
    hooks = [
        detector.backbone.register_forward_hook(
            lambda _, inputs, outputs: seen.update(x_norm=inputs[0], **{f"c{i}": x for i, x in enumerate(outputs, 3)})
        ),
        detector.neck.register_forward_hook(
            lambda _, inputs, outputs: seen.update({f"p{i}": x for i, x in enumerate(outputs, 3)})
        ),
    ]
    try:
        maps = detector(images_u8)
    finally:
        for hook in hooks:
            hook.remove()
    points, predictions = detector.read(maps)
    rows = {"cls": predictions.cls_logits, "reg": predictions.reg, "ctr": predictions.obj_logits[..., None]}
    first = 0
    for level, (height, width) in enumerate(points.shapes_hw, 3):
        for name, values in rows.items():
            part = values[:, first : first + height * width]
            seen[f"{name}_p{level}"] = part.transpose(1, 2).reshape(len(part), -1, height, width)
        if "offset" in maps[level - 3]:
            seen[f"raw_reg_offset_p{level}"] = maps[level - 3]["offset"]
        first += height * width
    method = detector.method
    seen["priors"] = (
        anchors_xyxy(points, method.config.anchor_scale, method.config.extra_px)
        if isinstance(method, PAA)
        else points.xy
    )
    dense = detector.dense(images_u8)
    seen["boxes_all_noclip"] = dense.boxes_xyxy
    seen["scores_all"] = dense.scores
    return StageRun(seen, dense)


def read_stored(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file of stored outputs; raises BadInput where it is none or has no image."""
    if not path.is_file():
        raise BadInput(f"--check {path}: no such file")
    stored = read_arrays(path, f"--check {path}")
    image = stored.get("image_rgb_u8")
    if image is None or image.dtype != np.uint8 or image.ndim != 4:
        raise BadInput(f"--check {path}: expected image_rgb_u8, uint8 [B, H, W, 3]; it has {', '.join(stored)}")
    return stored


def stored_cases(stored: Arrays, post: PostSpec) -> dict[str, PostSpec]:
    """Prefix of each case of detections that is stored, and the post-processing it was made with."""
    return {prefix: replace(post, **how) for prefix, how in _DETECTIONS.items() if f"{prefix}0_boxes" in stored}


def compare_stages(stored: Arrays, ours: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> list[StageCheck]:
    """The stages that both have; another shape is an infinite error."""
    checks = []
    for name, values in ours.items():
        if name not in stored:
            continue
        theirs = torch.from_numpy(stored[name]).double()
        rounding = float((values.double() - exact[name].double()).abs().max())
        largest = max(1.0, float(theirs.abs().max()))
        same = values.shape == theirs.shape and bool(values.isfinite().all())
        difference = float((values.double() - theirs).abs().max()) if same else float("inf")
        tolerance = max(TOLERANCE, _ROUNDINGS * rounding / largest)
        checks.append(StageCheck(name, difference, difference / largest, tolerance, rounding))
    return checks


def compare_detections(
    stored: Arrays, prefix: str, ours: list[ScoredBoxes], exact: list[ScoredBoxes]
) -> DetectionCheck:
    """One case, as sets of detections."""
    own = sum((match_detections(a, b, np.inf) for a, b in zip(exact, ours, strict=True)), Match())
    px, score = max(TOLERANCE_PX, _ROUNDINGS * own.max_moved_px), max(TOLERANCE, _ROUNDINGS * own.max_score_error)
    match = Match()
    for image, own_detections in enumerate(ours):
        theirs = ScoredBoxes(*(stored[f"{prefix}{image}_{part}"] for part in ("boxes", "scores", "labels")))
        match += match_detections(theirs, own_detections, px)
    return DetectionCheck(prefix.strip("_"), match, px, score)


def detections_of(outputs: tuple[Tensor, ...]) -> list[ScoredBoxes]:
    """Boxes, scores and labels of each image."""
    counts, *parts = (part.numpy() for part in outputs[:4])
    return [ScoredBoxes(*(part[image, :count] for part in parts)) for image, count in enumerate(counts)]
