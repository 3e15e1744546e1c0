"""What every method assigns in one image, on the weights of one checkpoint.

The checkpoint's own method comes with its learned parameters. The others get the same class logits, the same boxes and
the same third output, and start from their initial parameters: they show how they would assign on these predictions,
and not what a model trained with them would predict.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import Placement, prepare
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.spec import ModelSpec
from aweigh.train.checkpoint import Checkpoint, load_checkpoint
from aweigh.train.data.matching import require_categories
from aweigh.train.data.records import ImageRecord, Split
from aweigh.train.dense.points import Points, make_points
from aweigh.train.methods import METHODS, Method, Predictions, Targets, make_method
from aweigh.train.methods.explanation import Explanation
from aweigh.train.models.detector import DenseDetector

# Places on the way through a training at which the fading labels are asked for.
STEPS = tuple(i / 10 for i in range(11))
MOST_CURVES = 8
_CLOSE_NAMES = 5


@dataclass(frozen=True)
class Fading:
    """How the strongest positive weights of one truth change over the training.

    Attributes:
        points: index of each curve's point.
        weights: of each curve, the positive weight at STEPS.
        steady: how many pairs of the truth keep a positive weight that never changes.
    """

    points: list[int]
    weights: list[list[float]]
    steady: int


@dataclass(frozen=True)
class View:
    """How one method assigns in the image.

    Attributes:
        method: with its parameters; ``own``: whether they are the checkpoint's.
        points: where this method places its points.
        predictions: of the checkpoint, in this method's coding.
        fading: by index of the truth; None where positive weights do not depend on the progress.
    """

    method: Method
    own: bool
    points: Points
    predictions: Predictions
    explanation: Explanation
    fading: dict[int, Fading] | None


@dataclass(frozen=True)
class Exploration:
    """All views of one image.

    Attributes:
        image_u8: [h, w, 3], the network input.
        placement: of the image in it.
        targets: the truths to train on, in pixels of the network input.
        progress: of the training, 0 to 1, at which the views were made.
        points: the model's own.
        views: by method name.
        class_probability: [P] the highest of any class.
        third: [P] probability of the third output (objectness, centerness, IoU or foreground).
    """

    model: Path
    spec: ModelSpec
    split: str
    record: ImageRecord
    image_u8: npt.NDArray[np.uint8]
    placement: Placement
    targets: Targets
    progress: float
    points: Points
    views: dict[str, View]
    class_probability: Tensor
    third: Tensor


def method_names(text: str) -> tuple[str, ...]:
    """Method names from a list separated by commas, each once, in its order.

    Raises:
        BadInput: an unknown name, or no name at all.

    Example:
        >>> method_names("paa, dw,paa")
        ('paa', 'dw')
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        what = ", ".join(repr(name) for name in unknown) or "names none"
        raise BadInput(f"--methods: {what}; expected some of {','.join(METHODS)}, separated by commas")
    return names


