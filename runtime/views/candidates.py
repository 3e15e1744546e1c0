"""CandidateDetector: a network's candidates before NMS, to merge several views of one image."""

from __future__ import annotations

import numpy as np

from aweigh.runtime.backends.outputs import check_finite
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.confidence import Conf, above
from aweigh.runtime.images.preprocess import Placement
from aweigh.runtime.network import Outputs
from aweigh.runtime.results.detections import Detections


class CandidateDetector(Detector):
    """A Detector over a file exported with ``--post raw``: its Detections are the candidates that NMS would get.

    Several of them show one object. ``Augmented`` makes detections of them: with one view what the graph of another
    export does, with several views NMS and voting over the candidates of all.
    """

    def _require_post(self, path: str) -> None:
        """Raises BadInput for a file that is not raw, or one of a method whose threshold looks at class probabilities
        (PAA), which such a file does not hold.
        """
        post = self.spec.post
        reason = None
        if post.kind != "raw":
            reason = f"its graph ends in {post.kind!r}; export it with --post raw"
        elif post.threshold_gates != "score":
            reason = "its threshold looks at class probabilities, which a raw file does not hold; use another export"
        elif post.top_k_unit != "image-pairs":
            reason = (
                f"its candidates are counted by {post.top_k_unit!r}, and a raw file does not distinguish the levels"
            )
        if reason:
            raise BadInput(f"{path}: it has no candidates: {reason}")

    def unmap(self, outputs: Outputs, row: int, where: Placement, conf: Conf | None = None) -> Detections:
        """The (point, class) pairs above the threshold, the best ``pre_nms_top_k`` of them, best first.

        Boxes may reach into the padding or lie there: they take part in NMS and voting, as inside the graph, and
        ``merge_views`` leaves those without an area in the image out afterwards.
        """
        check_finite(outputs, row)
        post = self.spec.post
        scores = outputs["scores"][row]
        flat = scores.ravel()
        pairs = np.flatnonzero(flat > post.score_threshold)
        pairs = pairs[above(flat[pairs], pairs % scores.shape[1], conf, self.spec)]
        pairs = pairs[np.argsort(-flat[pairs], kind="stable")][: post.pre_nms_top_k]
        points, labels = np.divmod(pairs, scores.shape[1])
        return Detections(
            xyxy=where.unmap(outputs["boxes"][row, points], clip=False),
            conf=flat[pairs],
            cls=self._ids[labels],
            names=self.names,
            orig_shape=where.original_hw,
        )
