"""Detect in many pictures: results in order, pictures with boxes beside a detections.json, failures apart."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.detections import Detections
from aweigh.runtime.draw import WRITABLE
from aweigh.runtime.errors import BadInput
from aweigh.runtime.finder import Finder
from aweigh.runtime.media import ImageU8, list_images, read_image
from aweigh.runtime.results import match_image_ids

RESULTS_NAME = "detections.json"
COCO_RESULTS_NAME = "coco_results.json"
LABELS_FOLDER = "labels"


@dataclass
class Predictions:
    """What ``predict`` found.

    Attributes:
        entries: one for each readable picture, in the order of the names (see ``Detections.to_dict``).
        failures: (file, reason) of those that could not be read.
        saved: the pictures written.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    saved: list[Path] = field(default_factory=list)


def predict(
    detector: Finder,
    sources: Iterable[str],
    conf: float | None = None,
    out: Path | None = None,
    labels: Literal["none", "plain", "conf"] = "none",
    image_ids: Mapping[str, int | str] | None = None,
    stop_on_error: bool = False,
    on_picture: Callable[[Path, Detections | None, str | None], None] = lambda path, found, reason: None,
    on_total: Callable[[int], None] = lambda total: None,
) -> Predictions:
    """Detect in files, folders and glob patterns.

    Args:
        detector: an open one, or what wraps one.
        sources: see ``media.list_images``.
        conf: as for ``Detector``.
        out: folder for the pictures with boxes, under their own names and subfolders, and for ``detections.json``;
            None writes nothing.
        labels: whether ``out`` gets YOLO's label files too, one for each picture in ``labels/``, and whether they hold
            the confidence.
        image_ids: name of a picture to its id (``results.read_image_ids``): ``out`` gets a COCO results file too.
        stop_on_error: raise at the first unreadable picture instead of going on without it.
        on_picture: told of each picture as it is done: path and detections, or None and the reason.
        on_total: told the number of pictures before the first.

    Raises:
        BadInput: nothing to read, ``conf`` out of range, ``out`` would overwrite the sources, ``out`` is missing where
            it is needed, a picture without an id, or, with ``stop_on_error``, an unreadable picture.
        OSError: ``out`` cannot be written.
    """
    paths = list(dict.fromkeys(path for source in sources for path in list_images(source)))
    if out is None and (labels != "none" or image_ids is not None):
        raise BadInput("label files and COCO results are written to --out: give a folder")
    targets = _targets(paths, out) if out is not None else {}
    label_files = _label_files(targets, out) if out is not None and labels != "none" else {}
    ids = match_image_ids(map(str, paths), image_ids) if image_ids is not None else {}
    on_total(len(paths))
    result = Predictions()
    coco_rows: list[dict[str, Any]] = []
    for start in range(0, len(paths), detector.batch_size):
        chunk: list[tuple[Path, ImageU8]] = []
        for path in paths[start : start + detector.batch_size]:
            try:
                chunk.append((path, read_image(path)))
            except BadInput as error:
                if stop_on_error:
                    raise
                result.failures.append((str(path), str(error)))
                on_picture(path, None, str(error))
        found = detector([image for _, image in chunk], conf)
        for (path, image), detections in zip(chunk, found, strict=True):
            named = detections.from_picture(str(path), image, detections.speed)
            result.entries.append(named.to_dict())
            if path in targets:
                result.saved.append(named.save(targets[path]))
            if path in label_files:
                named.save_yolo(label_files[path], conf=labels == "conf")
            if ids:
                coco_rows += named.to_coco(ids[str(path)])
            on_picture(path, named, None)
    if out is not None:
        with atomic_write(out / RESULTS_NAME) as temporary:
            temporary.write_text(json.dumps(result.entries, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
        if image_ids is not None:
            with atomic_write(out / COCO_RESULTS_NAME) as temporary:
                temporary.write_text(json.dumps(coco_rows, allow_nan=False) + "\n")
    return result


def _targets(paths: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Where each picture goes: its place below the folder that all have in common; formats that cannot be written
    become PNG, and no two go to one name.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out}: expected a folder, this is a file")
    common = Path(os.path.commonpath([path.resolve().parent for path in paths]))
    taken: set[Path] = set()
    targets = {}
    for path in paths:
        target = out / path.resolve().relative_to(common)
        if target.suffix.lower() not in WRITABLE:
            target = target.with_name(target.name + ".png")
        number, name = 1, target
        while target in taken:
            number += 1
            target = name.with_stem(f"{name.stem}-{number}")
        taken.add(target)
        targets[path] = target
    overwritten = {p.resolve() for p in paths} & {t.resolve() for t in taken}
    if overwritten:
        raise BadInput(f"--out {out}: would overwrite the source {min(overwritten)}; choose another folder")
    return targets


def _label_files(targets: Mapping[Path, Path], out: Path) -> dict[Path, Path]:
    """Where the labels of each picture go: its place in ``out``, below ``labels/``, with the suffix .txt."""
    files: dict[Path, Path] = {}
    owner: dict[Path, Path] = {}
    for path, target in targets.items():
        files[path] = out / LABELS_FOLDER / target.relative_to(out).with_suffix(".txt")
        first = owner.setdefault(files[path], path)
        if first != path:
            raise BadInput(f"--save-txt: {first} and {path} would share the labels {files[path]}; predict them apart")
    return files
