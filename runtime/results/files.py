"""Results of many images in files: what ``aweigh predict`` wrote, read back, and COCO's results format."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.reading import read_once
from aweigh.runtime.json_text import parse_json
from aweigh.runtime.results.detections import Detections

_SHOWN = 5  # of the names in a message


def read_predictions(path: str | os.PathLike[str], names: Mapping[int, str] | None = None) -> list[Detections]:
    """What ``aweigh predict --json`` printed or ``--out`` wrote as detections.json; see ``Detections.from_dict``.

    Raises BadInput for a file that is not there or of another form.
    """
    entries = _read_json(Path(path))
    if not isinstance(entries, list):
        raise BadInput(f"{path}: expected a list of images as aweigh predict writes it, got {type(entries).__name__}")
    try:
        return [Detections.from_dict(entry, names) for entry in entries]
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def read_image_ids(annotations: str | os.PathLike[str]) -> dict[str, int | str]:
    """``file_name`` to ``id`` of the images of a COCO annotation file.

    Raises BadInput for a file that is not there or no such file, and where a name stands twice.
    """
    content = _read_json(Path(annotations))
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise BadInput(f"{annotations}: expected a COCO annotation file with a list of images")
    ids: dict[str, int | str] = {}
    for image in images:
        name, image_id = (image.get(key) if isinstance(image, dict) else None for key in ("file_name", "id"))
        if not isinstance(name, str) or not isinstance(image_id, (int, str)):
            raise BadInput(f"{annotations}: images: expected file_name and id of each, got {image!r:.100}")
        if name in ids:
            raise BadInput(f"{annotations}: images: file_name {name!r} stands twice")
        ids[name] = image_id
    return ids


def match_image_ids(paths: Iterable[str], image_ids: Mapping[str, int | str]) -> dict[str, int | str]:
    """Which image each path is.

    Args:
        paths: of image files.
        image_ids: name of the image to its id, see ``read_image_ids``. A path belongs to the name that it ends with,
            whole folders compared; where several do, to the longest.

    Raises:
        BadInput: paths that no name belongs to, or two that are the same image; the message names them.
    """
    matched: dict[str, int | str] = {}
    unknown: list[str] = []
    taken: dict[int | str, str] = {}
    for path in paths:
        name = _name_of(path, image_ids)
        if name is None:
            unknown.append(path)
            continue
        matched[path] = image_ids[name]
        first = taken.setdefault(image_ids[name], path)
        if first != path:
            raise BadInput(f"COCO results: {first} and {path} are both the image {image_ids[name]!r}")
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise BadInput(
            f"COCO results: no image id for {', '.join(unknown[:_SHOWN])}{more}; known are names such as "
            f"{', '.join(list(image_ids)[:_SHOWN]) or '(none)'}"
        )
    return matched


def coco_results(found: Sequence[Detections], image_ids: Mapping[str, int | str]) -> list[dict[str, Any]]:
    """Rows of a COCO results file for images that came from files; each image once.

    Raises BadInput as ``match_image_ids``, and for images that came from memory.
    """
    paths = [one.path for one in found if one.path is not None]
    if len(paths) < len(found):
        raise BadInput("COCO results: an image from memory has no file name; use Detections.to_coco(image_id)")
    ids = match_image_ids(paths, image_ids)
    if len(ids) < len(paths):
        twice = next(path for path, count in Counter(paths).items() if count > 1)
        raise BadInput(f"COCO results: {twice} stands there twice")
    return [row for one, path in zip(found, paths, strict=True) for row in one.to_coco(ids[path])]


def write_coco_results(
    path: str | os.PathLike[str],
    found: Sequence[Detections],
    images: str | os.PathLike[str] | Mapping[str, int | str],
) -> Path:
    """Write a COCO results file, which pycocotools' ``loadRes`` reads; whole or not at all.

    Args:
        path: of the file.
        found: results with their ``path``.
        images: COCO's annotation file, or a mapping from the images' names to their ids.

    Returns:
        The path.

    Raises:
        BadInput: as ``read_image_ids`` and ``coco_results``.
    """
    path = Path(path)
    image_ids = images if isinstance(images, Mapping) else read_image_ids(images)
    rows = coco_results(found, image_ids)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(rows, allow_nan=False) + "\n")
    return path


def _name_of(path: str, names: Mapping[str, int | str]) -> str | None:
    parts = PurePath(path).parts
    endings = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((ending for ending in endings if ending in names), None)


def _read_json(path: Path) -> Any:
    return parse_json(read_once(path), str(path))
