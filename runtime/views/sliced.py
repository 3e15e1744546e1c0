"""Sliced: detect in overlapping tiles of a large image, so that small objects keep their pixels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from aweigh.runtime.boxes import Metric
from aweigh.runtime.flow.confidence import Conf
from aweigh.runtime.flow.finder import Finder
from aweigh.runtime.images.reading import ImageU8
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.views.merge import require_metric, require_share
from aweigh.runtime.views.multi_view import MultiView, summed_speed
from aweigh.runtime.views.tiles import merge_tiles, tiles


class Sliced(MultiView):
    """A Finder that cuts each image into tiles, detects in all of them and merges the detections.

    ``max_det`` of the file holds for each tile, not for the image. ``tiles.merge_tiles`` describes how objects at the
    seams become one detection.

    Example:
        >>> from aweigh.runtime import Detector
        >>> with Detector(model_path) as detector:
        ...     sliced = Sliced(detector, slice_hw=64, overlap=0.2)
        ...     detections = sliced(image)
        >>> detections.filter(["whole"]).xyxy.tolist()
        [[20.0, 30.0, 100.0, 90.0]]
    """

    def __init__(
        self,
        detector: Finder,
        slice_hw: int | tuple[int, int] | None = None,
        overlap: float = 0.2,
        full_picture: bool = True,
        match_threshold: float = 0.5,
        match_metric: Metric = "iou",
        class_agnostic: bool | None = None,
    ) -> None:
        """Wrap a detector, which stays the caller's to close.

        Args:
            detector: a Detector, or an Augmented.
            slice_hw: height and width of a tile in pixels of the image, or one number for both; by default the file's
                input, so that nothing is resized. An image that fits into a tile is not cut.
            overlap: share of a tile's side that neighbours have in common at least. Objects smaller than it are whole
                in one of them.
            full_picture: whether to detect in the whole image too, for objects larger than a tile.
            match_threshold: overlap above which two boxes of different tiles are one object.
            match_metric: ``iou``, or ``ios``: intersection over the smaller box.
            class_agnostic: whether boxes of different classes may be one object; by default as in the file's NMS.

        Raises:
            BadInput: a value out of range.
        """
        super().__init__(detector)
        if slice_hw is None:
            slice_hw = detector.spec.input.size_hw
        self.slice_hw = (slice_hw, slice_hw) if isinstance(slice_hw, int) else slice_hw
        tiles(self.slice_hw, self.slice_hw, overlap)  # the values are checked before the first image
        require_metric(match_metric)
        require_share("match threshold", match_threshold)
        self.overlap = overlap
        self.full_picture = full_picture
        self.match_threshold = match_threshold
        self.match_metric: Metric = match_metric
        self.class_agnostic = self.spec.post.agnostic if class_agnostic is None else class_agnostic

    def _detect(self, images: Sequence[ImageU8], conf: Conf | None) -> list[Detections]:
        return [self._detect_one(image, conf) for image in images]

    def _detect_one(self, image: ImageU8, conf: Conf | None) -> Detections:
        height, width = image_hw = (image.shape[0], image.shape[1])
        views = tiles(image_hw, self.slice_hw, self.overlap)
        if self.full_picture and len(views) > 1:
            views = np.concatenate((views, [[0, 0, width, height]]))
        parts: list[Detections] = self.inner([image[y1:y2, x1:x2] for x1, y1, x2, y2 in views.tolist()], conf)
        start = time.perf_counter()
        shifts = np.tile(views[:, :2], 2).astype(np.float32)
        boxes = np.concatenate([part.xyxy + shift for part, shift in zip(parts, shifts, strict=True)])
        together = Detections(
            xyxy=np.clip(boxes, 0, [width, height, width, height]).astype(np.float32),
            conf=np.concatenate([part.conf for part in parts]),
            cls=np.concatenate([part.cls for part in parts]),
            names=self.names,
            orig_shape=image_hw,
        )
        rows, xyxy = merge_tiles(
            together.xyxy,
            together.conf,
            together.cls,
            views,
            np.repeat(np.arange(len(views)), [len(part) for part in parts]),
            image_hw,
            self.match_threshold,
            self.match_metric,
            self.class_agnostic,
        )
        merge_ms = (time.perf_counter() - start) * 1e3
        return replace(together[rows], xyxy=xyxy, speed=summed_speed((part.speed for part in parts), merge_ms))
