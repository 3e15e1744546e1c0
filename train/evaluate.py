"""Average precision as COCO defines it, of anything that turns prepared pictures into detections."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from aweigh.runtime.detector import Detector
from aweigh.runtime.engine_file import is_engine
from aweigh.runtime.errors import BadInput
from aweigh.runtime.finder import Finder
from aweigh.runtime.flags import opening
from aweigh.runtime.looks import wrapped
from aweigh.runtime.spec import ModelSpec
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.data.loader import evaluation_loader
from aweigh.train.data.records import ImageRecord, Split
from aweigh.train.deployable import Deployable
from aweigh.train.device import resolve_device
from aweigh.train.progress import track

Outputs = dict[str, npt.NDArray[Any]]
Metrics = dict[str, Any]
SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


class Predictor(Protocol):
    """Prepared pictures [B, H, W, 3] uint8 to ``num_dets``, ``boxes``, ``scores``, ``labels``, as the graph's."""

    spec: ModelSpec

    def __call__(self, images_u8: npt.NDArray[np.uint8]) -> Outputs: ...


class TorchPredictor:
    """A network in eager torch, float32."""

    def __init__(self, module: Deployable, spec: ModelSpec, device: torch.device | str = "cpu") -> None:
        if spec.post.kind == "raw":
            raise BadInput("a raw export has no detections to evaluate; export it with its post-processing")
        self.spec = spec
        self.device = device
        self.module = module.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, images_u8: npt.NDArray[np.uint8]) -> Outputs:
        outputs = self.module(torch.from_numpy(images_u8).to(self.device))
        names = self.module.postprocess.output_names
        return {name: tensor.cpu().numpy() for name, tensor in zip(names, outputs, strict=True)}


class FilePredictor:
    """An exported file in the runtime it is meant for."""

    def __init__(self, path: Path, **opening: Any) -> None:
        """Keyword arguments as for ``Detector``."""
        self._detector = Detector(path, **opening)
        self.spec = self._detector.spec

    def __call__(self, images_u8: npt.NDArray[np.uint8]) -> Outputs:
        return self._detector.raw(images_u8)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._detector.close()


@contextlib.contextmanager
def open_predictor(
    model: Path,
    device: str = "cpu",
    threads: int | None = None,
    backend: str = "auto",
    precision: str | None = None,
    self_test: bool = True,
) -> Any:
    """A checkpoint (``.pt``) or an exported file, by its ending; arguments as for ``Detector``.

    Raises BadInput for other endings, and for a back end or precision that a checkpoint is to be opened with.
    """
    if model.suffix == ".pt":
        if backend != "auto" or precision is not None:
            raise BadInput(
                f"{model}: a checkpoint, run by torch in fp32; --backend and --precision are for exported files"
            )
        checkpoint = load_checkpoint(model)
        if threads:
            torch.set_num_threads(threads)
        module = Deployable(checkpoint.detector(), checkpoint.spec.post)
        yield TorchPredictor(module, checkpoint.spec, resolve_device(device))
    elif model.suffix == ".onnx" or is_engine(model):
        with FilePredictor(
            model, device=device, threads=threads, backend=backend, precision=precision, self_test=self_test
        ) as predictor:
            yield predictor
    else:
        raise BadInput(f"--model {model}: expected a checkpoint (.pt) or an exported file (.onnx, .engine)")


@contextlib.contextmanager
def open_finder(arguments: argparse.Namespace) -> Iterator[Finder]:
    """An exported file with the flags of ``runtime.looks``. Raises BadInput for a checkpoint."""
    model: Path = arguments.model
    if model.suffix == ".pt":
        raise BadInput(f"--model {model}: --slice and --tta are for exported files; export it first")
    with Detector(model, **opening(arguments)) as detector, wrapped(detector, arguments) as finder:
        yield finder


def evaluate(predictor: Predictor, split: Split, batch: int = 8, workers: int = 0, note: str = "validate") -> Metrics:
    """COCO's twelve figures, 0 to 1 (None where no object is of that size), and ``per_class``.

    Raises:
        BadInput: the model's categories are not those of the data set.
    """
    return coco_metrics(split, coco_results(predictor, split, batch, workers, note))


def coco_results(
    predictor: Predictor, split: Split, batch: int = 8, workers: int = 0, note: str = "validate"
) -> list[dict[str, Any]]:
    """Detections of all pictures as rows of a COCO results file. Raises BadInput as ``evaluate`` does."""
    spec = predictor.spec
    require_categories(spec, split)
    low, high = spec.batch
    results: list[dict[str, Any]] = []
    loader = evaluation_loader(split, spec.input, batch_size=min(max(batch, low), high), workers=workers)
    for prepared in track(loader, note, total=len(loader)):
        rows = len(prepared.images_u8)
        outputs = predictor(_filled(prepared.images_u8.numpy(), low))
        for i in range(rows):
            record = split.records[int(prepared.record_index[i])]
            count = int(outputs["num_dets"][i])
            boxes_xyxy = prepared.placements[i].unmap(outputs["boxes"][i, :count])
            results += _coco_rows(record, boxes_xyxy, outputs["scores"][i], outputs["labels"][i], split)
    return results


