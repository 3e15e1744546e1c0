"""A model card: what a person should know of an exported file, with the head in YAML that Hugging Face reads.

Everything comes from the file and the receipt next to it. What they do not hold, licences above all, is asked for or
said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aweigh.runtime.files.reading import read_once
from aweigh.runtime.inspection import ModelFacts
from aweigh.runtime.json_text import parse_json
from aweigh.runtime.spec import STARTING_DIGEST, STARTING_LICENSE, STARTING_WEIGHTS

_METRICS = ("AP", "AP50", "AP75", "AR100")


@dataclass(frozen=True)
class CardOptions:
    """What the file does not know of itself.

    Attributes:
        license: of the model, by its SPDX name in small letters; None where it is not known.
        dataset: name of the data set it was trained on.
        starting_weights: what the training started from, with its licence, in words; None for what the file records.
        source: of a hub, which the lines of Python fetch; None for the file's name.
        title: None for the file's name.
    """

    license: str | None = None
    dataset: str | None = None
    starting_weights: str | None = None
    source: str | None = None
    title: str | None = None


def model_card(facts: ModelFacts, options: CardOptions | None = None) -> str:
    """The card, Markdown.

    Raises:
        BadInput: the receipt next to the file cannot be read.
    """
    chosen = options or CardOptions()
    spec, receipt = facts.spec, _receipt(facts)
    height, width = spec.input.size_hw
    classes = [f"| {category.id} | {_cell(category.name)} |" for category in spec.categories]
    parents = [f"| {_cell(name)} | `{_cell(value)}` |" for name, value in spec.parents.items()]
    return "\n".join(
        [
            *_head(facts, receipt, chosen),
            "",
            f"# {_line(chosen.title or facts.file.stem)}",
            "",
            f"An object detector, method `{spec.method}`, network `{spec.architecture}`, {spec.precision}, exported by "
            f"aweigh {spec.versions.get('aweigh', '(version not recorded)')} as one file: uint8 RGB images of "
            f"{height}x{width} (height x width, {spec.input.resize}) in, boxes, scores and labels out.",
            "",
            "```python",
            *_opening(facts, chosen.source),
            '    detector("image.jpg").save("boxes.jpg")',
            "```",
            "",
            "## Classes",
            "| id | name |",
            "|---|---|",
            *classes,
            "",
            "## Evaluation",
            *_evaluation(facts, receipt),
            "",
            "## Origin",
            f"* licence: {chosen.license or 'not stated'}",
            f"* data: {chosen.dataset or 'not stated'}; its digest is below, where it was recorded",
            f"* starting weights: {chosen.starting_weights or _starting_weights(spec.parents)}",
            "",
            "| recorded in the file | |",
            "|---|---|",
            f"| sha256 of the file | `{facts.sha256}` |",
            *parents,
            "",
        ]
    )


def _head(facts: ModelFacts, receipt: dict[str, Any], options: CardOptions) -> list[str]:
    # JSON's strings are YAML's.
    lines = ["---", f"license: {json.dumps(options.license or 'other')}", "pipeline_tag: object-detection"]
    lines += ["library_name: aweigh", "tags:", "- object-detection", "- onnx", f"- {json.dumps(facts.spec.method)}"]
    if options.dataset is not None:
        lines += ["datasets:", f"- {json.dumps(options.dataset)}"]
    found = _metrics(receipt, "exported")
    if found:
        data = {"name": options.dataset or "own data", "type": options.dataset or "own-data"}
        metrics = [{"type": name, "value": round(found[name], 4)} for name in _METRICS if name in found]
        task = {"type": "object-detection"}
        index = [{"name": facts.file.stem, "results": [{"task": task, "dataset": data, "metrics": metrics}]}]
        lines.append(f"model-index: {json.dumps(index)}")
    return [*lines, "---"]


def _evaluation(facts: ModelFacts, receipt: dict[str, Any]) -> list[str]:
    if not receipt:
        return ["There is no receipt of this file: whether it finds what the trained model found was not shown."]
    lines = [f"The receipt of the export **{receipt.get('verdict')}**, on {receipt.get('pictures')}."]
    trained, exported = _metrics(receipt, "trained"), _metrics(receipt, "exported")
    if trained or exported:
        compared = receipt["ap"]
        lines += [
            "",
            f"| {compared.get('split')}, {compared.get('images')} images | trained model | this file |",
            "|---|---|---|",
        ]
        for name in _METRICS:
            pair = [trained.get(name), exported.get(name)]
            lines.append(f"| {name} | " + " | ".join("" if v is None else f"{v:.4f}" for v in pair) + " |")
    return lines


def _opening(facts: ModelFacts, source: str | None) -> list[str]:
    if source is None:
        opened, names = json.dumps(facts.file.name), "Detector"
    else:
        opened, names = f"fetch_model({json.dumps(source)})", "Detector, fetch_model"
    return [f"from aweigh.runtime import {names}", "", f"with Detector({opened}) as detector:"]


def _starting_weights(parents: Mapping[str, str]) -> str:
    """As training recorded them; files of an earlier aweigh have no record."""
    name, licence = parents.get(STARTING_WEIGHTS), parents.get(STARTING_LICENSE)
    if name is None:
        return "not stated"
    if STARTING_DIGEST not in parents:  # random ones
        return _line(name)
    return f"{_line(name)}, {f'licence {_line(licence)}' if licence else 'whose licence is not recorded'}"


def _metrics(receipt: dict[str, Any], side: str) -> dict[str, float]:
    """Of one side of the receipt's comparison of AP; empty where it has none."""
    compared = receipt.get("ap")
    found = compared.get(side) if isinstance(compared, dict) else None
    if not isinstance(found, dict):
        return {}
    return {name: float(found[name]) for name in _METRICS if isinstance(found.get(name), int | float)}


def _receipt(facts: ModelFacts) -> dict[str, Any]:
    """The receipt's JSON; empty where there is none about this very file."""
    if facts.receipt is None or not facts.receipt.sha256_matches:
        return {}
    path = Path(facts.receipt.file)
    found = parse_json(read_once(path, "receipt"), str(path), "remove it or write it again with aweigh verify")
    return found if isinstance(found, dict) else {}


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(text.split())
