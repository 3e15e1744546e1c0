"""Run a network over a split and compute metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.finder import Finder
from aweigh.runtime.network import Network, fill_batch
from aweigh.runtime.opening import OpenOptions
from aweigh.runtime.spec import ModelSpec
from aweigh.runtime.views.options import ViewOptions
from aweigh.train.data.loading.loader import evaluation_loader
from aweigh.train.data.matching import require_categories
from aweigh.train.data.open import load_split_of
from aweigh.train.data.records import ImageRecord, Split, summary
from aweigh.train.data.verify import Faulty
from aweigh.train.evaluation.metrics import Metrics, ResultRow
from aweigh.train.evaluation.predictors import open_predictor
from aweigh.train.evaluation.sets import METRIC_SETS
from aweigh.train.process.console import say, track
from aweigh.train.process.processes import SINGLE, Process, gather, this_process


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a model on a split of a data set.

    Attributes:
        metrics: of the split and of each class.
        model: the file.
        split: its name.
        imgsz_hw: height and width of the network input in pixels.
    """

    metrics: Metrics
    model: str
    split: str
    imgsz_hw: tuple[int, int]

    def __repr__(self) -> str:
        return f"<Evaluation of {self.model} on {self.split}: {self.metrics!r}>"

    def _repr_html_(self) -> str:
        """The metrics as a table, for a notebook."""
        return f"<p>{escape(self.model)} on {escape(self.split)}</p>{self.metrics._repr_html_()}"

    def to_dict(self) -> dict[str, Any]:
        """As ``aweigh val --json`` prints it."""
        return {**self.metrics.to_dict(), "model": self.model, "split": self.split, "imgsz_hw": self.imgsz_hw}


def evaluate(
    model: str | Path,
    data: str | Path,
    split: str = "val",
    *,
    batch: int = 8,
    metrics: str = "coco",
    faulty: Faulty = "drop",
    match_names: bool = False,
    outside_images: bool = False,
    opening: OpenOptions | None = None,
    views: ViewOptions | None = None,
) -> Evaluation:
    """Metrics of a checkpoint or an exported file on a split of a data set.

    Args:
        model: a checkpoint (``.pt``) or an exported file (``.onnx``, ``.engine``).
        data: folder of the data set, or its ``data.yaml``.
        split: name of the split.
        batch: images at once, as far as the file allows.
        metrics: ``coco`` (AP and AR, at IoU 0.5 to 0.95), ``voc`` or ``crowdhuman``.
        faulty: ``drop`` faulty annotations, with a line on stderr for each kind, or ``refuse`` the data set.
        match_names: match the data set's classes with the model's by name, where their ids differ.
        outside_images: read images outside of the data set's folder, where its annotations name such.
        opening: device, threads and back end; by default the CPU.
        views: tiles and test-time augmentation, for exported files only, and suppression across classes; by default
            none of them.

    Raises:
        BadInput: a file that is not a model, no such data set or split, categories other than the model's, or several
            views of a checkpoint.
        CannotRun: the device or back end is not available here.

    Example:
        >>> from aweigh.train import evaluate, train
        >>> recipe = {"data": shapes, "model": "nano", "imgsz": 64, "iterations": 2, "project": tmp_path}
        >>> result = train({**recipe, "workers": 0, "threads": 1})
        >>> evaluation = evaluate(result.checkpoint, shapes, "test")
        >>> 0 <= evaluation.metrics["AP"] <= 1
        True
    """
    opening, views = opening or OpenOptions(), views or ViewOptions()
    is_checkpoint = Path(model).suffix == ".pt"
    if is_checkpoint and views.several:
        raise BadInput(f"--model {model}: --slice and --tta are for exported files; export it first")
    if views.changes and not is_checkpoint:
        with opening.open(model) as detector, views.applied(detector, opening) as finder:
            records = _load_split(data, split, faulty, finder.spec, match_names, outside_images)
            computed, spec = evaluate_finder(finder, records, metrics=metrics), finder.spec
    else:
        with open_predictor(model, opening, views.agnostic) as network:
            records = _load_split(data, split, faulty, network.spec, match_names, outside_images)
            computed, spec = evaluate_network(network, records, batch, metrics=metrics), network.spec
    return Evaluation(computed, str(model), records.name, spec.input.size_hw)


