"""Families of released models: what their files do not state, and the post-processing of their authors' code.

What a file reveals (depth, widths, classes, groups, source of P6, refinement, deformable convolutions, biases of the
towers) is read off its tensors, see ``layout``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import PostSpec
from aweigh.train.models.detector import Architecture
from aweigh.train.official.names import Naming

Channels = tuple[float, float, float]
# Means of the two Caffe models that backbones came from, and of torchvision's; each in its own channel order.
_CAFFE_BGR: Channels = (102.9801, 115.9465, 122.7717)
_DETECTRON2_BGR: Channels = (103.53, 116.28, 123.675)
_IMAGENET_RGB: Channels = (123.675, 116.28, 103.53)
_IMAGENET_STD: Channels = (58.395, 57.12, 57.375)
_NO_STD: Channels = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Family:
    """What the files of one family have in common.

    Attributes:
        method: name in ``METHODS``; options: what differs from the method's defaults.
        naming: of the tensors.
        color_order, mean, std: of the network input, see InputSpec.
        stride_in_1x1: place of a stage's stride in ResNets; ResNeXt always has it in the 3x3.
        p7_relu: see FPN.
        post: post-processing of the authors' test path.
        norm_eps: of the frozen batch norms. Ours have 1e-5, and the difference goes into the variances.
    """

    method: str
    naming: Naming
    post: PostSpec
    color_order: Literal["rgb", "bgr"] = "rgb"
    mean: Channels = _IMAGENET_RGB
    std: Channels = _IMAGENET_STD
    stride_in_1x1: bool = False
    p7_relu: bool = True
    norm_eps: float = 1e-5
    options: Mapping[str, Any] = field(default_factory=dict)


# (point, class) pairs of each level above the threshold, ranked by their score.
_BY_SCORE = PostSpec("nms", "onnx", top_k_unit="level-pairs")
# mmdet's own heads: threshold and ranking use only the class probability; the score joins in before NMS and may end
# below the threshold.
_BY_CLASS = replace(_BY_SCORE, threshold_gates="class-probability", top_k_by="class-probability", drop_empty=True)

FAMILIES: dict[str, Family] = {
    "autoassign_mmdet": Family("autoassign", "mmdet", _BY_CLASS, "bgr", _CAFFE_BGR, _NO_STD, stride_in_1x1=True),
    "paa_mmdet": Family(
        "paa",
        "mmdet",
        replace(_BY_SCORE, kind="vote", top_k_unit="level-points", drop_empty=True),
        p7_relu=False,
        options={"pixels": "continuous", "point_offset": 0.0},
    ),
    "fcos_mmdet": Family(
        "fcos",
        "mmdet",
        replace(_BY_CLASS, iou_threshold=0.5),
        "bgr",
        _CAFFE_BGR,
        _NO_STD,
        stride_in_1x1=True,
        options={"regression": "exp", "centerness_tower": "cls"},
    ),
    "dw": Family("dw", "mmdet", _BY_SCORE),
    "o2f": Family("o2f", "mmdet", replace(_BY_SCORE, kind="none", nms_form=None)),
    "autoassign_cvpods": Family(
        "autoassign",
        "cvpods",
        replace(_BY_SCORE, clip_when="after-nms"),
        "bgr",
        _DETECTRON2_BGR,
        _NO_STD,
        stride_in_1x1=True,
    ),
    "paa_kkhoot": Family(
        "paa",
        "kkhoot",
        replace(
            _BY_SCORE,
            kind="vote",
            threshold_gates="class-probability",
            iou_convention="plus-one",
            clip="size-minus-one",
        ),
        "bgr",
        _CAFFE_BGR,
        _NO_STD,
        stride_in_1x1=True,
        norm_eps=0.0,
    ),
}


def family_of(names: Collection[str], naming: Naming, p6_from: str) -> str:
    """The family of a file by our names of its tensors and its source of P6.

    Raises BadInput where a file of this naming could be of none.
    """
    if naming != "mmdet":
        return {"cvpods": "autoassign_cvpods", "kkhoot": "paa_kkhoot"}[naming]
    if any(name.startswith("bbox_head.atss_") for name in names):
        return "paa_mmdet"
    if any(name.startswith("bbox_head.centerness_convs.") for name in names):
        return "o2f"
    if any(name.startswith("bbox_head.reg_offset.") for name in names):
        return "dw"
    if any(name.startswith("bbox_head.center_prior.") for name in names):
        # DW without refinement has the very names of mmdet's AutoAssign.
        return "autoassign_mmdet" if p6_from == "c5" else "dw"
    if any(name.startswith(("bbox_head.conv_centerness.", "bbox_head.fcos_centerness.")) for name in names):
        return "fcos_mmdet"
    raise BadInput("no head of AutoAssign, PAA, FCOS, DW or O2F among the tensors; name the family with --family")


def family(name: str, size: Architecture) -> Family:
    """The family as models of this size have it.

    mmdet released FCOS in three kinds: the conference version (no biases in the towers), the same on ResNeXt with
    torchvision's input, and the later one with biases, relu distances and centerness on the regression tower.
    """
    chosen = FAMILIES[name]
    if name == "fcos_mmdet" and size.tower_bias:
        return replace(chosen, mean=_DETECTRON2_BGR, post=replace(chosen.post, iou_threshold=0.6), options={})
    if size.groups == 1:
        return chosen
    if name == "fcos_mmdet":
        chosen = replace(chosen, color_order="rgb", mean=_IMAGENET_RGB, std=_IMAGENET_STD)
    return replace(chosen, stride_in_1x1=False)