def evaluate_finder(finder: Finder, split: Split, note: str = "validate") -> Metrics:
    """As ``evaluate``, of a Detector or what wraps one, which reads and prepares the pictures itself."""
    require_categories(finder.spec, split)
    results: list[dict[str, Any]] = []
    step = finder.batch_size
    for start in track(range(0, len(split.records), step), note, total=-(-len(split.records) // step)):
        records = split.records[start : start + step]
        found = finder([record.path for record in records])
        for record, detections in zip(records, found, strict=True):
            results += detections.to_coco(record.image_id)
    return coco_metrics(split, results)


def require_categories(spec: ModelSpec, split: Split) -> None:
    """Raises BadInput where the model's categories are not those of the data set, in its order."""
    if [c.id for c in spec.categories] != [c.id for c in split.categories]:
        raise BadInput(
            f"the model knows the categories {spec.names}, the data set has {split.names}; "
            "take the data it was trained for"
        )


def _filled(images_u8: npt.NDArray[np.uint8], rows: int) -> npt.NDArray[np.uint8]:
    """A file of fixed batch gets its last batch filled up with repeated pictures, whose rows are not read."""
    if len(images_u8) >= rows:
        return images_u8
    return np.concatenate((images_u8, np.repeat(images_u8[-1:], rows - len(images_u8), axis=0)))


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


def coco_metrics(split: Split, results: Sequence[dict[str, Any]]) -> Metrics:
    """pycocotools on COCO result rows. Crowds and VOC's difficult objects count neither for nor against.

    ``per_class`` holds, by category id, ``name``, ``AP``, ``AP50``, and the score threshold at which F1 is highest at
    IoU 0.5 (``best_threshold``, ``best_F1``, from the interpolated precision at COCO's 101 recalls).
    """
    truth = _as_coco(split)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        found = truth.loadRes(list(results)) if results else COCO()
        evaluator = _DifficultAware(truth, found, "bbox")
        evaluator.params.imgIds = [record.image_id for record in split.records]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    metrics: Metrics = {name: _share(value) for name, value in zip(SUMMARY, evaluator.stats, strict=True)}
    precision = evaluator.eval["precision"]  # [IoU thresholds, recalls, classes, areas, max detections]
    metrics["per_class"] = {
        str(category.id): {
            "name": category.name,
            "AP": _share(_mean(precision[:, :, k, 0, -1])),
            "AP50": _share(_mean(precision[0, :, k, 0, -1])),
            **_best_threshold(precision[0, :, k, 0, -1], evaluator.eval["scores"][0, :, k, 0, -1]),
        }
        for k, category in enumerate(sorted(split.categories, key=lambda c: c.id))
    }
    metrics["images"] = len(split.records)
    return metrics


class _DifficultAware(COCOeval):  # type: ignore[misc]
    """COCOeval that treats ``difficult`` as the VOC benchmark: matched by plain IoU, any number of times, ignored."""

    def _prepare(self) -> None:
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                if truth.get("difficult"):
                    truth["ignore"] = truth["iscrowd"] = 1

    def computeIoU(self, imgId: Any, catId: Any) -> Any:  # noqa: N802, N803
        # A crowd's IoU is intersection over the detection; a difficult object's is the plain one.
        difficult = [truth for truth in self._gts[imgId, catId] if truth.get("difficult")]
        for truth in difficult:
            truth["iscrowd"] = 0
        overlaps = super().computeIoU(imgId, catId)
        for truth in difficult:
            truth["iscrowd"] = 1
        return overlaps


def _as_coco(split: Split) -> COCO:
    annotations: list[dict[str, Any]] = []
    for record in split.records:
        for i, (x1, y1, x2, y2) in enumerate(record.boxes_xyxy.astype(np.float64)):
            annotations.append(
                {
                    "id": len(annotations) + 1,  # 0 would read as "not matched" inside pycocotools
                    "image_id": record.image_id,
                    "category_id": split.categories[int(record.labels[i])].id,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(record.areas[i]),
                    "iscrowd": int(record.crowd[i]),
                    "difficult": int(record.difficult[i]),
                }
            )
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [
            {"id": r.image_id, "height": r.size_hw[0], "width": r.size_hw[1], "file_name": r.path.name}
            for r in split.records
        ],
        "annotations": annotations,
        "categories": [{"id": c.id, "name": c.name} for c in split.categories],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def _mean(values: npt.NDArray[np.float64]) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0


def _best_threshold(precision: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> dict[str, float | None]:
    recall = np.linspace(0, 1, len(precision))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1.argmax())
    if not f1[best] > 0:  # nothing to find (-1), or nothing found
        return {"best_threshold": None, "best_F1": None}
    return {"best_threshold": float(scores[best]), "best_F1": float(f1[best])}


def _share(value: float) -> float | None:
    return None if value < 0 else float(value)


def rows_of_interest(metrics: Metrics) -> Iterable[tuple[str, float | None]]:
    """The figures that tables and results.csv show."""
    return ((name, metrics[name]) for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"))
