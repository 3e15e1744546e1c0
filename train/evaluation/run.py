"""Detections of a whole split, and their figures, of anything that turns prepared pictures into detections."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.engine import is_engine
from aweigh.runtime.flow.finder import Finder
from aweigh.runtime.network import ImagesU8, Network, Outputs, fill_batch
from aweigh.runtime.opening import OpenOptions
from aweigh.runtime.spec import ModelSpec
from aweigh.runtime.views.options import ViewOptions
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.data.loading.loader import evaluation_loader
from aweigh.train.data.records import ImageRecord, Split
from aweigh.train.evaluation.coco import Metrics
from aweigh.train.evaluation.sets import METRIC_SETS
from aweigh.train.models.deployable import Deployable
from aweigh.train.process.console import track
from aweigh.train.process.device import resolve_device
from aweigh.train.process.processes import ALONE, Place, gather, place


class TorchPredictor:
    """A network in eager torch, float32."""

    def __init__(self, module: Deployable, spec: ModelSpec, device: torch.device | str = "cpu") -> None:
        self.spec = spec
        self.device = device
        self.module = module.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @torch.inference_mode()
    def infer(self, images_u8: ImagesU8) -> Outputs:
        """See ``Network.infer``."""
        outputs = self.module(torch.from_numpy(images_u8).to(self.device))
        names = self.module.postprocess.spec.output_names
        return {name: tensor.cpu().numpy() for name, tensor in zip(names, outputs, strict=True)}

    def close(self) -> None:
        """The weights are freed with the object."""


@contextlib.contextmanager
def open_predictor(model: Path, opening: OpenOptions | None = None) -> Iterator[Network]:
    """Open a checkpoint (``.pt``) or an exported file, by its ending.

    Raises:
        BadInput: another ending, or a back end or precision that a checkpoint is to be opened with.
    """
    opening = opening or OpenOptions()
    if model.suffix == ".pt":
        if opening.backend != "auto" or opening.precision is not None:
            raise BadInput(
                f"{model}: a checkpoint, run by torch in fp32; --backend and --precision are for exported files"
            )
        checkpoint = load_checkpoint(model)
        if opening.threads:
            torch.set_num_threads(opening.threads)
        module = Deployable(checkpoint.detector(), checkpoint.spec.post)
        yield TorchPredictor(module, checkpoint.spec, resolve_device(opening.device))
    elif model.suffix == ".onnx" or is_engine(model):
        with opening.open(model) as detector:
            yield detector.backend
    else:
        raise BadInput(f"--model {model}: expected a checkpoint (.pt) or an exported file (.onnx, .engine)")


@contextlib.contextmanager
def open_finder(model: Path, opening: OpenOptions, views: ViewOptions) -> Iterator[Finder]:
    """Open an exported file that looks at each image in several views. Raises BadInput for a checkpoint."""
    if model.suffix == ".pt":
        raise BadInput(f"--model {model}: --slice and --tta are for exported files; export it first")
    with opening.open(model) as detector, views.applied(detector, opening) as finder:
        yield finder


def evaluate(
    network: Network,
    split: Split,
    batch: int = 8,
    workers: int = 0,
    note: str = "validate",
    metrics: str = "coco",
) -> Metrics:
    """COCO's twelve figures, 0 to 1 (None where no object is of that size), and ``per_class``.

    Args:
        metrics: another benchmark's figures: a key of METRIC_SETS.

    Raises:
        BadInput: the model's categories are not those of the data set.
    """
    return METRIC_SETS[metrics].compute(split, coco_results(network, split, batch, workers, note))


def joined_results(network: Network, split: Split, batch: int = 8) -> list[dict[str, Any]]:
    """COCO results of the split, on each of the processes that train together; each runs its share of the pictures."""
    shares = gather(coco_results(network, split, batch, share=place()))
    return [row for share in shares for row in share]


def coco_results(
    network: Network,
    split: Split,
    batch: int = 8,
    workers: int = 0,
    note: str = "validate",
    share: Place = ALONE,
) -> list[dict[str, Any]]:
    """Detections as rows of a COCO results file, of all pictures or of the share of one process.

    Raises BadInput as ``evaluate`` does.
    """
    spec = network.spec
    if spec.post.kind == "raw":
        raise BadInput("a raw export has no detections to evaluate; export it with its post-processing")
    require_categories(spec, split)
    low, high = spec.batch
    results: list[dict[str, Any]] = []
    rows = min(max(batch, low), high)
    loader = evaluation_loader(split, spec.input, rows, workers, share.rank, share.world_size)
    for prepared in track(loader, note, total=len(loader)):
        outputs = network.infer(fill_batch(prepared.images_u8.numpy(), spec))
        for i in range(len(prepared.images_u8)):
            record = split.records[int(prepared.record_index[i])]
            count = int(outputs["num_dets"][i])
            boxes_xyxy = prepared.placements[i].unmap(outputs["boxes"][i, :count])
            results += _coco_rows(record, boxes_xyxy, outputs["scores"][i], outputs["labels"][i], split)
    return results


def evaluate_finder(finder: Finder, split: Split, note: str = "validate", metrics: str = "coco") -> Metrics:
    """As ``evaluate``, of a Detector or what wraps one, which reads and prepares the pictures itself."""
    require_categories(finder.spec, split)
    results: list[dict[str, Any]] = []
    step = finder.batch_size
    for start in track(range(0, len(split.records), step), note, total=-(-len(split.records) // step)):
        records = split.records[start : start + step]
        found = finder([record.path for record in records])
        for record, detections in zip(records, found, strict=True):
            results += detections.to_coco(record.image_id)
    return METRIC_SETS[metrics].compute(split, results)


def require_categories(spec: ModelSpec, split: Split) -> None:
    """Raises BadInput where the model's categories are not those of the data set, in its order."""
    if [c.id for c in spec.categories] != [c.id for c in split.categories]:
        raise BadInput(
            f"the model knows the categories {spec.names}, the data set has {split.names}; "
            "take the data it was trained for"
        )


def _coco_rows(
    record: ImageRecord,
    boxes_xyxy: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    split: Split,
) -> list[dict[str, Any]]:
    return [
        {
            "image_id": record.image_id,
            "category_id": split.categories[int(labels[i])].id,
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
            "score": float(scores[i]),
        }
        for i, (x1, y1, x2, y2) in enumerate(boxes_xyxy.astype(np.float64))
    ]
