"""Golden pictures: what a receipt compares on, and what a file carries so that a machine can test itself."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput
from aweigh.runtime.media import read_image
from aweigh.runtime.preprocess import prepare
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.cache import read_record
from aweigh.train.data.records import Split
from aweigh.train.data.shapes import generate_shapes

GOLDEN_KEY = "aweigh.golden"
GOLDEN_SCHEMA = "1.0"
_RAW_ROWS = 100  # of a raw file's many points, those of the highest scores are kept
_SHAPES_PX = (320, 256)  # height, width; another aspect ratio than most inputs, so that padding takes part

Outputs = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Golden:
    """One picture as the network gets it: ``image_u8`` [H, W, 3] RGB, network input."""

    name: str
    image_u8: npt.NDArray[np.uint8]


def golden_pictures(spec: InputSpec, count: int, split: Split | None = None, seed: int = 0) -> list[Golden]:
    """``count`` pictures of the split, evenly spaced and with objects where there are such; generated without a split.

    Where the policy gives inputs of several sizes, those of the first picture's size.

    Raises BadInput for a split without pictures.
    """
    if split is None:
        with tempfile.TemporaryDirectory() as folder:
            root = generate_shapes(Path(folder) / "shapes", train=0, val=count, size_hw=_SHAPES_PX, seed=seed)
            paths = sorted((root / "val").iterdir())
            return [Golden(f"generated {i + 1}", prepare(read_image(path), spec)[0]) for i, path in enumerate(paths)]
    records = [r for r in split.records if len(r.labels)] or list(split.records)
    if not records:
        raise BadInput(f"split {split.name!r} has no pictures to compare on")
    chosen = [records[i] for i in np.unique(np.linspace(0, len(records) - 1, count).round().astype(int))]
    pictures = [Golden(r.path.name, prepare(read_record(r), spec)[0]) for r in chosen]
    return [p for p in pictures if p.image_u8.shape == pictures[0].image_u8.shape]


def encode_golden(pictures: Sequence[Golden], outputs: Sequence[Outputs]) -> str:
    """The metadata entry: PNG and the trained model's outputs (batch of one) of each picture, as JSON."""
    entries = []
    for picture, expected in zip(pictures, outputs, strict=True):
        done, png = cv2.imencode(".png", cv2.cvtColor(picture.image_u8, cv2.COLOR_RGB2BGR))
        assert done
        rows = {name: array.tolist() for name, array in expected_rows(expected).items()}
        entries.append({"name": picture.name, "png": base64.b64encode(png.tobytes()).decode(), "outputs": rows})
    return json.dumps({"schema": GOLDEN_SCHEMA, "pictures": entries}, ensure_ascii=False)


def decode_golden(text: str) -> list[tuple[Golden, Outputs]]:
    """Pictures and their expected rows. Raises BadInput for text that ``encode_golden`` did not write."""
    try:
        content = json.loads(text)
        if content["schema"].split(".")[0] != GOLDEN_SCHEMA.split(".")[0]:
            raise BadInput(f"golden pictures: schema {content['schema']}, this aweigh reads {GOLDEN_SCHEMA}")
        return [
            (
                Golden(entry["name"], read_image(base64.b64decode(entry["png"]), name=entry["name"])),
                {name: np.array(rows) for name, rows in entry["outputs"].items()},
            )
            for entry in content["pictures"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"golden pictures: not as aweigh writes them ({error!r})") from error


def expected_rows(outputs: Outputs) -> Outputs:
    """What is kept of one picture's outputs (leading axis 1): detections, or a raw file's best points."""
    if "num_dets" in outputs:
        count = int(outputs["num_dets"][0])
        return {name: outputs[name][0, :count] for name in ("boxes", "scores", "labels")}
    best = np.argsort(-outputs["scores"][0].max(axis=1), kind="stable")[:_RAW_ROWS]
    return {"points": best, "boxes": outputs["boxes"][0, best], "scores": outputs["scores"][0, best]}
