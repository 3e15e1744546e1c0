"""An exploration as one HTML page that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from aweigh.runtime import pages
from aweigh.runtime.atomic import atomic_write
from aweigh.train.explorer.explore import STEPS, Exploration, View
from aweigh.train.methods import method_class
from aweigh.train.methods.explanation import SIZES, STARVED_MASS, Explanation, size_classes

# Weights below are drawn and written as 0; thousands of digits of nothing would fill the page.
_NOTHING = 1e-6
_DIGITS = 4

Json = dict[str, Any]


def write_page(exploration: Exploration, path: Path) -> None:
    """Whole or not at all. The picture is inside the file."""
    with atomic_write(path) as temporary:
        temporary.write_text(render(exploration), encoding="utf-8")


def render(exploration: Exploration) -> str:
    """The page's text."""
    data = page_data(exploration)
    # Inside a script element only its end tag and a comment could end the text; neither can without a "<".
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return pages.render(
        "aweigh.train.explorer", "explorer.html", data=data, text=text, image=pages.data_uri(exploration.image_u8)
    )


def summary(exploration: Exploration) -> Json:
    """What ``aweigh assign --json`` prints, but for the page's path."""
    masses = {name: _rounded(view.explanation.mass()) for name, view in exploration.views.items()}
    starved = {name: view.explanation.starved().tolist() for name, view in exploration.views.items()}
    truths = [
        {
            **truth,
            "mass": {name: mass[truth["index"]] for name, mass in masses.items()},
            "starved": [name for name, flags in starved.items() if flags[truth["index"]]],
        }
        for truth in _truths(exploration)
    ]
    return {
        "image": exploration.record.path.name,
        "split": exploration.split,
        "method": exploration.spec.method,
        "progress": exploration.progress,
        "truths": truths,
        "quantities": {name: _quantities(view.explanation) for name, view in exploration.views.items()},
    }


def page_data(exploration: Exploration) -> Json:
    """What the page's script reads: :func:`summary`, with levels, boxes, weights, mixtures and curves."""
    found = summary(exploration)
    levels = zip(exploration.points.shapes_hw, exploration.points.strides, strict=True)
    boxes = exploration.targets.boxes_xyxy.tolist()
    return {
        **found,
        "model": exploration.model.name,
        "title": method_class(exploration.spec.method).title,
        "architecture": exploration.spec.architecture,
        "image_id": str(exploration.record.image_id),
        "input_hw": list(exploration.placement.input_hw),
        "content_hw": list(exploration.placement.content_hw),
        "original_hw": list(exploration.placement.original_hw),
        "classes": [category.name for category in exploration.spec.categories],
        "truths": [{**truth, "box": _rounded(box)} for truth, box in zip(found["truths"], boxes, strict=True)],
        "levels": [
            {"name": f"P{stride.bit_length() - 1}", "stride": stride, "rows": rows, "columns": columns}
            for (rows, columns), stride in levels
        ],
        "steps": list(STEPS),
        "starved_mass": STARVED_MASS,
        "third": method_class(exploration.spec.method).third_output,
        "said": {"cls": _rounded(exploration.class_probability), "third": _rounded(exploration.third)},
        "offset": exploration.points.offset,
        "methods": [_method(name, view) for name, view in exploration.views.items()],
    }


def _truths(exploration: Exploration) -> list[Json]:
    sizes = size_classes(exploration.targets).tolist()
    found = []
    for index, (box, label) in enumerate(
        zip(exploration.targets.boxes_xyxy.tolist(), exploration.targets.labels.tolist(), strict=True)
    ):
        found.append(
            {
                "index": index,
                "class": exploration.spec.categories[label].name,
                "width_px": round(box[2] - box[0], 1),
                "height_px": round(box[3] - box[1], 1),
                "size": SIZES[sizes[index]],
            }
        )
    return found


def _method(name: str, view: View) -> Json:
    explanation = view.explanation
    prior = explanation.prior
    positive, negative = _rounded(explanation.positive), _rounded(explanation.negative)
    priors = _rounded(prior) if prior is not None else None
    # A pair that is a plain negative, at a place that knows no prior, says no more than one that is not listed.
    kept = [i for i, weight in enumerate(positive) if weight or negative[i] != 1 or (priors and priors[i])]
    point, truth = explanation.pairs.point.tolist(), explanation.pairs.truth.tolist()
    return {
        "name": name,
        "title": view.method.title,
        "own": view.own,
        "offset": view.points.offset,
        "point": [point[i] for i in kept],
        "truth": [truth[i] for i in kept],
        "positive": [positive[i] for i in kept],
        "negative": [negative[i] for i in kept],
        "prior": None if priors is None else [priors[i] for i in kept],
        "mixtures": {
            index: {
                "point": [point[i] for i in mixture.pair],
                "good": [positive[i] > 0 for i in mixture.pair],
                "loss": _rounded(mixture.score_loss),
                "weights": _rounded(mixture.weights),
                "means": _rounded(mixture.means),
                "variances": _rounded(mixture.variances, floor=0.0),
            }
            for index, mixture in explanation.mixtures.items()
        },
        "fading": None
        if view.fading is None
        else {
            index: {"point": fading.points, "weights": [_rounded(w) for w in fading.weights], "steady": fading.steady}
            for index, fading in view.fading.items()
        },
    }


def _quantities(explanation: Explanation) -> dict[str, float]:
    return dict(zip(explanation.quantities, _rounded(list(explanation.quantities.values())), strict=True))


def _rounded(values: Tensor | Sequence[float], floor: float = _NOTHING) -> list[float]:
    """Numbers of four significant digits; whole ones as integers, which are shorter."""
    rows = values.tolist() if isinstance(values, Tensor) else list(values)
    short = [float(f"{value:.{_DIGITS}g}") if abs(value) >= floor else 0.0 for value in rows]
    return [int(value) if value == int(value) else value for value in short]
