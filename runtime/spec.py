"""ModelSpec: everything about a detector that must survive the way from training to production.

It is written as JSON into the ONNX file (``metadata_props["aweigh"]``), into checkpoints, and next to an engine. The
runtime does what these *values* say and never asks which method trained the model. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aweigh.runtime.errors import BadInput
from aweigh.runtime.json_text import parse_json
from aweigh.runtime.precision import Precision
from aweigh.runtime.values import build, shown

# 1.1: best_conf, rules of released models in PostSpec; 1.2: PostSpec.agnostic, held_out
SCHEMA_VERSION = "1.2"
METADATA_KEY = "aweigh"
_MOST = 65535  # images of a batch, pixels of a side
_LARGE = 1e6
# How a file below FP32 was made: counts, encoding, calibration. Informational; the runtime ignores it.
PRECISION_KEY = "aweigh.precision"
# Among the parents: the weights that training started from, their sha256 and their licence by its SPDX name. The digest
# has no name in _sha256, as the file's own parents have: models that began alike are not made from each other.
STARTING_WEIGHTS = "starting_weights"
STARTING_DIGEST = "starting_weights_digest"
STARTING_LICENSE = "starting_weights_license"


@dataclass(frozen=True)
class Category:
    """One class. ``id`` is the data set's own category id; the position in ModelSpec.categories is the label."""

    id: int
    name: str


@dataclass(frozen=True)
class InputSpec:
    """How a decoded RGB image becomes the network input.

    Attributes:
        size_hw: (height, width) in pixels. ``letterbox`` and ``stretch``: the network input itself. ``keep-ratio``:
            (short side, long side) bounds, the result padded to a multiple of ``pad_multiple``.
        resize: ``letterbox`` scales to fit and pads at the right and the bottom; ``keep-ratio`` as torchvision and
            mmdet do; ``stretch`` ignores the aspect ratio.
        dynamic_size: whether the graph takes other heights and widths (multiples of ``pad_multiple``).
        pad_value: grey level of the padding, 0 to 255.
        interpolation: OpenCV's INTER_LINEAR or INTER_AREA.
        mean, std: per channel in ``color_order``, in grey levels 0 to 255; applied inside the graph.
    """

    size_hw: tuple[int, int]
    resize: Literal["letterbox", "keep-ratio", "stretch"] = "letterbox"
    dynamic_size: bool = False
    pad_value: int = 114
    pad_multiple: int = 32
    interpolation: Literal["linear", "area"] = "linear"
    color_order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def __post_init__(self) -> None:
        # A plain pair, whatever subclass a caller has: checkpoints hold no classes of aweigh.
        height, width = self.size_hw
        object.__setattr__(self, "size_hw", (height, width))


@dataclass(frozen=True)
class Output:
    """One output of the graph.

    Attributes:
        name: of the tensor.
        dtype: NumPy's name of its type.
        axes: its shape behind the batch axis: numbers, ``P`` for the points of all pyramid levels, ``C`` for the
            classes.
    """

    name: str
    dtype: Literal["int64", "float32", "bool"]
    axes: tuple[int | str, ...]