def open_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint. Raises BadInput, for an exported file with the reason why that will not do."""
    if path.suffix == ".onnx":
        raise BadInput(
            f"--model {path}: an exported file holds detections only, not what they are assigned from; expected the "
            "checkpoint it was exported from (weights/best.pt of the run)"
        )
    return load_checkpoint(path)


def find_record(split: Split, wanted: str) -> ImageRecord:
    """The image of an id or a file name, with or without folder and ending.

    Raises:
        BadInput: no such image, with close names; or several images of that name.
    """
    path = Path(wanted)
    for matches in (
        [r for r in split.records if str(r.image_id) == wanted],
        [r for r in split.records if path.parts and r.path.parts[-len(path.parts) :] == path.parts],
        [r for r in split.records if r.path.name == path.name],
        [r for r in split.records if r.path.stem == path.name],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            some = ", ".join(str(r.image_id) for r in matches[:_CLOSE_NAMES])
            raise BadInput(
                f"--image {wanted}: {len(matches)} images of split {split.name!r} have this name; give the "
                f"id of one of them: {some}"
            )
    known = list(dict.fromkeys(name for r in split.records for name in (str(r.image_id), r.path.name)))
    close = difflib.get_close_matches(wanted, known, _CLOSE_NAMES, cutoff=0.5) or known[:_CLOSE_NAMES]
    raise BadInput(
        f"--image {wanted}: not among the {len(split.records)} images of split {split.name!r}; expected an id or a "
        f"file name, for instance {', '.join(close)}"
    )


@torch.no_grad()
def explore(
    checkpoint: Checkpoint, split: Split, record: ImageRecord, methods: Sequence[str], progress: float
) -> Exploration:
    """Run the network on one image, without augmentation, and let each method explain itself.

    Args:
        checkpoint: the model whose predictions all methods are given.
        split, record: the image, and the data set it is from.
        methods: names of ``METHODS``, in the order of the views.
        progress: of the training, 0 (start) to 1 (end).

    Raises:
        BadInput: the progress is out of its range, the image cannot be read, or the model's categories are not
            those of the data set.

    Example:
        >>> from aweigh.train.data.open import load_split
        >>> split = load_split(shapes, "val")
        >>> record = find_record(split, "1")
        >>> exploration = explore(open_checkpoint(checkpoint_path), split, record, ["o2f", "paa"], 0.5)
        >>> [(name, view.own) for name, view in exploration.views.items()]
        [('o2f', True), ('paa', False)]
    """
    if not 0 <= progress <= 1:
        raise BadInput(f"--progress {progress:g}: expected a part of the training from 0 (start) to 1 (end)")
    require_categories(checkpoint.spec, split)
    image_u8, placement = prepare(read_image(record.path), checkpoint.spec.input)
    wanted = record.targets
    boxes = torch.from_numpy(placement.map(record.boxes_xyxy[wanted]))
    targets = Targets.join([boxes], [torch.from_numpy(record.labels[wanted])])
    detector = checkpoint.detector()
    points, predictions = predict(detector, image_u8)
    views = {name: view(name, detector.method, points, predictions, targets, progress) for name in methods}
    return Exploration(
        checkpoint.path or Path("checkpoint"),
        checkpoint.spec,
        split.name,
        record,
        image_u8,
        placement,
        targets,
        progress,
        points,
        views,
        predictions.cls_logits[0].sigmoid().amax(dim=1),
        predictions.obj_logits[0].sigmoid(),
    )


def predict(detector: DenseDetector, image_u8: npt.NDArray[np.uint8]) -> tuple[Points, Predictions]:
    """Points and predictions of one network input [h, w, 3]."""
    return detector.read(detector(torch.from_numpy(image_u8)[None]))


def view(name: str, own: Method, points: Points, predictions: Predictions, targets: Targets, progress: float) -> View:
    """One method's view of what the checkpoint's own method predicts at its own points."""
    method, its_points, its_predictions = own, points, predictions
    if name != own.name:
        method = make_method(name, predictions.cls_logits.shape[2]).eval()
        its_points = make_points(points.shapes_hw, points.strides, method.point_offset)
        its_predictions = recoded(predictions, own, points, method, its_points)

    def at(part: float) -> Explanation:
        return method.explain(its_predictions, its_points, targets, part)

    changes = not torch.equal(at(0.0).positive, at(1.0).positive)
    fading = _fading([at(part) for part in STEPS]) if changes else None
    return View(method, name == own.name, its_points, its_predictions, at(progress), fading)


def recoded(predictions: Predictions, own: Method, points: Points, method: Method, its_points: Points) -> Predictions:
    """The same boxes in another method's coding, seen from its points; logits stay as they are."""
    boxes_xyxy = own.boxes(predictions.reg, points.xy, points.stride)
    reg = method.encode(boxes_xyxy, its_points.xy, its_points.stride)
    return replace(predictions, reg=reg, image_terms=None)


def _fading(explanations: Sequence[Explanation]) -> dict[int, Fading]:
    """The strongest pairs of each truth that change, after the strongest of those that do not.

    The pairs of a method are the same at every progress: they follow from the predictions.
    """
    pairs = explanations[0].pairs
    weights = torch.stack([explanation.positive for explanation in explanations], dim=1)
    strength, changes = weights.mean(dim=1), (weights.amax(dim=1) > weights.amin(dim=1)).tolist()
    ranked: dict[int, list[int]] = {truth: [] for truth in range(pairs.truths)}
    owner = pairs.truth.tolist()
    for i in torch.argsort(strength, descending=True, stable=True).tolist()[: int((strength > 0).sum())]:
        ranked[owner[i]].append(i)
    fading = {}
    for truth, its in ranked.items():
        steady = [i for i in its if not changes[i]]
        shown = (steady[:1] + [i for i in its if changes[i]])[:MOST_CURVES]
        fading[truth] = Fading(pairs.point[shown].tolist(), weights[shown].tolist(), len(steady))
    return fading
