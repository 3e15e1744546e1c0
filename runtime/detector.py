"""Detector: pictures in, Detections out."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
from collections.abc import Generator
from types import TracebackType
from typing import Any, Self, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from aweigh.runtime.backends.base import Backend
from aweigh.runtime.backends.factory import open_backend
from aweigh.runtime.detections import Detections
from aweigh.runtime.errors import BadInput
from aweigh.runtime.failure import OnError, failure_handler
from aweigh.runtime.preprocess import Placement, placement
from aweigh.runtime.self_test import SelfTest, require_self_test, run_self_test
from aweigh.runtime.sources import Item, open_sources
from aweigh.runtime.spec import ModelSpec
from aweigh.runtime.stream import detect_all, detect_one
from aweigh.runtime.video import FrameLimits

Outputs: TypeAlias = dict[str, npt.NDArray[Any]]

# More pictures at once gain nothing on a CPU and cost memory: 16 inputs of 1333x800 are 51 MB, their features far more.
_LARGEST_BATCH = 16


class Detector:
    """An exported model, ready to detect.

    Calls from several threads may overlap: nothing of a call is kept in the object.
    """

    takes_raw = False  # whether files without detections are opened

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
            if self.backend.spec.post.kind == "raw" and not self.takes_raw:
                raise BadInput(
                    f"{path}: exported with --post raw (every point, no detections), which is for post-processing of "
                    "one's own; export it with --post auto, or use aweigh.runtime.candidates or "
                    "aweigh.runtime.backends"
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
        if not isinstance(source, (list, tuple)):
            return detect_one(self, Item.of(source), floor)
        if len(source) == 1:
            return [detect_one(self, Item.of(source[0]), floor)]
        capacity = min(len(source), self.batch_size)
        return list(detect_all(self, lambda stop: (Item.of(picture) for picture in source), floor, capacity))

    def stream(
        self,
        sources: Any,
        conf: float | None = None,
        *,
        on_error: OnError = "stop",
        keep_images: bool | None = None,
        max_frames: int | None = None,
        max_seconds: float | None = None,
        every_frame: bool = False,
    ) -> Generator[Detections, None, None]:
        """Detect in a stream of pictures, reading and preparing the next ones while the network is busy.

        Order is kept, memory bounded: at most some batches are under way, however long the stream. Pictures of a list,
        folder, pattern or video file go through in full batches. Those of any other iterable and of live sources go as
        soon as the network is free, alone or with what has come in the meantime. All threads end when the iterator is
        exhausted, closed or collected, so ``break`` ends them, at the latest after the batch in the network; a thread
        inside an iterable of your own that does not give its next element ends at that element.

        Args:
            sources: one source or an iterable of them, read as it is needed and in another thread. A source is a path,
                the bytes of a picture file, an array, a PIL image (see ``__call__``), a folder or glob pattern (its
                pictures and videos), a video file, the number of a camera, or an address such as ``rtsp://...``.
            conf: as for a single picture.
            on_error: what a source or picture that cannot be read does: ``stop`` raises its error, ``skip`` logs a
                warning and goes on, and so does a function, which is given the Failure in its place in the order.
            keep_images: give each result its picture (``Detections.image``); None: where it cannot be read again, that
                is, of frames and pictures from memory.
            max_frames: of each video and live source.
            max_seconds: of each video and live source.
            every_frame: of a live source. By default the newest frame is taken once you have the result before it,
                and what came in between is dropped, so that results do not lag behind; ``frame`` counts those too.

        Yields:
            Detections with ``path`` (the file, the address without its password, or ``camera:N``) and, of videos and
            live sources, ``frame`` and ``time_s``.

        Raises:
            BadInput: ``conf`` or a limit out of range, at once; an unreadable source or picture, with ``stop``.
            CheckFailed: the matrix form of NMS did not settle.
            Exception: what an iterable of your own raises, after the results before it.
        """
        floor = self._floor(conf)
        limits = FrameLimits(max_frames, max_seconds, every_frame)
        on_failure = failure_handler(on_error)
        return detect_all(
            self, lambda stop: open_sources(sources, limits, stop), floor, self.batch_size, on_failure, keep_images
        )

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

    def resized(self, size_hw: tuple[int, int]) -> Self:
        """The same open file with another input size, to be used while this detector is open.

        Args:
            size_hw: as InputSpec.size_hw, multiples of ``pad_multiple`` but for ``keep-ratio``.

        Raises:
            BadInput: the file takes one size alone, or ``size_hw`` is none that it takes.
        """
        changed = dataclasses.replace(self.spec.input, size_hw=size_hw)
        multiple = changed.pad_multiple
        if size_hw != self.spec.input.size_hw and not self.spec.input.dynamic_size:
            height, width = self.spec.input.size_hw
            raise BadInput(
                f"input of {size_hw[1]}x{size_hw[0]}: this file takes {width}x{height} alone; export it with "
                "--dynamic-size, or once for each size"
            )
        if min(size_hw) < multiple or (changed.resize != "keep-ratio" and any(side % multiple for side in size_hw)):
            raise BadInput(f"input of {size_hw[1]}x{size_hw[0]}: expected positive multiples of {multiple}")
        other = copy.copy(self)
        other.backend = copy.copy(self.backend)
        other.backend.spec = dataclasses.replace(self.spec, input=changed)
        return other

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