@dataclass(frozen=True)
class PostSpec:
    """What the graph does behind the head.

    Attributes:
        kind: ``nms``, ``vote`` (NMS, then PAA's score voting), ``none`` (top-k alone) or ``raw`` (every point).
        nms_form: ``onnx`` (NonMaxSuppression) or ``matrix`` (plain operators); None where there is no NMS.
        score_threshold: candidates need a score strictly above it, 0 to 1.
        threshold_gates: whether the threshold looks at the ranking score or at the class probability alone.
        iou_threshold: a box is suppressed by a better one of its class above this IoU.
        agnostic: NMS looks at no classes: a box is suppressed by a better one of any class. Boxes vote for their own.
        iou_convention: ``continuous`` areas, or ``plus-one`` (w = x2 - x1 + 1, as Detectron's early code).
        pre_nms_top_k: candidates kept before NMS, counted per ``top_k_unit``.
        top_k_unit: ``level-pairs`` = (point, class) pairs of each pyramid level; ``image-pairs`` = of the image;
            ``level-points`` = points of each level by their best class, which all their classes come along with, up to
            ``PAIRS_PER_POINT * pre_nms_top_k`` pairs of the image (at most what the matrix form takes).
        top_k_by: what the candidates are ranked by there: their score, or only the class probability.
        vote_sigma, vote_min_iou: of ``vote``: a candidate of IoU u with the kept box counts exp(-(1 - u)^2 / sigma)
            times its score, if u is above the minimum.
        clip: boxes are clipped to [0, W] (``size``), [0, W-1] (``size-minus-one``) of the network input, or not.
        clip_when: before NMS and voting, or only the detections that come out.
        drop_empty: whether boxes without area, as they go into NMS, are no candidates.
        max_det: rows of the output.
    """

    kind: Literal["nms", "vote", "none", "raw"]
    nms_form: Literal["onnx", "matrix"] | None = None
    score_threshold: float = 0.05
    threshold_gates: Literal["score", "class-probability"] = "score"
    iou_threshold: float = 0.6
    agnostic: bool = False
    iou_convention: Literal["continuous", "plus-one"] = "continuous"
    pre_nms_top_k: int = 1000
    top_k_unit: Literal["level-pairs", "image-pairs", "level-points"] = "level-pairs"
    top_k_by: Literal["score", "class-probability"] = "score"
    vote_sigma: float = 0.025
    vote_min_iou: float = 0.01
    clip: Literal["size", "size-minus-one", "none"] = "size"
    clip_when: Literal["before-nms", "after-nms"] = "before-nms"
    drop_empty: bool = False
    max_det: int = 100

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The outputs of a graph with this post-processing, in order: the one table of them.

        Example:
            >>> [output.name for output in PostSpec("nms", "onnx").outputs]
            ['num_dets', 'boxes', 'scores', 'labels']
        """
        if self.kind == "raw":
            return Output("boxes", "float32", ("P", 4)), Output("scores", "float32", ("P", "C"))
        rows = (
            Output("num_dets", "int64", ()),
            Output("boxes", "float32", (self.max_det, 4)),
            Output("scores", "float32", (self.max_det,)),
            Output("labels", "int64", (self.max_det,)),
        )
        return (*rows, Output("converged", "bool", ())) if self.nms_form == "matrix" else rows

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of ``outputs``."""
        return tuple(output.name for output in self.outputs)


