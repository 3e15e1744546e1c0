"""Detector: pictures in, Detections out."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from aweigh.runtime.backends.base import Backend
from aweigh.runtime.backends.factory import open_backend
from aweigh.runtime.detections import Detections
from aweigh.runtime.errors import BadInput
from aweigh.runtime.media import ImageU8, Source, read_image
from aweigh.runtime.preprocess import Placement, placement, prepare
from aweigh.runtime.self_test import SelfTest, require_self_test, run_self_test
from aweigh.runtime.spec import ModelSpec

Outputs: TypeAlias = dict[str, npt.NDArray[Any]]

# More pictures at once gain nothing on a CPU and cost memory: 16 inputs of 1333x800 are 51 MB, their features far more.
_LARGEST_BATCH = 16


@dataclass
class _Waiting:
    """A picture on its way; the array of a picture that has a path is let go once it is prepared."""

    position: int
    where: Placement
    path: str | None
    image: ImageU8 | None
    speed_ms: dict[str, float]


@dataclass
class _Batch:
    """Prepared pictures of one network input size."""

    images_u8: npt.NDArray[np.uint8]
    rows: list[_Waiting] = field(default_factory=list)


class Detector:
    """An exported model, ready to detect.

    Calls from several threads may overlap: nothing of a call is kept in the object.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "cpu",
        threads: int | None = None,
        *,
        backend: str = "auto",
        precision: str | None = None,
        self_test: bool = True,
    ) -> None:
        """Open a model file.

        Args:
            path: an ONNX file or a TensorRT engine (``.engine``, ``.plan``) written by aweigh export.
            device: ``cpu``, ``cuda`` or ``cuda:N``, with OpenVINO ``gpu`` or ``gpu:N``; one that cannot be had is an
                error, never replaced by another.
            threads: for the network; by default the cores this process may use. On an engine: calls that run at once,
                by default 4.
            backend: ``onnxruntime``, ``onnxruntime-tensorrt``, ``openvino`` or ``tensorrt``; ``auto`` goes by the file
                alone: ``tensorrt`` for an engine, ``onnxruntime`` for ONNX.
            precision: None for what the file says; ``fp32``, ``fp16``, ``bf16`` or ``int8`` insist on it. Another than
                the file's is computed by OpenVINO alone, of a file of FP32.
            self_test: whether the file's golden pictures are run and compared; a file without any passes.

        Raises:
            BadInput: no such file, no file of ours, or one exported with ``--post raw``; a back end that does not take
                it, or a precision that has to be in the file.
            CannotRun: the device, the library or the precision is not to be had.
            CheckFailed: the self-test found other detections than the trained model's.
        """
        self.backend: Backend = open_backend(path, device, threads, backend=backend, precision=precision)
        try:
            if self.backend.spec.post.kind == "raw":
                raise BadInput(
                    f"{path}: exported with --post raw (every point, no detections), which is for post-processing of "
                    "one's own; export it with --post auto, or use aweigh.runtime.backends"
                )
            if self_test:
                require_self_test(str(path), self.backend)
        except BaseException:
            self.backend.close()
            raise
        self._ids = np.array([c.id for c in self.spec.categories], np.int64)

    @property
    def spec(self) -> ModelSpec:
        """The contract of the file."""
        return self.backend.spec

    @property
    def names(self) -> dict[int, str]:
        """Category id to name."""
        return self.spec.names

    @property
    def precision(self) -> str:
        """What the network is computed in, see ``Backend.precision``."""
        return self.backend.precision

    @property
    def batch_size(self) -> int:
        """How many pictures of a list go through the network at once: what the file takes, up to 16."""
        smallest, largest = self.spec.batch
        return max(smallest, min(largest, _LARGEST_BATCH))

    @overload
    def __call__(
        self, source: str | bytes | os.PathLike[str] | npt.NDArray[Any], conf: float | None = None
    ) -> Detections: ...
    @overload
    def __call__(self, source: list[Any] | tuple[Any, ...], conf: float | None = None) -> list[Detections]: ...
    @overload  # a PIL image, whose type is not to be had without Pillow
    def __call__(self, source: Any, conf: float | None = None) -> Detections: ...

    def __call__(self, source: Any, conf: float | None = None) -> Detections | list[Detections]:
        """Detect in one picture or in a list of them.

        Args:
            source: a path, the bytes of a picture file, an RGB array ([H, W, 3] uint8), a PIL image, or a list or tuple
                of these. A list goes through in batches of what the file takes; where the network input follows the
                picture's shape, only equal shapes share one. A batch below the smallest that the file takes is filled
                up with grey, which is computed and thrown away.
            conf: only scores strictly above it; 0 to 1. The file's own threshold is a floor, for what lies below it
                was never computed.

        Returns:
            Detections, best first; for a list, a list in its order.

        Raises:
            BadInput: an unreadable picture, or ``conf`` below the file's threshold or outside 0 to 1.
            CheckFailed: the matrix form of NMS did not settle.
        """
        floor = self._floor(conf)
        if isinstance(source, (list, tuple)):
            results = dict(self._detect(source, floor))
            return [results[i] for i in range(len(source))]
        return next(found for _, found in self._detect([source], floor))

    def raw(self, images_u8: npt.NDArray[np.uint8]) -> Outputs:
        """The graph's outputs for pictures that went through ``preprocess.prepare``.

        Args:
            images_u8: [B, H, W, 3], B within ``spec.batch``.

        Returns:
            ``num_dets`` [B] int64, ``boxes`` [B, K, 4] float32 xyxy in network pixels, ``scores`` [B, K] float32,
            ``labels`` [B, K] int64 (positions in ``spec.categories``); rows past ``num_dets`` are 0, 0, -1.

        Raises:
            BadInput: a batch that the file does not take.
            CheckFailed: the matrix form of NMS did not settle.
        """
        return self.backend.infer(images_u8)

    def warm_up(self) -> None:
        """Run grey pictures in the smallest batch that the file takes and in that of lists (``batch_size``), so that no
        later call of these sizes pays for memory, kernels or CUDA graphs that are made at their first use.

        Where the network input follows the picture, the pictures have the largest size that the file was made for;
        other sizes still have their first time. Takes the memory of the largest batch.
        """
        size = self.spec.input
        hw = placement(size.size_hw, size).input_hw
        for batch in sorted({self.spec.batch[0], self.batch_size}):
            self.raw(np.full((batch, *hw, 3), size.pad_value, np.uint8))

    def self_test(self) -> SelfTest:
        """Run the file's golden pictures and compare them with what the trained model gave.

        Returns:
            Figures, and whether they pass; ``pictures`` is 0 where the file holds none.

        Raises:
            BadInput: golden pictures that aweigh did not write.
            CheckFailed: the matrix form of NMS did not settle.
        """
        return run_self_test(self.backend)

    def unmap(
        self,
        outputs: Outputs,
        row: int,
        where: Placement,
        conf: float | None = None,
    ) -> Detections:
        """One picture's part of the outputs, in pixels of the original picture and with the data set's category ids."""
        count = int(outputs["num_dets"][row])
        scores = outputs["scores"][row, :count]
        order = np.argsort(-scores, kind="stable")
        if conf is not None:
            order = order[scores[order] > conf]
        return Detections(
            xyxy=where.unmap(outputs["boxes"][row, order]),
            conf=scores[order],
            cls=self._ids[outputs["labels"][row, order]],
            names=self.names,
            orig_shape=where.original_hw,
        )

    def close(self) -> None:
        """Give the network's memory back; the detector cannot be called afterwards."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _floor(self, conf: float | None) -> float | None:
        floor = self.spec.post.score_threshold
        if conf is None:
            return None
        if not (math.isfinite(conf) and 0 <= conf <= 1):
            raise BadInput(f"conf {conf}: expected a number from {floor} to 1")
        if conf < floor:
            raise BadInput(
                f"conf {conf}: this file was exported with the score threshold {floor}, what lies below is not "
                f"computed; take {floor} or more, or export it with a lower threshold"
            )
        return conf

    def _detect(self, sources: Sequence[Source], conf: float | None) -> Iterator[tuple[int, Detections]]:
        """(position, Detections), in the order in which batches fill up."""
        open_batches: dict[tuple[int, int], _Batch] = {}
        for position, source in enumerate(sources):
            start = time.perf_counter()
            image = read_image(source)
            decoded = time.perf_counter()
            where = placement((image.shape[0], image.shape[1]), self.spec.input)
            batch = open_batches.get(where.input_hw)
            if batch is None:
                rows = min(self.batch_size, len(sources) - position)
                batch = open_batches[where.input_hw] = _Batch(np.empty((rows, *where.input_hw, 3), np.uint8))
            prepare(image, self.spec.input, out=batch.images_u8[len(batch.rows)])
            path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
            speed_ms = {"decode": (decoded - start) * 1e3, "preprocess": (time.perf_counter() - decoded) * 1e3}
            batch.rows.append(_Waiting(position, where, path, None if path else image, speed_ms))
            if len(batch.rows) == len(batch.images_u8):
                yield from self._run(open_batches.pop(where.input_hw), conf)
        for batch in open_batches.values():
            yield from self._run(batch, conf)

    def _run(self, batch: _Batch, conf: float | None) -> Iterable[tuple[int, Detections]]:
        count = len(batch.rows)
        images_u8 = batch.images_u8[:count]
        missing = self.spec.batch[0] - count
        if missing > 0:
            filling = np.full((missing, *images_u8.shape[1:]), self.spec.input.pad_value, np.uint8)
            images_u8 = np.concatenate([images_u8, filling])
        start = time.perf_counter()
        outputs = self.raw(images_u8)
        network_ms = (time.perf_counter() - start) * 1e3 / count
        for row, waiting in enumerate(batch.rows):
            start = time.perf_counter()
            found = self.unmap(outputs, row, waiting.where, conf)
            postprocess_ms = (time.perf_counter() - start) * 1e3
            speed_ms = {**waiting.speed_ms, "network": network_ms, "postprocess": postprocess_ms}
            yield waiting.position, found.from_picture(waiting.path, waiting.image, speed_ms)
