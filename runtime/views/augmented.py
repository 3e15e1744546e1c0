"""Augmented: test-time augmentation. Detect in each image mirrored and at several scales, and merge the detections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.confidence import Conf
from aweigh.runtime.images.preprocess import has_area
from aweigh.runtime.images.reading import ImageU8
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.spec import InputSpec, ModelSpec, PostSpec
from aweigh.runtime.views.merge import nms, require_share, vote
from aweigh.runtime.views.multi_view import MultiView, summed_speed

MergeKind: TypeAlias = Literal["nms", "vote"]
_SCALES = (0.1, 10.0)


class Augmented(MultiView):
    """A Finder that merges a model's detections in several views of each image.

    Merged are the *detections* of the views, each after the post-processing in the graph: NMS over all of them
    by the file's IoU threshold, best score first, at most ``max_det``; a score is that of the best view, as in
    mmdetection 3 and PAA's released settings. mmdetection 2 gathered the candidates of all views before one NMS: there
    a box that NMS drops in its own view can still win or vote, here it cannot. For that form, open a file
    exported with ``--post raw`` as CandidateDetector.

    Example:
        >>> from aweigh.runtime import Detector
        >>> with Detector(model_path) as detector:
        ...     detections = Augmented(detector, flip=True)(image)
        >>> detections.summary()  # the mirrored view has its left half on the other side
        '2 left half, 1 whole'
    """

    def __init__(
        self,
        detectors: Detector | Sequence[Detector],
        flip: bool = True,
        scales: Sequence[float] = (),
        merge: MergeKind | None = None,
        iou_threshold: float | None = None,
        agnostic: bool | None = None,
    ) -> None:
        """Wrap open detectors, which stay the caller's to close.

        Args:
            detectors: one, or several files of one model at different sizes. The first one's thresholds hold. Of a
                CandidateDetector a single view is enough: merging is its NMS.
            flip: whether each view is also used mirrored left to right.
            scales: further input sizes, as factors of the first file's own, rounded to what the network takes. They
                need a file exported with ``--dynamic-size``.
            merge: ``nms``, or ``vote``: NMS, then score voting (PAA Eq. 9-10) with the file's constants; by default as
                the file itself does, and NMS where it has none.
            iou_threshold: of the merging NMS; by default the file's.
            agnostic: whether a box is dropped by a better one of any class; by default as in the file.

        Raises:
            BadInput: nothing to augment, scales that the file cannot take, files of different models, or a value out of
                range.
        """
        given = (detectors,) if isinstance(detectors, Detector) else tuple(detectors)
        if not given:
            raise BadInput("augmentation needs a detector")
        super().__init__(given[0])
        for other in given[1:]:
            require_same_model(given[0].spec, other.spec)
            if (other.spec.post.kind == "raw") != (self.spec.post.kind == "raw"):
                raise BadInput("augmentation: candidates of raw files and detections of others cannot be merged")
        sizes = dict.fromkeys(scaled_size(given[0].spec.input, scale) for scale in scales)
        sizes.pop(given[0].spec.input.size_hw, None)
        self.views = [
            (detector, mirrored)
            for detector in (*given, *(given[0].resized(size_hw) for size_hw in sizes))
            for mirrored in ((False, True) if flip else (False,))
        ]
        if len(self.views) < 2 and self.spec.post.kind != "raw":
            raise BadInput("augmentation: one view is no augmentation; give flip, or a scale other than 1")
        post = self.spec.post
        if merge is not None and merge not in get_args(MergeKind):
            raise BadInput(f"merge {merge!r}: expected nms or vote")
        self.merge: MergeKind = merge or ("vote" if post.kind == "vote" else "nms")
        if iou_threshold is not None:
            require_share("IoU threshold", iou_threshold)
            post = replace(post, iou_threshold=iou_threshold)
        self._post = post if agnostic is None else replace(post, agnostic=agnostic)

    def _detect(self, images: Sequence[ImageU8], conf: Conf | None) -> list[Detections]:
        by_view = [self._look(images, conf, detector, mirrored) for detector, mirrored in self.views]
        return [merge_views(parts, self._post, self.merge) for parts in zip(*by_view, strict=True)]

    def _look(
        self, images: Sequence[ImageU8], conf: Conf | None, detector: Detector, mirrored: bool
    ) -> list[Detections]:
        if not mirrored:
            return detector(list(images), conf)
        return [mirror(found) for found in detector([image[:, ::-1] for image in images], conf)]


def merge_views(parts: Sequence[Detections], post: PostSpec, kind: MergeKind) -> Detections:
    """Merge the detections of several views of one image, each object once; all in pixels of the image."""
    start = time.perf_counter()
    xyxy, conf, cls = (np.concatenate([getattr(part, name) for part in parts]) for name in ("xyxy", "conf", "cls"))
    kept = nms(xyxy, conf, cls, post.iou_threshold, post.iou_convention, post.max_det, post.agnostic)
    boxes = xyxy[kept]
    if kind == "vote":
        boxes = vote(boxes, cls[kept], xyxy, conf, cls, post.vote_sigma, post.vote_min_iou, post.iou_convention)
    height, width = parts[0].orig_shape
    boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)  # candidates may reach out of it
    shown = has_area(boxes)
    boxes, kept = boxes[shown], kept[shown]
    speed_ms = summed_speed((part.speed for part in parts), (time.perf_counter() - start) * 1e3)
    return replace(parts[0], xyxy=boxes, conf=conf[kept], cls=cls[kept], speed=speed_ms)


def mirror(found: Detections) -> Detections:
    """The same objects in the image mirrored left to right."""
    _, width = found.orig_shape
    xyxy = found.xyxy.copy()
    xyxy[:, [0, 2]] = width - found.xyxy[:, [2, 0]]
    return replace(found, xyxy=xyxy)


def scaled_size(spec: InputSpec, scale: float) -> tuple[int, int]:
    """The file's input size times ``scale``, as the network takes it. Raises BadInput outside 0.1 to 10."""
    low, high = _SCALES
    if not low <= scale <= high:
        raise BadInput(f"scale {scale}: expected a factor from {low:g} to {high:g} of the file's input size")
    if spec.resize == "keep-ratio":  # bounds of the sides, padded afterwards
        return round(spec.size_hw[0] * scale), round(spec.size_hw[1] * scale)
    multiple = spec.pad_multiple
    height, width = (max(1, round(side * scale / multiple)) * multiple for side in spec.size_hw)
    return height, width


def require_same_model(first: ModelSpec, other: ModelSpec) -> None:
    """Raises BadInput unless both files hold the same weights and classes."""
    if first.categories != other.categories:
        raise BadInput(f"files of different models: one knows the classes {first.names}, another {other.names}")
    weights = [spec.parents.get("checkpoint_sha256") for spec in (first, other)]
    if weights[0] is None or weights[0] != weights[1]:
        raise BadInput(
            f"files of different models, by their metadata (sha256 of checkpoints: {weights[0]} and {weights[1]}); "
            "augmentation merges views of one model, export the same checkpoint at another --imgsz"
        )
