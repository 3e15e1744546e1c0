"""What a user can choose about an export and about a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aweigh.export.precision.encoding import Encoding
from aweigh.export.proof.prove import IMAGES, Scope
from aweigh.runtime.files.flavours import FlavourName
from aweigh.runtime.precision import Precision

Post = Literal["auto", "nms", "vote", "none", "raw"]


@dataclass(frozen=True)
class ExportOptions:
    """The flags of ``aweigh export``; None leaves the checkpoint's value.

    Attributes:
        batch: smallest and largest number of images.
        size_hw: height and width of the network input, pixels.
        dynamic_size: whether the file takes other heights and widths too.
        precision: of the network; decoding and NMS stay in FP32.
        post: ``auto`` is the method's own.
        nms: form of NMS in the graph; None is ``matrix`` for an engine, which has no shapes that depend on the data,
            otherwise ``onnx``.
        conf: score threshold, 0 to 1; iou: of NMS, 0 to 1; agnostic: a box is suppressed by a better one of any class.
        top_k: candidates before NMS, counted as the method counts them (see PostSpec).
        max_det: rows of the output.
        golden: images kept inside the file for its self-test, 0 to 6.
        data: for the receipt; None compares on generated images. split: of it.
        outside_images: read images outside of the data set's folder, where its annotations name such.
        verify: whether a receipt is made.
        force: allows post-processing ``none`` for a method that needs NMS.
        threads: of ONNX Runtime in the comparison.
        keep_high: layers, or folders of layers, that stay in FP32.
        calib: number of images that int8 is calibrated on; encoding: of int8.
        for_engine: TensorRT will run the graph: bf16 is allowed, and int8 is encoded for it.
        bisect: whether to search for the layer that breaks in the precision.
        tolerances: of the receipt, instead of the precision's.
        images: how many the receipt compares detections on; strict: see ``receipt_of``.
        match_names: match the classes of ``data`` with the model's by name.
        seed: draws the images that are compared, kept in the file and calibrated on; None takes them evenly spaced.

    Example:
        >>> ExportOptions(batch=(1, 4), precision="fp16").post
        'auto'
    """

    batch: tuple[int, int] = (1, 8)
    size_hw: tuple[int, int] | None = None
    dynamic_size: bool = False
    precision: Precision = "fp32"
    post: Post = "auto"
    nms: Literal["onnx", "matrix"] | None = None
    conf: float | None = None
    iou: float | None = None
    agnostic: bool = False
    top_k: int | None = None
    max_det: int | None = None
    golden: int = 2
    data: str | None = None
    split: str = "val"
    outside_images: bool = False
    verify: bool = True
    force: bool = False
    threads: int | None = None
    keep_high: tuple[str, ...] = ()
    calib: int | None = None
    encoding: Encoding | None = None
    for_engine: bool = False
    bisect: bool = False
    tolerances: Mapping[str, float] = field(default_factory=dict)
    images: int = IMAGES
    strict: bool = False
    match_names: bool = False
    seed: int | None = None


@dataclass(frozen=True)
class VerifyOptions:
    """The flags of ``aweigh verify``.

    Attributes:
        data: images to compare on, and to take the AP of both on; None compares on generated images. split: of it.
        outside_images: as for an export.
        out: the receipt, ending in ``.json``; its page is written next to it. By default next to the model: in place of
            its receipt where it is compared with a checkpoint, else under a name with both files.
        force: compare two files of which neither comes from the other, nor both from one.
        threads: of ONNX Runtime.
        tolerances: instead of the precision's.
        scope: how many images, in which batches.
        device: that runs the model, see ``open_side``; the other side runs on the CPU, an engine on its GPU.
        strict: equality instead of "no worse": a better AP fails too, and so does a single score.
        match_names: match the classes of ``data`` with the model's by name.
        build: also parse, audit and build an ONNX file with this TensorRT, and throw the engine away; None: do not.

    Example:
        >>> VerifyOptions(scope=Scope(images=3, batches=(1, 2))).split
        'val'
    """

    data: str | None = None
    split: str = "val"
    outside_images: bool = False
    out: Path | None = None
    force: bool = False
    threads: int | None = None
    tolerances: Mapping[str, float] = field(default_factory=dict)
    scope: Scope = Scope()  # noqa: RUF009  frozen
    device: str | None = None
    build: FlavourName | None = None
    strict: bool = False
    match_names: bool = False
