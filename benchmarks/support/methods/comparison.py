"""What a comparison of methods holds: variants, one recipe, a row per run, and their summary.

Values alone; benchmarks/methods.py trains and measures.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import read_value
from aweigh.train.config import TrainConfig, make_config
from aweigh.train.methods import METHODS, make_method, method_class
from support.reports.report import Row

Spread = dict[str, float]
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
BASELINE = "fcos"

# Variants with a name of their own; ``method:option=value`` makes any other.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {"ala-one-to-one": ("ala", {"one_to_one": True})}

# What may differ between the runs of one comparison: places, and how the machine is used.
FREE = ("data", "project", "name", "exist_ok", "threads", "workers", "cache")
# What tells the runs of one comparison apart.
PER_RUN = ("method", "options", "seed")


@dataclass(frozen=True)
class Variant:
    """A method with options, under the name that stands in the tables."""

    name: str
    method: str
    options: dict[str, Any]

    def run_name(self, seed: int) -> str:
        return f"{re.sub(r'[^A-Za-z0-9_.]+', '-', self.name).strip('-')}-{seed}"


def parse_variants(text: str) -> tuple[Variant, ...]:
    """``fcos,ala-one-to-one,paa:boundary=d,dw:refine=false,sigma=2``. Raises BadInput, naming what is known."""
    named: list[str] = []
    for piece in re.split(r",(?![^\[]*\])", text):  # not the commas of a list
        if named and "=" in piece and ":" not in piece:
            named[-1] += f",{piece}"  # a further option of the variant before
        else:
            named.append(piece.strip())
    return tuple(_variant(name) for name in dict.fromkeys(named))


def _variant(name: str) -> Variant:
    if name in VARIANTS:
        return Variant(name, *VARIANTS[name])
    method, _, given = name.partition(":")
    if method not in METHODS:
        raise BadInput(
            f"--methods {name!r}: expected some of {', '.join([*METHODS, *VARIANTS])}, or METHOD:OPTION=VALUE"
        )
    options: dict[str, Any] = {}
    for piece in re.split(r",(?![^\[]*\])", given) if given else []:
        key, equals, value = piece.partition("=")
        if not equals:
            raise BadInput(f"--methods {name!r}: {piece!r} is no option; expected METHOD:OPTION=VALUE")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadInput(f"--methods {name!r}: {value!r} cannot be read as a value ({error})") from error
    make_method(method, 1, options)  # names the options that are not there, and the values that do not fit
    hints = get_type_hints(method_class(method).config_class)
    for key, value in options.items():
        kept = read_value(hints[key], value, f"--methods {name!r}: {key}", coerce=True)
        options[key] = list(kept) if isinstance(kept, tuple) else kept  # as YAML and JSON have it
    return Variant(name, method, options)


# -- recipes and rows ----------------------------------------------------------------------------------------------


def recipe_of(config: TrainConfig) -> dict[str, Any]:
    """What two runs must share to be compared, and method, options and seed; JSON values that name no folder."""
    recipe = {key: value for key, value in config.to_dict().items() if key not in FREE}
    if recipe["precision"] == "auto":  # recorded only before runs recorded what it had chosen, which was bf16
        recipe["precision"] = "bf16"
    if recipe["weights"]:
        recipe["weights"] = Path(recipe["weights"]).name
    plain: dict[str, Any] = json.loads(json.dumps(recipe))
    return plain


def common(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a recipe that is the same for all runs of a comparison."""
    return {key: value for key, value in recipe.items() if key not in PER_RUN}


