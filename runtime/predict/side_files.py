"""What predict writes on demand for images: YOLO label files and a COCO results file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.sources import is_video, source_name
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.results.files import match_image_ids
from aweigh.runtime.results.json_array import json_array

COCO_RESULTS_NAME = "coco_results.json"
LABELS_FOLDER = "labels"
Labels: TypeAlias = Literal["none", "plain", "conf"]


class SideFiles:
    """Label files, written as results come, and COCO results, which appear at the end of the block if all went well.

    Everything is checked before the first image.
    """

    def __init__(
        self,
        inputs: Sequence[Path | str | int],
        targets: Mapping[str, Path],
        out: Path | None,
        labels: Labels,
        image_ids: Mapping[str, int | str] | None,
    ) -> None:
        """``labels`` and ``image_ids`` as for ``predict``; ``targets``: path of a source to what is drawn of it.

        Raises:
            BadInput: no folder, a video or live source, an image without an id, or two that would share a file.
        """
        self._files: dict[str, Path] = {}
        self._ids: dict[str, int | str] = {}
        self._with_conf = labels == "conf"
        self._out = out
        self._append: Callable[[dict[str, Any]], None] | None = None
        self._stack = contextlib.ExitStack()
        if labels == "none" and image_ids is None:
            return
        if out is None:
            raise BadInput("label files and COCO results are written to --out: give a folder")
        for source in inputs:
            if not isinstance(source, Path) or is_video(source):
                raise BadInput(
                    f"{source_name(source)}: label files and COCO results are for images; run predict on it separately"
                )
        if labels != "none":
            self._files = _label_files(targets, out)
        if image_ids is not None:
            self._ids = match_image_ids(map(str, inputs), image_ids)

    def add(self, detections: Detections) -> None:
        """Write an image's result. Raises OSError as the file system does."""
        path = detections.path or ""
        if path in self._files:
            detections.save_yolo(self._files[path], conf=self._with_conf)
        if self._append is not None:
            for row in detections.to_coco(self._ids[path]):
                self._append(row)

    def __enter__(self) -> Self:
        if self._ids and self._out is not None:
            self._append = self._stack.enter_context(json_array(self._out / COCO_RESULTS_NAME))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)


def _label_files(targets: Mapping[str, Path], out: Path) -> dict[str, Path]:
    """Where the labels of each image go: its place in ``out``, below ``labels/``, with the suffix .txt."""
    files: dict[str, Path] = {}
    owner: dict[Path, str] = {}
    for path, target in targets.items():
        files[path] = out / LABELS_FOLDER / target.relative_to(out).with_suffix(".txt")
        first = owner.setdefault(files[path], path)
        if first != path:
            raise BadInput(
                f"--save-txt: {first} and {path} would share the labels {files[path]}; run predict on them separately"
            )
    return files
