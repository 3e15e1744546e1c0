"""An exploration as one HTML page that needs nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aweigh.runtime import pages
from aweigh.runtime.atomic import atomic_write
from aweigh.train.explorer.explore import STEPS, Exploration, View
from aweigh.train.explorer.summary import rounded, summary
from aweigh.train.methods import method_class
from aweigh.train.methods.explanation import STARVED_MASS

Json = dict[str, Any]


def write_page(exploration: Exploration, path: Path) -> None:
    """Whole or not at all. The image is inside the file."""
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


def page_data(exploration: Exploration) -> Json:
    """What the page's script reads: :func:`summary`, with levels, boxes, weights, mixtures and curves."""
    content = summary(exploration).to_dict()
    levels = zip(exploration.points.shapes_hw, exploration.points.strides, strict=True)
    boxes = exploration.targets.boxes_xyxy.tolist()
    return {
        **content,
        "model": exploration.model.name,
        "title": method_class(exploration.spec.method).title,
        "architecture": exploration.spec.architecture,
        "image_id": str(exploration.record.image_id),
        "input_hw": list(exploration.placement.input_hw),
        "content_hw": list(exploration.placement.content_hw),
        "original_hw": list(exploration.placement.original_hw),
        "classes": [category.name for category in exploration.spec.categories],
        "truths": [{**truth, "box": rounded(box)} for truth, box in zip(content["truths"], boxes, strict=True)],
        "levels": [
            {"name": f"P{stride.bit_length() - 1}", "stride": stride, "rows": rows, "columns": columns}
            for (rows, columns), stride in levels
        ],
        "steps": list(STEPS),
        "starved_mass": STARVED_MASS,
        "third": method_class(exploration.spec.method).third_output,
        "said": {"cls": rounded(exploration.class_probability), "third": rounded(exploration.third)},
        "offset": exploration.points.offset,
        "methods": [_method(name, view) for name, view in exploration.views.items()],
    }


def _method(name: str, view: View) -> Json:
    explanation = view.explanation
    prior = explanation.prior
    positive, negative = rounded(explanation.positive), rounded(explanation.negative)
    priors = rounded(prior) if prior is not None else None
    # A pair that is a plain negative without a prior carries no more information than one that is not listed.
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
                "loss": rounded(mixture.score_loss),
                "weights": rounded(mixture.weights),
                "means": rounded(mixture.means),
                "variances": rounded(mixture.variances, floor=0.0),
            }
            for index, mixture in explanation.mixtures.items()
        },
        "fading": None
        if view.fading is None
        else {
            index: {"point": fading.points, "weights": [rounded(w) for w in fading.weights], "steady": fading.steady}
            for index, fading in view.fading.items()
        },
    }
