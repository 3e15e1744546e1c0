"""ViewOptions: how often and in which parts an image is looked at, as a value that verbs and jobs pass on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from aweigh.runtime.detector import Detector
from aweigh.runtime.flow.finder import Finder
from aweigh.runtime.opening import OpenOptions
from aweigh.runtime.size import Size
from aweigh.runtime.views.agnostic import Agnostic
from aweigh.runtime.views.augmented import Augmented
from aweigh.runtime.views.sliced import Sliced


@dataclass(frozen=True)
class ViewOptions:
    """Tiles (``Sliced``), test-time augmentation (``Augmented``), one label for an object; by default none of them.

    Attributes:
        tile: size of the tiles in pixels of the image; None does not cut it.
        tile_overlap: share of a tile that the next one covers too, 0 to below 1.
        full_image: whether the whole image is looked at as well, for objects larger than a tile.
        match_metric: the overlap that makes one object of the boxes of two tiles: intersection over union, or over the
            smaller box.
        match_threshold: of that overlap, 0 to 1.
        flip: whether each image is looked at mirrored too.
        scales: further sizes of the network input, as factors.
        models: files of the same model exported at other sizes.
        agnostic: whether a better detection of any class suppresses one that it overlaps; also without further views.
        merge: how the views' detections are merged; None as the file's own post-processing does.

    Example:
        >>> from aweigh.runtime import Detector
        >>> views = ViewOptions(tile=Size(64, 96), flip=True)
        >>> with Detector(model_path) as detector, views.applied(detector) as finder:
        ...     detections = finder(image_path)
        >>> type(finder).__name__, detections.orig_shape
        ('Sliced', (128, 192))
    """

    tile: Size | None = None
    tile_overlap: float = 0.2
    full_image: bool = True
    match_metric: Literal["iou", "ios"] = "iou"
    match_threshold: float = 0.5
    flip: bool = False
    scales: tuple[float, ...] = ()
    models: tuple[str, ...] = ()
    merge: Literal["nms", "vote"] | None = None
    agnostic: bool = False

    @property
    def augments(self) -> bool:
        """Whether there is more than one view of an image or tile."""
        return self.flip or bool(self.scales) or bool(self.models)

    @property
    def changes(self) -> bool:
        """Whether the detections are others than those of the file itself."""
        return self.several or self.agnostic

    @property
    def several(self) -> bool:
        """Whether an image is looked at more than once."""
        return self.tile is not None or self.augments

    @contextmanager
    def applied(self, detector: Detector, opening: OpenOptions | None = None) -> Iterator[Finder]:
        """The detector as these options want it; with none of them, the detector itself.

        Tiles are cut first, and each tile is augmented. The files of ``models`` are closed at the end of the block,
        ``detector`` is not.

        Args:
            detector: an open one.
            opening: how ``models`` are opened.

        Raises:
            BadInput: a value out of range, or ``models`` that are not of one model.
        """
        opening = opening or OpenOptions()
        agnostic = self.agnostic or None  # None: as in the file
        with ExitStack() as stack:
            finder: Finder = Agnostic(detector) if self.agnostic and not detector.spec.post.agnostic else detector
            if self.augments:
                others = [stack.enter_context(opening.open(path)) for path in self.models]
                finder = Augmented((detector, *others), self.flip, self.scales, self.merge, agnostic=agnostic)
            if self.tile is not None:
                finder = Sliced(
                    finder,
                    self.tile,
                    overlap=self.tile_overlap,
                    full_picture=self.full_image,
                    match_threshold=self.match_threshold,
                    match_metric=self.match_metric,
                    class_agnostic=agnostic,
                )
            yield finder