def differences(got: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """``epochs: got 40, expected 30; ...``, empty where there are none."""
    keys = [key for key in dict.fromkeys([*expected, *got]) if got.get(key) != expected.get(key)]
    return "; ".join(f"{key}: got {got.get(key)!r}, expected {expected.get(key)!r}" for key in keys)


def require_comparable(
    about: Mapping[str, Any], recipe: Mapping[str, Any], digests: Mapping[str, str], at: str
) -> None:
    """Raises BadInput where a report's ``about`` is of another recipe or of other data.

    What a recipe could not say when the report was written was then as its default is now.
    """
    if found := differences({**_defaults(), **about["recipe"]}, {**_defaults(), **recipe}):
        raise BadInput(
            f"{at}: holds runs of another recipe: {found}; take another --out, or the flags it was made with"
        )
    if found := differences(about["data"]["digests"], digests):
        raise BadInput(f"{at}: holds runs on other data: digests of {found}; take another --out, or the same --data")


def _defaults() -> dict[str, Any]:
    """Of a recipe, as JSON values."""
    return common(recipe_of(make_config({"data": "any"})))


def key_of(row: Row) -> tuple[str, int]:
    return row["variant"], row["seed"]


def merged(held: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """The rows of both; new ones replace those of the same variant and seed. Variants stay in order of appearance.

    Raises BadInput where one name stands for two sets of options.
    """
    options: dict[str, tuple[str, Any]] = {}
    for row in (*held, *new):
        mine = row["method"], row["options"]
        if options.setdefault(row["variant"], mine) != mine:
            raise BadInput(f"{row['variant']}: is {mine} in one row and {options[row['variant']]} in another")
    rows = {key_of(row): row for row in (*held, *new)}
    order = list(options)
    return sorted(rows.values(), key=lambda row: (order.index(row["variant"]), row["seed"]))


# -- summary -------------------------------------------------------------------------------------------------------


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean, lowest and highest over the seeds; None where there is nothing."""
    known = [value for value in values if value is not None]
    return {"mean": statistics.mean(known), "min": min(known), "max": max(known)} if known else None


def summarize(rows: Sequence[Row], latency: Mapping[str, Any] | None) -> dict[str, Any]:
    """Per variant what the tables show. Differences are taken seed by seed."""
    baseline = {row["seed"]: row["test"]["AP"] for row in rows if row["variant"] == BASELINE}
    summary: dict[str, Any] = {}
    for name in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == name]
        both = [row for row in mine if "onnx_nms" in row]
        low = [row for row in mine if "int8" in row]
        summary[name] = {
            "seeds": [row["seed"] for row in mine],
            "post": mine[0]["onnx"]["post"],
            **{s: {f: spread(row[s][f] for row in mine) for f in FIGURES} for s in ("test", "val")},
            "test_minus_fcos": spread(_minus(row["test"]["AP"], baseline.get(row["seed"])) for row in mine)
            if name != BASELINE
            else None,
            "onnx": {s: spread(row["onnx"][s]["AP"] for row in mine) for s in ("test", "val")},
            "onnx_nms": {s: spread(row["onnx_nms"][s]["AP"] for row in both) for s in ("test", "val")},
            "nms_minus_own": spread(_minus(row["onnx_nms"]["test"]["AP"], row["onnx"]["test"]["AP"]) for row in both),
            "nms_minus_own_val": spread(_minus(row["onnx_nms"]["val"]["AP"], row["onnx"]["val"]["AP"]) for row in both),
            "receipts": sorted({row[kind]["receipt"] for row in mine for kind in ("onnx", "onnx_nms") if kind in row}),
            "int8": {s: spread(row["int8"][s]["AP"] for row in low) for s in ("test", "val")},
            "int8_minus_own": {
                s: spread(_minus(row["int8"][s]["AP"], row["onnx"][s]["AP"]) for row in low) for s in ("test", "val")
            },
            "int8_receipts": [row["int8"]["receipt"] for row in low],
            "bytes": {kind: spread(row[kind].get("bytes") for row in mine if kind in row) for kind in ("onnx", "int8")},
            "iterations_to_90": spread(row.get("iterations_to_90") for row in mine),
            "images_per_s": spread(row["images_per_s"] for row in mine),
            "images_per_s_median": spread(row["images_per_s_median"] for row in mine),
            "latency": (latency or {}).get("results", {}).get(name),
        }
    return summary


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
