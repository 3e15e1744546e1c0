"""A data set made here: textured shapes in COCO's format, for the demo and the tests.

The categories have gaps in their ids on purpose. A box is the extent of its shape within the image, parts behind
other shapes included; no shape is hidden by more than ``ShapesConfig.max_hidden``.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from aweigh.runtime.atomic import atomic_folder
from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category

SHAPES = (
    Category(3, "disk"),
    Category(7, "square"),
    Category(11, "triangle"),
    Category(18, "star"),
    Category(24, "ring"),
    Category(90, "cross"),
)
_ATTEMPTS = 12  # to place one shape; a full image ends up with fewer
_SUBPIXEL_BITS = 4  # OpenCV's fixed-point vertices

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ShapesConfig:
    """How hard the images are.

    Attributes:
        objects: fewest and most shapes of an image that has any.
        empty: share of images without shapes, 0 to 1.
        min_px, max_fraction: longer side of a shape, from pixels to a fraction of the image's shorter side.
        max_cut: largest fraction of a shape's area outside the image.
        max_hidden: largest fraction of it that is outside or behind other shapes.
        min_contrast: smallest distance, in grey levels over three channels, between a shape's colour and its ground.
        noise: smallest and largest standard deviation of the noise, grey levels.
    """

    objects: tuple[int, int] = (1, 6)
    empty: float = 0.04
    min_px: float = 16.0
    max_fraction: float = 0.6
    max_cut: float = 0.5
    max_hidden: float = 0.7
    min_contrast: float = 90.0
    noise: tuple[float, float] = (2.0, 10.0)


@dataclass
class _Scene:
    """An image while it is painted."""

    pixels: Image  # [h, w, 3] RGB
    boxes_xywh: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    visible: list[npt.NDArray[np.bool_]] = field(default_factory=list)  # [h, w] of each shape
    full_areas: list[float] = field(default_factory=list)  # px, parts outside the image included


def generate_shapes(
    out_dir: str | os.PathLike[str],
    train: int = 1000,
    val: int = 100,
    test: int = 0,
    size_hw: tuple[int, int] = (192, 192),
    seed: int = 0,
    config: ShapesConfig = ShapesConfig(),
) -> Path:
    """Write ``train`` + ``val`` + ``test`` images and annotations/instances_SPLIT.json below ``out_dir``.

    The folder appears whole or not at all. The same arguments give the same bytes (with the same OpenCV), and image k
    of a split is the same whatever the number of images.

    Args:
        out_dir: a folder that does not exist or is empty.
        train, val, test: number of images in each split; a split of 0 is not written.
        size_hw: height and width of every image, pixels, at least 64.
        seed: of all randomness.
        config: how difficult the images are.

    Returns:
        ``out_dir``, which ``load_split`` reads.

    Raises:
        BadInput: ``out_dir`` exists and is not empty, a negative number, no image at all, or images below 64 px.

    Example:
        >>> folder = generate_shapes(tmp_path / "shapes", train=4, val=2, size_hw=(96, 128))
        >>> sorted(path.name for path in folder.iterdir())
        ['annotations', 'train', 'val']
    """
    out_dir = Path(out_dir)
    if min(train, val, test) < 0 or train + val + test == 0:
        raise BadInput(f"shapes: {train} + {val} + {test} images; expected counts from 0, at least one above")
    if min(size_hw) < 64:
        raise BadInput(f"shapes: images of {size_hw[0]}x{size_hw[1]} pixels; expected at least 64 a side")
    with atomic_folder(out_dir) as folder:
        (folder / "annotations").mkdir()
        for position, (name, count) in enumerate({"train": train, "val": val, "test": test}.items()):
            if count:
                _write_split(folder, name, count, size_hw, (seed, position), config)
    return out_dir


def _write_split(
    root: Path, name: str, count: int, size_hw: tuple[int, int], seeds: tuple[int, int], config: ShapesConfig
) -> None:
    (root / name).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for position in range(count):
        rng = np.random.default_rng([*seeds, position])
        scene = _paint(rng, size_hw, config)
        file_name = f"{position + 1:06d}.jpg"
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(80, 96))]
        _, data = cv2.imencode(".jpg", cv2.cvtColor(scene.pixels, cv2.COLOR_RGB2BGR), quality)
        (root / name / file_name).write_bytes(data.tobytes())
        images.append({"id": position + 1, "file_name": file_name, "width": size_hw[1], "height": size_hw[0]})
        for box, label, visible in zip(scene.boxes_xywh, scene.labels, scene.visible, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": position + 1,
                    "category_id": SHAPES[label].id,
                    "bbox": [round(v, 2) for v in box],
                    "area": int(visible.sum()),
                    "iscrowd": 0,
                }
            )
    content = {
        "info": {"description": "aweigh shapes", "seed": seeds[0]},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": c.id, "name": c.name} for c in SHAPES],
    }
    (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))


def _paint(rng: np.random.Generator, size_hw: tuple[int, int], config: ShapesConfig) -> _Scene:
    scene = _Scene(_texture(rng, size_hw, _colour(rng)))
    count = 0 if rng.random() < config.empty else int(rng.integers(config.objects[0], config.objects[1] + 1))
    for _ in range(count):
        for _ in range(_ATTEMPTS):
            if _place(rng, scene, config):
                break
    height, width = size_hw
    ramp_x = np.linspace(-1, 1, width, dtype=np.float32)
    ramp_y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope_x, slope_y = rng.uniform(-0.2, 0.2, 2).astype(np.float32)
    light = np.float32(rng.uniform(0.8, 1.15)) + slope_x * ramp_x + slope_y * ramp_y
    noise = rng.standard_normal((height, width, 3), np.float32) * np.float32(rng.uniform(*config.noise))
    scene.pixels = np.clip(scene.pixels * light[..., None] + noise, 0, 255).astype(np.uint8)
    return scene


def _place(rng: np.random.Generator, scene: _Scene, config: ShapesConfig) -> bool:
    """Try to paint one more shape; nothing is changed where it would be hidden too much, or hide another so."""
    height, width = scene.pixels.shape[:2]
    label = int(rng.integers(len(SHAPES)))
    longest_px = math.exp(rng.uniform(math.log(config.min_px), math.log(config.max_fraction * min(height, width))))
    contours = _contours(rng, SHAPES[label].name)
    extent = np.ptp(np.concatenate(contours), axis=0).max()
    centre = rng.uniform([0, 0], [width, height])
    contours = [c * (longest_px / extent) + centre for c in contours]
    coverage = _coverage(contours, (height, width))
    mask = coverage > 127
    full_area = abs(sum(_signed_area(c) * (1 if i == 0 else -1) for i, c in enumerate(contours)))
    least = 1 - config.max_hidden
    if np.count_nonzero(mask) < (1 - config.max_cut) * full_area or any(
        np.count_nonzero(seen & ~mask) < least * area
        for seen, area in zip(scene.visible, scene.full_areas, strict=True)
    ):
        return False
    ground = scene.pixels[mask].mean(axis=0)
    colour = _colour(rng)
    while np.linalg.norm(colour - ground) < config.min_contrast:
        colour = _colour(rng)
    xyxy = _extent(contours, mask)
    _blend(scene.pixels, coverage, _texture(rng, (height, width), colour), xyxy)
    for seen in scene.visible:
        seen &= ~mask
    scene.visible.append(mask)
    scene.full_areas.append(full_area)
    scene.labels.append(label)
    scene.boxes_xywh.append((xyxy[0], xyxy[1], xyxy[2] - xyxy[0], xyxy[3] - xyxy[1]))
    return True


def _contours(rng: np.random.Generator, shape: str) -> list[Points]:
    """The outline (and, of a ring, the hole) as [vertices, 2] around the origin, stretched and turned at random."""
    circle = _polygon(48)
    outlines = {
        "disk": [circle],
        "ring": [circle, circle * rng.uniform(0.45, 0.65)],
        "triangle": [_polygon(3)],
        "square": [_polygon(4)],
        "star": [_polygon(10) * np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]],
        "cross": [_cross(rng.uniform(0.25, 0.4))],
    }
    angle = rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    stretch = np.array([1.0, rng.uniform(0.75, 1.0)])
    return [outline * stretch @ turn.T for outline in outlines[shape]]


def _polygon(vertices: int) -> Points:
    angles = np.arange(vertices) * (2 * math.pi / vertices)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _cross(half_arm: float) -> Points:
    a = half_arm
    quarter = np.array([(1, -a), (1, a), (a, a)])
    turns = [np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return np.concatenate([quarter @ turn for turn in turns])


def _signed_area(contour: Points) -> float:
    x, y = contour.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _coverage(contours: list[Points], size_hw: tuple[int, int]) -> Image:
    """[h, w] 0 to 255; two contours are filled evenly-oddly."""
    mask = np.zeros(size_hw, np.uint8)
    # Whole numbers are pixel centres in OpenCV and pixel edges here.
    vertices = [np.rint((c - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32) for c in contours]
    cv2.fillPoly(mask, vertices, 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return mask


def _extent(contours: list[Points], mask: npt.NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Box of the part within the image: to the vertex, or to the pixel where the border cuts the shape."""
    corners = np.concatenate(contours)
    (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
    height, width = mask.shape
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        x1, x2 = max(x1, columns[0]), min(x2, columns[-1] + 1)
        y1, y2 = max(y1, rows[0]), min(y2, rows[-1] + 1)
    return float(x1), float(y1), float(x2), float(y2)


def _colour(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return rng.uniform(20, 235, 3)


def _texture(rng: np.random.Generator, size_hw: tuple[int, int], colour: npt.NDArray[np.float64]) -> Image:
    """A plane of one colour with blotches, stripes or a chequerboard of random strength."""
    height, width = size_hw
    kind = rng.integers(3)
    if kind == 0:
        grid = rng.standard_normal((int(rng.integers(3, 24)), int(rng.integers(3, 24))), np.float32)
        pattern = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    else:
        angle, period_px = rng.uniform(0, math.pi), rng.uniform(4, 24)
        phase = 2 * math.pi / period_px
        xs = np.arange(width, dtype=np.float32) * np.float32(phase * math.cos(angle))
        ys = np.arange(height, dtype=np.float32)[:, None] * np.float32(phase * math.sin(angle))
        pattern = np.sin(xs + ys) if kind == 1 else np.sign(np.sin(xs) * np.sin(ys))
    strength = rng.uniform(-25, 25, 3).astype(np.float32)
    plane: Image = np.clip(colour.astype(np.float32) + pattern[..., None] * strength, 0, 255).astype(np.uint8)
    return plane


def _blend(pixels: Image, coverage: Image, paint: Image, xyxy: tuple[float, float, float, float]) -> None:
    """Lay ``paint`` over ``pixels`` where the shape covers them; only the box is touched."""
    x1, y1 = (max(0, math.floor(v) - 1) for v in xyxy[:2])
    x2, y2 = (math.ceil(v) + 1 for v in xyxy[2:])
    window = np.s_[y1:y2, x1:x2]
    opacity = coverage[window].astype(np.float32)[..., None] / 255
    pixels[window] = np.rint(pixels[window] * (1 - opacity) + paint[window] * opacity).astype(np.uint8)
