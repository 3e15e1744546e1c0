"""The trained model in torch against the exported file in ONNX Runtime, on the same prepared pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch

from aweigh.export.traced import STAGE_PREFIX, Traced
from aweigh.runtime.backends.base import INPUT_NAME, output_names
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.golden import Golden, Outputs
from aweigh.runtime.match import Match, lowest_reported, match_detections
from aweigh.runtime.tolerances import Tolerances
from aweigh.train.deployable import Deployable


@dataclass(frozen=True)
class StageError:
    """One tensor on the way: largest absolute error, the same relative to the largest value, all values finite."""

    stage: str
    max_abs: float
    max_rel: float
    finite: bool

    def joined(self, other: StageError) -> StageError:
        return StageError(
            self.stage,
            max(self.max_abs, other.max_abs),
            max(self.max_rel, other.max_rel),
            self.finite and other.finite,
        )


@dataclass(frozen=True)
class Comparison:
    """Figures of one batch size and input size; ``match`` is None for a raw file."""

    batch: int
    size_hw: tuple[int, int]
    pictures: int
    stages: tuple[StageError, ...]
    match: Match | None
    tapped: bool


class Reference:
    """The trained model, eager, with the tensors between its stages."""

    def __init__(self, deployable: Deployable) -> None:
        self._module = Traced(deployable).eval()

    @torch.inference_mode()
    def __call__(self, images_u8: npt.NDArray[np.uint8]) -> Outputs:
        values = self._module(torch.from_numpy(images_u8))
        return {name: value.numpy() for name, value in zip(self._module.output_names, values, strict=True)}


class Exported:
    """The exported file, as production runs it, and a copy in memory that shows the tensors between the stages."""

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        self.backend = OnnxRuntimeBackend(path, threads=threads)
        self.outputs = output_names(self.backend.spec.post)
        model = onnx.load(os.fspath(path))
        present = {name for node in model.graph.node for name in node.output}
        self.stages = [name for name in sorted(present) if name.startswith(STAGE_PREFIX)]
        self._tapped = tapped_session(model, self.stages, self.backend.threads)

    def __call__(self, images_u8: npt.NDArray[np.uint8]) -> Outputs:
        """Outputs of the file itself, and the stages of its copy. Raises CheckFailed as ``Backend.infer`` does."""
        outputs = self.backend.infer(images_u8)
        if self.stages:
            values = self._tapped.run(self.stages, {INPUT_NAME: images_u8})
            outputs |= dict(zip(self.stages, values, strict=True))
        return outputs


def tapped_session(model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> Any:
    """A session on the CPU that can be asked for these tensors too; ``model`` gets them as outputs."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in inferred.value_info}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, types.get(name, onnx.TensorProto.FLOAT), None) for name in tensors
    )
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def compare(
    reference: Reference, exported: Exported, pictures: Sequence[Golden], batch: int, tolerances: Tolerances
) -> Comparison:
    """Run all pictures through both in batches of exactly ``batch``; the last is filled up with the first pictures."""
    stages: dict[str, StageError] = {}
    match: Match | None = None
    for images_u8 in _batches(pictures, batch):
        ours, theirs = reference(images_u8), exported(images_u8)
        for name in _order(ours, theirs):
            error = stage_error(name.removeprefix(STAGE_PREFIX), ours[name], theirs[name])
            stages[name] = stages[name].joined(error) if name in stages else error
        if "num_dets" in ours:
            for row in range(batch):
                both = rows(ours, row), rows(theirs, row)
                floor = max(lowest_reported(scores, exported.backend.spec.post) for _, scores, _ in both)
                found = match_detections(*both, tolerances.moved_px, floor + tolerances.score)
                match = found if match is None else match + found
    height, width = pictures[0].image_u8.shape[:2]
    return Comparison(batch, (height, width), len(pictures), tuple(stages.values()), match, bool(exported.stages))


def rows(outputs: Outputs, picture: int) -> tuple[Any, Any, Any]:
    """Boxes, scores and labels of one picture, without the padding."""
    count = int(outputs["num_dets"][picture])
    return (outputs["boxes"][picture, :count], outputs["scores"][picture, :count], outputs["labels"][picture, :count])


def stage_error(stage: str, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> StageError:
    """``ours`` is the trained model's. Another shape, NaN and infinity in either are an infinite error."""
    finite = bool(np.isfinite(theirs).all() and np.isfinite(ours).all())
    if ours.shape != theirs.shape:
        return StageError(stage, float("inf"), float("inf"), finite)
    largest = float(np.abs(ours).max(initial=0.0))
    error = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0)) if finite else float("inf")
    return StageError(stage, error, error / max(largest, 1e-12), finite)


def _order(ours: Outputs, theirs: Outputs) -> list[str]:
    """The float tensors both have, in the order of the network; of detections those are matched instead."""
    names = [n for n in ours if n.startswith(STAGE_PREFIX)]
    if "num_dets" not in ours:
        names += ["boxes", "scores"]
    return [n for n in names if n in theirs]


def _batches(pictures: Sequence[Golden], batch: int) -> Iterator[npt.NDArray[np.uint8]]:
    for start in range(0, len(pictures), batch):
        chosen = [pictures[i % len(pictures)].image_u8 for i in range(start, start + batch)]
        yield np.stack(chosen)