def _load_split(
    data: str | Path, split: str, faulty: Faulty, spec: ModelSpec, match_names: bool, outside_images: bool
) -> Split:
    """Read a split, without the images that the model's training held out for another, and print its faults."""
    records = load_split_of(spec, data, split, faulty, match_names, outside_images)
    for line in summary(records.faults):
        say(line)
    return records


def evaluate_network(
    network: Network,
    split: Split,
    batch: int = 8,
    workers: int = 0,
    note: str = "validate",
    metrics: str = "coco",
) -> Metrics:
    """Metrics of an open network.

    Args:
        metrics: a key of METRIC_SETS.
        note: text of the progress bar.

    Raises:
        BadInput: the model's categories are not those of the data set.
    """
    return METRIC_SETS[metrics].compute(split, coco_results(network, split, batch, workers, note))


def joined_results(network: Network, split: Split, batch: int = 8) -> list[ResultRow]:
    """Detections of the split, on every process; each process runs the network on its share of the images."""
    shares = gather(coco_results(network, split, batch, share=this_process()))
    return [row for share in shares for row in share]


def coco_results(
    network: Network,
    split: Split,
    batch: int = 8,
    workers: int = 0,
    note: str = "validate",
    share: Process = SINGLE,
) -> list[ResultRow]:
    """Detections as rows of a COCO results file, of all images or of the share of one process.

    Raises:
        BadInput: an export without post-processing, or categories other than the data set's.
    """
    spec = network.spec
    if spec.post.kind == "raw":
        raise BadInput("a raw export has no detections to evaluate; export it with its post-processing")
    require_categories(spec, split)
    low, high = spec.batch
    results: list[ResultRow] = []
    rows = min(max(batch, low), high)
    loader = evaluation_loader(split, spec.input, rows, workers, share.rank, share.world_size)
    for prepared in track(loader, note, total=len(loader)):
        outputs = network.infer(fill_batch(prepared.images_u8.numpy(), spec))
        for i in range(len(prepared.images_u8)):
            record = split.records[int(prepared.record_index[i])]
            count = int(outputs["num_dets"][i])
            where = prepared.placements[i]
            shown = np.flatnonzero(where.shows(outputs["boxes"][i, :count]))
            boxes_xyxy = where.unmap(outputs["boxes"][i, shown])
            results += _coco_rows(record, boxes_xyxy, outputs["scores"][i, shown], outputs["labels"][i, shown], split)
    return results


def evaluate_finder(finder: Finder, split: Split, note: str = "validate", metrics: str = "coco") -> Metrics:
    """As :func:`evaluate_network`, with a ``Detector`` or a view of one, which reads and prepares images itself."""
    require_categories(finder.spec, split)
    return METRIC_SETS[metrics].compute(split, list(_detected(finder, split, note)))


def _detected(finder: Finder, split: Split, note: str) -> Iterator[ResultRow]:
    step = finder.batch_size
    for start in track(range(0, len(split.records), step), note, total=-(-len(split.records) // step)):
        records = split.records[start : start + step]
        for record, detections in zip(records, finder([record.path for record in records]), strict=True):
            for row in detections.to_coco(record.image_id):
                yield ResultRow(
                    image_id=row["image_id"], category_id=row["category_id"], bbox=row["bbox"], score=row["score"]
                )


def _coco_rows(
    record: ImageRecord,
    boxes_xyxy: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    split: Split,
) -> list[ResultRow]:
    return [
        {
            "image_id": record.image_id,
            "category_id": split.categories[int(labels[i])].id,
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
            "score": float(scores[i]),
        }
        for i, (x1, y1, x2, y2) in enumerate(boxes_xyxy.astype(np.float64))
    ]