@dataclass(frozen=True)
class ModelSpec:
    """The contract of one model file: how images go in, what comes out, and where it comes from.

    Example:
        >>> from aweigh.runtime import Detector
        >>> with Detector(model_path) as detector:
        ...     spec = detector.spec
        >>> spec.input.size_hw, spec.names, spec.batch
        ((64, 96), {17: 'left half', 3: 'whole'}, (1, 4))
        >>> ModelSpec.from_json(spec.to_json()) == spec
        True

    Attributes:
        method: label-assignment method that trained it; information only.
        architecture: name of the network, ``r18`` say; information only.
        categories: in label order.
        input: preprocessing.
        post: post-processing inside the graph.
        precision: of the trunk; everything after the head is FP32.
        batch: smallest and largest batch the file takes.
        parents: where the weights come from: ``checkpoint_sha256``, ``commit``, ``data_digest`` and ``val_digest``;
            ``starting_weights``, their digest and licence, as far as these are known.
        versions: of the libraries that wrote the file.
        best_conf: for each category, the score threshold at which F1 was highest on the validation split (IoU 0.5);
            None where nothing was found there. Empty: not known.
        held_out: ``val`` or ``test`` to the images that training held out of a data set without this split, 48 bits of
            a hash for each in base64; information only, for the training stage.
    """

    method: str
    architecture: str
    categories: tuple[Category, ...]
    input: InputSpec
    post: PostSpec
    precision: Precision = "fp32"
    batch: tuple[int, int] = (1, 1)
    parents: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    best_conf: tuple[float | None, ...] = ()
    held_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> dict[int, str]:
        """Category id to name, in label order."""
        return {c.id: c.name for c in self.categories}

    def to_dict(self) -> dict[str, Any]:
        return {"schema": SCHEMA_VERSION, **dataclasses.asdict(self)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """The contract that ``to_dict`` wrote.

        Raises:
            BadInput: another major schema version; missing, unknown or ill-typed fields, or values out of range.
        """
        if not isinstance(data, dict):
            raise BadInput(f"model spec: expected a JSON object, got {type(data).__name__}")
        rest = dict(data)
        schema = rest.pop("schema", None)
        if not isinstance(schema, str) or schema.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise BadInput(
                f"model spec: schema {shown(schema)}, this aweigh reads {SCHEMA_VERSION!r} (same major version); "
                "use the aweigh that wrote the file, or export it again"
            )
        if _minor(schema) > _minor(SCHEMA_VERSION):
            # Of a later aweigh: what is new in it may be passed over, or its major number would be another.
            known = {f.name for f in dataclasses.fields(cls)}
            rest = {name: value for name, value in rest.items() if name in known}
        spec: Self = build(cls, rest, "model spec")
        fault = next(_faults(spec), None)
        if fault is not None:
            raise BadInput(f"model spec.{fault}")
        return spec

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises BadInput where ``text`` is not JSON or not a model spec."""
        return cls.from_dict(parse_json(text, "model spec"))


def _minor(schema: str) -> int:
    digits = schema.partition(".")[2][:9]  # more would be a number that Python refuses to read
    return int(digits) if digits.isdecimal() else 0


def _faults(spec: ModelSpec) -> Iterator[str]:
    """Values of the right type that no detector can have: field, value, expected range."""
    ids = [category.id for category in spec.categories]
    if not ids:
        yield "categories: got none, expected at least one"
    if len(set(ids)) != len(ids):
        yield "categories: an id occurs twice, expected different ones"
    pre, post, (smallest, largest) = spec.input, spec.post, spec.batch
    if largest < smallest:
        yield f"batch: got {smallest} to {largest}, expected the smallest first"
    if spec.best_conf and len(spec.best_conf) != len(ids):
        yield (f"best_conf: {len(spec.best_conf)} thresholds of {len(ids)} categories; expected one for each, or none")
    ranges: list[tuple[str, float, float, float]] = [
        *((f"categories[{i}].id", number, -(2**63), 2**63 - 1) for i, number in enumerate(ids)),
        *((f"batch[{i}]", number, 1, _MOST) for i, number in enumerate(spec.batch)),
        *((f"input.size_hw[{i}]", side, 1, _MOST) for i, side in enumerate(pre.size_hw)),
        ("input.pad_value", pre.pad_value, 0, 255),
        ("input.pad_multiple", pre.pad_multiple, 1, _MOST),
        *((f"input.mean[{i}]", value, -_LARGE, _LARGE) for i, value in enumerate(pre.mean)),
        *((f"input.std[{i}]", value, 1 / _LARGE, _LARGE) for i, value in enumerate(pre.std)),
        ("post.score_threshold", post.score_threshold, 0, 1),
        ("post.iou_threshold", post.iou_threshold, 0, 1),
        ("post.pre_nms_top_k", post.pre_nms_top_k, 1, 2**31 - 1),
        ("post.vote_sigma", post.vote_sigma, 1 / _LARGE, _LARGE),
        ("post.vote_min_iou", post.vote_min_iou, 0, 1),
        ("post.max_det", post.max_det, 1, 2**31 - 1),
        *((f"best_conf[{i}]", value, 0, 1) for i, value in enumerate(spec.best_conf) if value is not None),
    ]
    for name, value, low, high in ranges:
        if not (math.isfinite(value) and low <= value <= high):
            yield f"{name}: got {shown(value)}, expected {low:g} to {high:g}"
