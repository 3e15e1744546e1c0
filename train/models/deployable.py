"""What goes to production: the trained network and everything behind it, as one module."""

from __future__ import annotations

from torch import Tensor, nn

from aweigh.runtime.spec import PostSpec
from aweigh.train.dense.postprocess import PostProcess
from aweigh.train.models.detector import DenseDetector


class Deployable(nn.Module):
    """uint8 [B, H, W, 3] images to the outputs of :class:`PostProcess`; eager in evaluation, traced in export."""

    def __init__(self, detector: DenseDetector, post: PostSpec, stop_early: bool = True) -> None:
        """``stop_early``: see :class:`PostProcess`."""
        super().__init__()
        self.detector = detector
        self.postprocess = PostProcess(post, stop_early)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.postprocess(self.detector.dense(images))
        return outputs
