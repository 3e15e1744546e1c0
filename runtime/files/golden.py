"""Golden images inside a model file: what the trained model gave for them, so that any machine can test itself.

JSON under the key ``aweigh.golden`` of an ONNX file's metadata, and in the sidecar of an engine.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.json_text import parse_json
from aweigh.runtime.network import Outputs
from aweigh.runtime.values import shown

GOLDEN_KEY = "aweigh.golden"
GOLDEN_SCHEMA = "1.0"
_RAW_ROWS = 100  # of a raw file's many points, those of the highest scores are kept


@dataclass(frozen=True, eq=False)
class Golden:
    """One image as the network gets it: ``image_u8`` [H, W, 3] RGB, network input."""

    name: str
    image_u8: npt.NDArray[np.uint8]


def encode_golden(images: Sequence[Golden], outputs: Sequence[Outputs]) -> str:
    """The metadata entry: PNG and the trained model's outputs (batch of one) of each image, as JSON."""
    entries = []
    for image, expected in zip(images, outputs, strict=True):
        done, png = cv2.imencode(".png", cv2.cvtColor(image.image_u8, cv2.COLOR_RGB2BGR))
        assert done
        rows = {name: array.tolist() for name, array in expected_rows(expected).items()}
        entries.append({"name": image.name, "png": base64.b64encode(png.tobytes()).decode(), "outputs": rows})
    return json.dumps({"schema": GOLDEN_SCHEMA, "pictures": entries}, ensure_ascii=False)


def decode_golden(text: str) -> list[tuple[Golden, Outputs]]:
    """Images and their expected rows. Raises BadInput for text that ``encode_golden`` did not write."""
    try:
        content = parse_json(text, "golden images")
        if content["schema"].split(".")[0] != GOLDEN_SCHEMA.split(".")[0]:
            raise BadInput(f"golden images: schema {shown(content['schema'])}, this aweigh reads {GOLDEN_SCHEMA}")
        return [
            (
                Golden(entry["name"], read_image(base64.b64decode(entry["png"]), name=entry["name"])),
                {name: np.array(rows) for name, rows in entry["outputs"].items()},
            )
            for entry in content["pictures"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BadInput(f"golden images: not as aweigh writes them ({error!r})") from error


def expected_rows(outputs: Outputs) -> Outputs:
    """What is kept of one image's outputs (leading axis 1): detections, or a raw file's best points."""
    if "num_dets" in outputs:
        count = int(outputs["num_dets"][0])
        return {name: outputs[name][0, :count] for name in ("boxes", "scores", "labels")}
    best = np.argsort(-outputs["scores"][0].max(axis=1), kind="stable")[:_RAW_ROWS]
    return {"points": best, "boxes": outputs["boxes"][0, best], "scores": outputs["scores"][0, best]}
