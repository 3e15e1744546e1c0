"""Boxes in the formats that labelling tools import: COCO, tasks of Label Studio with its configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from aweigh.runtime.images.shown_classes import ShownClass
from aweigh.runtime.results.detections import Detections

# Names of the two controls in Label Studio's configuration, which its tasks refer to.
_BOXES, _IMAGE = "label", "image"


@dataclass(frozen=True)
class Labelled:
    """One image and what a labelling tool is to show in it.

    Attributes:
        name: of the image, below the folder of all images, with slashes.
        boxes: the detections that become labels.
    """

    name: str
    boxes: Detections


@dataclass(frozen=True)
class CocoLabels:
    """A data set of COCO's form, as CVAT and Label Studio import it, and ``--data`` reads it."""

    images: Sequence[Labelled]
    categories: Mapping[int, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON values: ids from 1; ``score`` is the detector's, which tools pass over."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, image in enumerate(self.images, start=1):
            height, width = image.boxes.orig_shape
            images.append({"id": number, "file_name": image.name, "width": width, "height": height})
            for row in image.boxes.to_coco(number):
                width_px, height_px = row["bbox"][2:]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        **row,
                        "area": width_px * height_px,
                        "iscrowd": 0,
                        "segmentation": [],
                    }
                )
        categories = [{"id": number, "name": name} for number, name in self.categories.items()]
        return {"images": images, "annotations": annotations, "categories": categories}


@dataclass(frozen=True)
class LabelStudioTask:
    """One image with its predictions, for the import of Label Studio.

    Attributes:
        address: of the image, as Label Studio loads it.
        model_version: which model predicted, shown there with the boxes.
    """

    image: Labelled
    address: str
    model_version: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values; boxes are percent of the image's sides. The task's score is the lowest of its boxes."""
        boxes = self.image.boxes
        height, width = boxes.orig_shape
        rows = zip(boxes.xyxy.tolist(), boxes.conf.tolist(), boxes.cls.tolist(), strict=True)
        result = [
            {
                "id": f"box-{number}",
                "type": "rectanglelabels",
                "from_name": _BOXES,
                "to_name": _IMAGE,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": score,
                "value": {
                    "x": 100 * left / width,
                    "y": 100 * top / height,
                    "width": 100 * (right - left) / width,
                    "height": 100 * (bottom - top) / height,
                    "rotation": 0,
                    "rectanglelabels": [boxes.names[class_id]],
                },
            }
            for number, ((left, top, right, bottom), score, class_id) in enumerate(rows, start=1)
        ]
        lowest = min(boxes.conf.tolist(), default=0.0)
        prediction = {"model_version": self.model_version, "score": lowest, "result": result}
        return {"data": {"image": self.address}, "predictions": [prediction]}


def label_studio_config(classes: Sequence[ShownClass]) -> str:
    """The labelling configuration of a project that takes the tasks, in the colours of the other pages."""
    labels = "".join(
        f"    <Label value={quoteattr(shown.name)} background={quoteattr(shown.color)}/>\n" for shown in classes
    )
    return (
        f'<View>\n  <Image name="{_IMAGE}" value="$image"/>\n'
        f'  <RectangleLabels name="{_BOXES}" toName="{_IMAGE}">\n{labels}  </RectangleLabels>\n</View>\n'
    )
