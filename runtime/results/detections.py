"""Detections: the objects detected in one image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import AweighError, BadInput
from aweigh.runtime.images.drawing import draw_boxes, encode_image, encoded_image
from aweigh.runtime.images.reading import ImageU8, read_image
from aweigh.runtime.json_text import json_text, parse_json
from aweigh.runtime.results.entry import decimals, drawing_entry, read_entry
from aweigh.runtime.results.handover import data_frame, fiftyone_detections, supervision_detections

Rows: TypeAlias = int | np.integer[Any] | slice | list[int] | list[bool] | npt.NDArray[np.integer[Any] | np.bool_]


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects detected in one image, best first as the detector gives them.

    Indexing with an integer, a slice, a mask or an array of positions gives Detections with those rows.

    Example:
        >>> from aweigh.runtime import Detector
        >>> with Detector(model_path) as detector:
        ...     detections = detector(image)
        >>> len(detections), detections.cls.tolist(), detections.conf.tolist()
        (2, [3, 17], [1.0, 0.5])
        >>> detections.filter(classes=["whole"]).xyxy.tolist()
        [[20.0, 30.0, 100.0, 90.0]]
        >>> detections[0].to_dict()["detections"]
        [{'box': [20.0, 30.0, 100.0, 90.0], 'score': 1.0, 'class_id': 3, 'label': 'whole'}]

    Attributes:
        xyxy: [N, 4] float32, left, top, right, bottom in pixels of the original image.
        conf: [N] float32, ranking score, 0 to 1.
        cls: [N] int64, category ids of the data set the model was trained on.
        names: category id to name, in label order.
        orig_shape: (height, width) of the image.
        path: the file it came from; None for images from memory.
        speed: milliseconds by stage: decode, preprocess, network, postprocess; the network's time of a batch is shared
            evenly among its images.
        image: RGB uint8 [H, W, 3], where it came from memory; files are read again when needed.
        names_complete: whether ``names`` holds all classes of the model; False for results read from JSON without.
        frame: number of the frame in its video or live source, from 0; None for images.
        time_s: seconds from the beginning of the video, or from the first frame of a live source; None for images.
        drawn_above: ``plot`` draws and ``summary`` counts only scores above it: one number, or one for each category
            id; None for all rows. A detector that was asked for no threshold sets each class's best one (else 0.3).
    """

    xyxy: npt.NDArray[np.float32]
    conf: npt.NDArray[np.float32]
    cls: npt.NDArray[np.int64]
    names: Mapping[int, str]
    orig_shape: tuple[int, int]
    path: str | None = None
    speed: Mapping[str, float] = field(default_factory=dict)
    image: ImageU8 | None = None
    names_complete: bool = True
    frame: int | None = None
    time_s: float | None = None
    drawn_above: float | Mapping[int, float] | None = None

    def __post_init__(self) -> None:
        count = len(self.conf)
        if self.xyxy.shape != (count, 4) or self.conf.shape != (count,) or self.cls.shape != (count,):
            raise BadInput(
                f"detections: expected xyxy [N, 4], conf [N], cls [N], got {self.xyxy.shape}, {self.conf.shape}, "
                f"{self.cls.shape}"
            )

    def __len__(self) -> int:
        return len(self.conf)

    def __getitem__(self, rows: Rows) -> Self:
        """Detections with the rows asked for; an integer gives one row. Raises IndexError outside the range."""
        if isinstance(rows, (int, np.integer)):
            rows = [range(len(self))[int(rows)]]
        chosen = rows if isinstance(rows, slice) else np.asarray(rows)
        if isinstance(chosen, np.ndarray) and chosen.size == 0 and chosen.dtype.kind == "f":
            chosen = chosen.astype(np.int64)  # what numpy makes of []
        return replace(self, xyxy=self.xyxy[chosen], conf=self.conf[chosen], cls=self.cls[chosen])

    def __iter__(self) -> Iterator[Self]:
        """One row at a time, each as Detections of length 1."""
        return (self[i] for i in range(len(self)))

    def filter(self, classes: Iterable[int | str] | None = None, conf: float | None = None) -> Self:
        """Those of the classes and above the confidence.

        Args:
            classes: category ids, names, or both; a name that several ids share means all of them.
            conf: only scores strictly above it, all of which are drawn.

        Raises:
            BadInput: a class that is not in ``names``; a single name instead of a list of them.
        """
        keep = np.ones(len(self), bool)
        if classes is not None:
            keep &= np.isin(self.cls, sorted(self._ids_of(classes)))
        if conf is None:
            return self[keep]
        return replace(self[keep & (self.conf > conf)], drawn_above=None)

    def drawn(self) -> Self:
        """Those that ``plot`` draws and ``summary`` counts: above ``drawn_above``."""
        if self.drawn_above is None:
            return self
        if not isinstance(self.drawn_above, Mapping):
            return self[self.conf > self.drawn_above]
        floors = np.array([self.drawn_above.get(i, 0.0) for i in self.cls.tolist()])
        return self[self.conf > floors]

    def _ids_of(self, classes: Iterable[int | str]) -> set[int]:
        if isinstance(classes, str):
            raise BadInput(f"classes {classes!r}: expected a list, for example [{classes!r}]")
        ids: set[int] = set()
        for wanted in classes:
            found = {i for i, name in self.names.items() if wanted in (i, name)}
            if not found and self.names_complete:
                raise BadInput(f"class {wanted!r}: the model knows {dict(self.names)}")
            ids |= found
        return ids

    def from_source(
        self,
        path: str | None,
        image: ImageU8 | None,
        speed_ms: Mapping[str, float],
        frame: int | None = None,
        time_s: float | None = None,
    ) -> Self:
        """The same objects, with the source of the image and the time it took."""
        return replace(self, path=path, image=image, speed=speed_ms, frame=frame, time_s=time_s)

    @property
    def _positions(self) -> dict[int, int]:
        return {category_id: i for i, category_id in enumerate(self.names)}

    def summary(self) -> str:
        """How many of which class are drawn, most frequent first: ``3 car, 1 dog``."""
        counts = Counter(self.names[i] for i in self.drawn().cls.tolist())
        return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing found"

    def __repr__(self) -> str:
        return f"<Detections in {self.path or 'an image'}: {self.summary()}>"

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows: the drawn image; nothing where there is none to draw on."""
        try:
            return encoded_image(self.plot())
        except (AweighError, OSError):
            return None

    def plot(self, image: ImageU8 | None = None) -> ImageU8:
        """The image with boxes, names and scores drawn in, RGB uint8 [H, W, 3]; the original is left as it is.

        Drawn are the rows above ``drawn_above``. A class has the colour of its position in ``names``.

        Args:
            image: to draw on; by default the one detected in.

        Raises:
            BadInput: an image of another size, none available, or its file has been removed.
        """
        if image is None:
            image = self.image
        if image is None:
            if self.path is None or self.frame is not None:
                raise BadInput("detections without an image, or an image file to read: give plot the image")
            image = read_image(self.path)
        if image.shape[:2] != self.orig_shape:
            height, width = self.orig_shape
            raise BadInput(
                f"image of {image.shape[1]}x{image.shape[0]} pixels: the detections are of one of {width}x{height}"
            )
        drawn = self.drawn()
        ids, scores = drawn.cls.tolist(), drawn.conf.tolist()
        labels = [f"{self.names[i]} {score:.2f}" for i, score in zip(ids, scores, strict=True)]
        return draw_boxes(image, drawn.xyxy, labels, [self._positions[i] for i in ids])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write ``plot()`` in the format of the suffix; the file appears whole or not at all. Returns the path."""
        return encode_image(path, self.plot())

    def to_dict(self) -> dict[str, Any]:
        """The entry of ``aweigh predict --json`` for this image; that of a frame has ``frame`` and ``time_s`` too.

        It holds all rows; ``drawn_above`` says which of them ``plot`` draws: a number, one for each category id (as
        text) that was detected, or None for all.
        """
        height, width = self.orig_shape
        sides = decimals(self.xyxy)
        in_video = {} if self.frame is None else {"frame": self.frame, "time_s": round(self.time_s or 0.0, 6)}
        return {
            "file": self.path,
            **in_video,
            "image": {"width": width, "height": height},
            "drawn_above": drawing_entry(self.drawn_above, self.cls),
            "detections": [
                {"box": sides[4 * row : 4 * row + 4], "score": score, "class_id": i, "label": self.names[i]}
                for row, (score, i) in enumerate(zip(decimals(self.conf), self.cls.tolist(), strict=True))
            ],
        }

    def to_json(self) -> str:
        """``to_dict`` as JSON text."""
        return json_text(self.to_dict())

    @classmethod
    def from_dict(cls, entry: Any, names: Mapping[int, str] | None = None) -> Self:
        """What ``to_dict`` wrote; the same boxes and scores, bit for bit.

        Args:
            entry: one entry of ``aweigh predict --json``.
            names: of all classes of the model, in label order. Without them ``names`` holds only those detected.

        Raises:
            BadInput: the entry is of another form, or its classes are not those of ``names``.
        """
        return cls(**read_entry(entry, names), names_complete=names is not None)

    @classmethod
    def from_json(cls, text: str | bytes, names: Mapping[int, str] | None = None) -> Self:
        """``from_dict`` of JSON text; ``results.read_predictions`` reads a whole ``detections.json``."""
        return cls.from_dict(parse_json(text, "detections"), names)

    def to_yolo(self, conf: bool = False) -> str:
        """Ultralytics' label lines: class, centre x, centre y, width, height, and the confidence where wanted.

        The class is its position in ``names``, counted from 0, as that format has it; for a model trained on such data
        it is the id that the data set's own ``data.yaml`` gives. Coordinates are shares of the image's width and
        height. No detections give no line.

        Raises:
            BadInput: not all classes are known (see ``from_dict``), so neither are their positions.
        """
        if not self.names_complete:
            raise BadInput("YOLO labels count classes by their position: give from_dict all names of the model")
        position = self._positions
        height, width = self.orig_shape
        boxes = self.xyxy.astype(np.float64) / [width, height, width, height]
        lines = []
        for (x1, y1, x2, y2), score, category_id in zip(boxes, self.conf, self.cls.tolist(), strict=True):
            values = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
            row = [str(position[category_id]), *(f"{value:.9g}" for value in values)]
            lines.append(" ".join([*row, str(score)] if conf else row) + "\n")
        return "".join(lines)

    def save_yolo(self, path: str | os.PathLike[str], conf: bool = False) -> Path:
        """Write ``to_yolo()``, whole or not at all; an image without objects gives an empty file. Returns the path."""
        path = Path(path)
        text = self.to_yolo(conf)
        with atomic_write(path) as temporary:
            temporary.write_text(text)
        return path

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with a row per object: xmin, ymin, xmax, ymax, confidence, class, name.

        Raises CannotRun where pandas is not installed.
        """
        return data_frame(self.xyxy, self.conf, self.cls, self.names)

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """Entries of a COCO results file: ``bbox`` is left, top, width, height; category ids are the data set's own."""
        boxes = self.xyxy.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        return [
            {"image_id": image_id, "category_id": i, "bbox": box, "score": score}
            for i, box, score in zip(self.cls.tolist(), boxes.tolist(), self.conf.tolist(), strict=True)
        ]

    def to_supervision(self) -> Any:
        """A ``supervision.Detections``. Raises CannotRun where the package supervision is not installed."""
        return supervision_detections(self.xyxy, self.conf, self.cls, self.names)

    def to_fiftyone(self) -> Any:
        """A ``fiftyone.Detections``, a field of a FiftyOne sample. Raises CannotRun where fiftyone is not installed."""
        return fiftyone_detections(self.xyxy, self.conf, self.cls, self.names, self.orig_shape)
