"""A file's post-processing by itself: what it makes of its own points, against what ours makes of the same points.

Nothing of the network's rounding comes in, and ours is computed in float32, as the file's is in every precision: they
are held to the tolerances of FP32, where the detections of an INT8 file may differ from the trained model's by much.
"""

from __future__ import annotations

import torch

from aweigh.export.graph.traced import STAGE_PREFIX, dense_names
from aweigh.export.proof.sides import TAPPED_PREFIX
from aweigh.runtime.network import Outputs
from aweigh.runtime.spec import PostSpec
from aweigh.train.dense.postprocess import Dense, PostProcess
from aweigh.train.models.fpn import FPN


def outputs_of_points(staged: Outputs, post: PostSpec, size_hw: tuple[int, int]) -> tuple[Outputs, Outputs] | None:
    """The detections that ``post`` makes of a file's points, and those that the file made of them.

    Args:
        staged: of ``Side.with_stages``.
        post: what the file's contract names.
        size_hw: of the network input.

    Returns:
        None for a raw file, and for one that does not show all tensors which its post-processing reads.
    """
    pyramid = [f"{STAGE_PREFIX}p{level}" for level, _ in enumerate(FPN.strides, 3)]
    points = [STAGE_PREFIX + name for name in dense_names(post)]
    if not points or not {*pyramid, *points, TAPPED_PREFIX + "num_dets"} <= staged.keys():
        return None
    boxes, scores, *classes = (torch.from_numpy(staged[name]).float() for name in points)
    sizes = [staged[name].shape[2] * staged[name].shape[3] for name in pyramid]
    with torch.inference_mode():
        values = PostProcess(post)(Dense(boxes, scores, classes[0] if classes else scores, sizes, size_hw))
    ours = {name: value.numpy() for name, value in zip(post.output_names, values, strict=True)}
    theirs = {name: staged[TAPPED_PREFIX + name] for name in post.output_names}
    return ours, theirs
