"""The module that is traced: the deployable one, with the tensors between its stages as further outputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from aweigh.runtime.spec import PostSpec
from aweigh.train.models.deployable import Deployable
from aweigh.train.models.fpn import FPN

# Names of tensors inside the exported graph. They are not outputs of the file; the receipt taps them by name.
STAGE_PREFIX = "stage_"


def dense_names(post: PostSpec) -> tuple[str, ...]:
    """The tensors of all points that ``post`` reads, as stages; none in a raw file, whose outputs they are."""
    if post.kind == "raw":
        return ()
    by_class = "class-probability" in (post.threshold_gates, post.top_k_by)
    return ("boxes", "scores", "classes") if by_class else ("boxes", "scores")


class Traced(nn.Module):
    """``Deployable`` with stages: normalised input, features C3 to C5, pyramid P3 to P7, decoded boxes and scores.

    Class probabilities too where post-processing looks at them: its inputs are all among the stages.
    The file's outputs come first, in their order; ``output_names`` names all. Not for several threads at once.
    """

    def __init__(self, deployable: Deployable) -> None:
        super().__init__()
        self.deployable = deployable
        self._seen: dict[str, list[Tensor]] = {}

    @property
    def stage_names(self) -> tuple[str, ...]:
        features = [f"c{i}" for i in range(3, 3 + len(self.deployable.detector.backbone.strides))]
        pyramid = [f"p{i}" for i in range(3, 3 + len(FPN.strides))]
        dense = dense_names(self.deployable.postprocess.spec)
        return tuple(STAGE_PREFIX + name for name in ("input", *features, *pyramid, *dense))

    @property
    def output_names(self) -> tuple[str, ...]:
        return (*self.deployable.postprocess.spec.output_names, *self.stage_names)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        detector = self.deployable.detector
        # Only for this call: the network belongs to the caller, who may trace it again or run it otherwise.
        hooks = (
            detector.backbone.register_forward_hook(self._backbone),
            detector.neck.register_forward_hook(self._neck),
        )
        try:
            # The two lines of Deployable.forward, for the sake of what is between them.
            dense = detector.dense(images)
            outputs = self.deployable.postprocess(dense)
        finally:
            for hook in hooks:
                hook.remove()
        stages = [*self._seen["backbone"], *self._seen["neck"]]
        values = {"boxes": dense.boxes_xyxy, "scores": dense.scores, "classes": dense.class_probability}
        stages += [values[name] for name in dense_names(self.deployable.postprocess.spec)]
        self._seen = {}
        return (*outputs, *stages)

    def _backbone(self, _: nn.Module, inputs: Any, outputs: Any) -> None:
        self._seen["backbone"] = [inputs[0], *outputs]

    def _neck(self, _: nn.Module, inputs: Any, outputs: Any) -> None:
        self._seen["neck"] = list(outputs)
