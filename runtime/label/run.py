"""Detect in images and write the boxes for labelling tools, with a list of the images to look at first."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aweigh.runtime.atomic import atomic_folder
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.failure import Failure
from aweigh.runtime.images.listing import list_images
from aweigh.runtime.images.shown_classes import shown_classes
from aweigh.runtime.json_text import json_text
from aweigh.runtime.label.formats import CocoLabels, Labelled, LabelStudioTask, label_studio_config
from aweigh.runtime.results.detections import Detections

COCO_NAME, CVAT_NAME = "instances.json", "cvat.zip"
TASKS_NAME, CONFIG_NAME = "label-studio.json", "label-studio.xml"
FIRST_NAME = "first.txt"
# Where Label Studio serves files of its own machine (LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED).
LOCAL_FILES = "/data/local-files/?d="
_VERSION_DIGITS = 12


@dataclass(frozen=True)
class LabelPlan:
    """What to label, and how.

    Attributes:
        sources: image files, folders and glob patterns.
        out: the new folder.
        conf: detections above it become labels, 0 to 1; None: above each class's best threshold, 0.3 where there is
            none.
        unsure: scores from, to: images with a detection in between are to be looked at first.
        image_prefix: put before the images' names in Label Studio's tasks.

    Raises:
        BadInput: a range of scores that is none.

    Example:
        >>> LabelPlan(["images"], Path("labels"), unsure=(0.2, 0.5)).conf is None
        True
    """

    sources: Sequence[str | os.PathLike[str]]
    out: Path
    conf: float | None = None
    unsure: tuple[float, float] = (0.2, 0.5)
    image_prefix: str = LOCAL_FILES

    def __post_init__(self) -> None:
        low, high = self.unsure
        if not 0 <= low <= high <= 1:
            raise BadInput(f"--unsure {low:g}-{high:g}: expected LOW-HIGH, two scores from 0 to 1, the lower one first")
        if self.conf is not None and not 0 <= self.conf <= 1:
            raise BadInput(f"--conf {self.conf:g}: expected a number from 0 to 1")


@dataclass(frozen=True)
class LabelResult:
    """What was written.

    Attributes:
        images, boxes: how many.
        first: names of the images to look at first, those with the most unsure detections at the head.
        model_version: as Label Studio shows it.
        failures: images that could not be read, which are left out.
    """

    out: Path
    images: int
    boxes: int
    first: tuple[str, ...]
    model_version: str
    failures: tuple[Failure, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "out": str(self.out),
            "images": self.images,
            "boxes": self.boxes,
            "first": list(self.first),
            "model_version": self.model_version,
            "failures": [failure.to_dict() for failure in self.failures],
        }


def label_images(
    detector: Detector, model_name: str, plan: LabelPlan, on_failure: Callable[[Failure], None] = lambda failure: None
) -> LabelResult:
    """Write ``instances.json`` (COCO), ``cvat.zip``, tasks and configuration of Label Studio, and ``first.txt``.

    The folder appears whole or not at all; the images themselves are not copied.

    Args:
        model_name: first part of the model's version, which ends in digits of the file's sha256.
        on_failure: called for every image that cannot be read.

    Raises:
        BadInput: no images, or a folder ``out`` with files in it.

    Example:
        >>> with Detector(model_path) as detector:
        ...     result = label_images(detector, "red", LabelPlan([folder], tmp_path / "labels"))
        >>> result.images, result.boxes
        (3, 4)
        >>> sorted(path.name for path in result.out.iterdir())
        ['cvat.zip', 'first.txt', 'instances.json', 'label-studio.json', 'label-studio.xml']
    """
    paths = list(dict.fromkeys(path for source in plan.sources for path in list_images(Path(source))))
    common = Path(os.path.commonpath([path.resolve().parent for path in paths]))
    failures: list[Failure] = []
    images: list[Labelled] = []
    unsure: dict[str, int] = {}

    def fail(failure: Failure) -> None:
        failures.append(failure)
        on_failure(failure)

    version = f"{model_name}-{detector.backend.sha256[:_VERSION_DIGITS]}"
    with atomic_folder(plan.out) as folder:
        for found in detector.stream(paths, on_error=fail, keep_images=False):
            name = Path(found.path or "").resolve().relative_to(common).as_posix()
            images.append(Labelled(name, found.drawn() if plan.conf is None else found.filter(conf=plan.conf)))
            unsure[name] = _count_between(found, plan.unsure)
        first = tuple(sorted((name for name in unsure if unsure[name]), key=lambda name: -unsure[name]))
        _write(folder, detector, images, first, plan.image_prefix, version)
    return LabelResult(plan.out, len(images), sum(len(i.boxes) for i in images), first, version, tuple(failures))


def _count_between(found: Detections, span: tuple[float, float]) -> int:
    return int(((found.conf >= span[0]) & (found.conf <= span[1])).sum())


def _write(
    folder: Path, detector: Detector, images: Sequence[Labelled], first: Sequence[str], prefix: str, version: str
) -> None:
    coco = json_text(CocoLabels(images, detector.spec.names).to_dict())
    (folder / COCO_NAME).write_text(coco, encoding="utf-8")
    with zipfile.ZipFile(folder / CVAT_NAME, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("images")  # datumaro, which reads COCO for CVAT, asks for it, empty or not
        archive.writestr("annotations/instances_default.json", coco)
    tasks = [LabelStudioTask(image, prefix + image.name, version).to_dict() for image in images]
    (folder / TASKS_NAME).write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf-8")
    (folder / CONFIG_NAME).write_text(label_studio_config(shown_classes(detector.spec)), encoding="utf-8")
    (folder / FIRST_NAME).write_text("".join(f"{name}\n" for name in first), encoding="utf-8")
