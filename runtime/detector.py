"""Detector: images in, Detections out."""

from __future__ import annotations

import copy
import dataclasses
import os
import time
from typing import Self

import numpy as np

from aweigh.runtime.agreement.self_test import SelfTest, require_self_test, run_self_test
from aweigh.runtime.backends.base import Backend, Closing
from aweigh.runtime.backends.open import open_backend
from aweigh.runtime.backends.outputs import check_finite
from aweigh.runtime.device import Device
from aweigh.runtime.device_images.pixels import DecodeOn, device_pixels
from aweigh.runtime.errors import BadInput, CheckFailed
from aweigh.runtime.flow.batch import Batch, BatchBuilder, Decoded
from aweigh.runtime.flow.confidence import Conf, above
from aweigh.runtime.flow.finder import Finder
from aweigh.runtime.flow.pipeline import Outcome
from aweigh.runtime.flow.sources import Item
from aweigh.runtime.images.preprocess import Placement, has_area, placement, resized_input
from aweigh.runtime.network import ImagesU8, Outputs
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.spec import ModelSpec

# More images at once gain nothing on a CPU and cost memory: 16 inputs of 1333x800 are 51 MB, their features far more.
_LARGEST_BATCH = 16


class Detector(Finder, Closing):
    """An exported model, ready to detect objects.

    Calls from several threads may overlap: nothing of a call is kept in the object.

    Example:
        >>> with Detector(model_path) as detector:
        ...     detections = detector(image)
        >>> detections.summary()
        '1 whole, 1 left half'
        >>> detections.xyxy[0].tolist()
        [20.0, 30.0, 100.0, 90.0]

        A stream reads and prepares images while the network computes:

        >>> with Detector(model_path) as detector:
        ...     [len(detections) for detections in detector.stream([image_path, image])]
        [2, 2]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str | Device = "cpu",
        threads: int | None = None,
        *,
        backend: str = "auto",
        precision: str | None = None,
        self_test: bool = True,
        ort_options: str = "",
        decode_on: DecodeOn = "host",
    ) -> None:
        """Open a model file.

        Args:
            path: an ONNX file or a TensorRT engine (``.engine``, ``.plan``) written by aweigh export.
            device: ``cpu``, ``cuda`` or ``cuda:N``, with OpenVINO ``gpu`` or ``gpu:N``; an unavailable
                one is an error, never replaced by another.
            threads: of the network; by default the cores this process may use. On an engine: calls that run at once,
                by default 4.
            backend: ``onnxruntime``, ``onnxruntime-tensorrt``, ``openvino`` or ``tensorrt``; ``auto`` takes
                ``tensorrt`` for an engine and ``onnxruntime`` for an ONNX file.
            precision: None for what the file says; ``fp32``, ``fp16``, ``bf16`` or ``int8`` insist on it. Only
                OpenVINO computes in another precision than the file's, and only from a file of FP32.
            self_test: whether the file's golden images are run and compared; a file without any passes.
            ort_options: of ONNX Runtime, joined by ``+``: ``binding`` (buffers of the device are kept between calls)
                and on CUDA ``graph``, ``nhwc`` and one of ``exhaustive``, ``heuristic``, ``default`` (docs/runtime.md).
            decode_on: ``device`` decodes JPEGs by nvImageCodec in the memory of the device and resizes there, with ONNX
                Runtime alone; other decoders round otherwise, so that scores may differ in the last digits. See
                ``decoded``.

        Raises:
            BadInput: no such file, not a file of aweigh export, or one exported with ``--post raw``; a back end that
                cannot open it, or a precision that has to be in the file; ``decode_on`` device with another back end.
            CannotRun: the device, a library or the precision is not available.
            CheckFailed: the self-test gave other detections than the trained model.
        """
        self.backend: Backend = open_backend(
            path, device, threads, backend=backend, precision=precision, ort_options=ort_options
        )
        self._owns_backend = True
        self._spec = self.backend.spec
        try:
            self._require_post(str(path))
            self._pixels = device_pixels(decode_on, self.backend)
            if self_test:
                require_self_test(str(path), self.backend)
        except BaseException:
            self.backend.close()
            raise
        self._ids = np.array([c.id for c in self.spec.categories], np.int64)

    def __repr__(self) -> str:
        spec, backend = self.spec, self.backend
        size = (
            "images of any size"
            if spec.input.dynamic_size
            else f"input {spec.input.size_hw[1]}x{spec.input.size_hw[0]}"
        )
        return (
            f"<Detector {spec.method} {spec.architecture}: {len(spec.categories)} classes, {size}, {backend.precision} "
            f"on {', '.join(backend.providers)}>"
        )

    def _require_post(self, path: str) -> None:
        """Raises BadInput where the file's post-processing is none that this class takes."""
        if self.spec.post.kind == "raw":
            raise BadInput(
                f"{path}: exported with --post raw (every point, no detections), which is for post-processing of your "
                "own; export it with --post auto, or use aweigh.runtime.views.candidates or aweigh.runtime.backends"
            )

    @property
    def spec(self) -> ModelSpec:
        """The contract of the file, with the input size of ``resized``."""
        return self._spec

    @property
    def precision(self) -> str:
        """What the network is computed in, see ``Backend.precision``."""
        return self.backend.precision

    @property
    def batch_size(self) -> int:
        """How many images of a list go through the network at once: what the file takes, up to 16."""
        smallest, largest = self.spec.batch
        return max(smallest, min(largest, _LARGEST_BATCH))

    @property
    def decoded(self) -> dict[str, int]:
        """Images decoded so far on the ``device`` and on the ``host``; none with ``decode_on`` host.

        On the host: other files than JPEGs of 8 bits in grey or RGB, those that EXIF turns, and what nvImageCodec
        refuses.
        """
        return self._pixels.decoder.counts if self._pixels else {}

    def _decode(self, item: Item) -> Decoded:
        if self._pixels is None:
            return super()._decode(item)
        start = time.perf_counter()
        image = self._pixels.read(item.source, item.name)
        return Decoded(item, image, (time.perf_counter() - start) * 1e3)

    def _builder(self, capacity: int, keep_images: bool | None) -> BatchBuilder:
        preparation = self._pixels.preparation if self._pixels else None
        return BatchBuilder(self.spec, capacity, keep_images, preparation)

    def _run(self, batch: Batch, conf: Conf | None) -> Outcome[Batch]:
        images_u8 = batch.filled(self.spec)
        start = time.perf_counter()
        outputs = self._pixels.run(images_u8) if self._pixels else self.raw(images_u8)
        return Outcome(batch, outputs, (time.perf_counter() - start) * 1e3)

    def _collect(self, outcome: Outcome[Batch], row: int, conf: Conf | None) -> Detections:
        start = time.perf_counter()
        detections = self.unmap(outcome.outputs, row, outcome.batch.rows[row].where, conf)
        postprocess_ms = (time.perf_counter() - start) * 1e3
        network_ms = outcome.network_ms / len(outcome.batch.rows)
        return dataclasses.replace(detections, speed={"network": network_ms, "postprocess": postprocess_ms})

    def raw(self, images_u8: ImagesU8) -> Outputs:
        """The graph's outputs for images that went through ``preprocess.prepare``.

        Args:
            images_u8: [B, H, W, 3], B within ``spec.batch``.

        Returns:
            ``num_dets`` [B] int64, ``boxes`` [B, K, 4] float32 xyxy in network pixels, ``scores`` [B, K] float32,
            ``labels`` [B, K] int64 (positions in ``spec.categories``); rows past ``num_dets`` are 0, 0, -1.

        Raises:
            BadInput: a batch that the file does not take.
            CheckFailed: the matrix form of NMS did not settle.

        Example:
            >>> from aweigh.runtime.images.preprocess import prepare
            >>> with Detector(model_path) as detector:
            ...     input_u8, where = prepare(image, detector.spec.input)
            ...     outputs = detector.raw(input_u8[None])
            >>> outputs["num_dets"].tolist(), outputs["boxes"].shape
            ([2], (1, 4, 4))
        """
        return self.backend.infer(images_u8)

    def warm_up(self, largest: int | None = None) -> None:
        """Run grey images in the smallest batch that the file takes and in ``largest``, so that no later call of these
        sizes waits for memory, kernels or CUDA graphs that are made at their first use.

        Where the network input follows the image, the images have the largest size that the file was made for; the
        first call of another size still takes longer. Needs the memory of the largest batch.

        Args:
            largest: the largest batch that will be used; by default that of lists (``batch_size``).

        Raises:
            BadInput: a batch that the file does not take.
            CheckFailed: boxes or scores that are not finite.
        """
        size = self.spec.input
        hw = placement(size.size_hw, size).input_hw
        for batch in sorted({self.spec.batch[0], self.batch_size if largest is None else largest}):
            outputs = self.raw(np.full((batch, *hw, 3), size.pad_value, np.uint8))
            if not (np.isfinite(outputs["boxes"]).all() and np.isfinite(outputs["scores"]).all()):
                raise CheckFailed("a grey image gives boxes or scores that are not finite; aweigh verify the file")

    def self_test(self) -> SelfTest:
        """Run the file's golden images and compare them with what the trained model gave.

        Returns:
            The differences, and whether they pass; ``pictures`` is 0 where the file holds none.

        Raises:
            BadInput: golden images that aweigh did not write.
            CheckFailed: the matrix form of NMS did not settle.
        """
        return run_self_test(self.backend)

    def unmap(
        self,
        outputs: Outputs,
        row: int,
        where: Placement,
        conf: Conf | None = None,
    ) -> Detections:
        """The detections of one row of ``raw``.

        Args:
            outputs: of ``raw``.
            row: position in the batch.
            where: placement of the image, as ``preprocess.prepare`` returns it.
            conf: resolved thresholds; None for the file's own.

        Returns:
            Detections in pixels of the original image, with the category ids of the data set, best first; without
            those in the padding.

        Raises:
            CheckFailed: boxes or scores that are not finite.
        """
        check_finite(outputs, row)
        count = int(outputs["num_dets"][row])
        scores = outputs["scores"][row, :count]
        order = np.argsort(-scores, kind="stable")
        order = order[above(scores[order], outputs["labels"][row, order], conf, self.spec)]
        boxes_xyxy = where.unmap(outputs["boxes"][row, order])
        shown = has_area(boxes_xyxy)
        order = order[shown]
        return Detections(
            xyxy=boxes_xyxy[shown],
            conf=scores[order],
            cls=self._ids[outputs["labels"][row, order]],
            names=self.names,
            orig_shape=where.original_hw,
        )

    def resized(self, size_hw: tuple[int, int]) -> Self:
        """The same open file with another input size, to be used as long as this detector is open.

        Both share the memory of the network; see ``close``.

        Args:
            size_hw: as InputSpec.size_hw, multiples of ``pad_multiple`` except for ``keep-ratio``.

        Raises:
            BadInput: the file takes only one size, or not ``size_hw``.
        """
        other = copy.copy(self)
        other._spec = dataclasses.replace(self.spec, input=resized_input(self.spec.input, size_hw))
        other._owns_backend = False
        return other

    def close(self) -> None:
        """Free the network's memory; the detector cannot be called afterwards.

        The detectors that ``resized`` gave share the file: they end with the one that opened it, and closing one of
        them does nothing.
        """
        if self._owns_backend:
            if self._pixels is not None:
                self._pixels.close()
            self.backend.close()
