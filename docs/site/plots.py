"""Plots of the reports in benchmarks/results, for the page of figures and the README."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aweigh.train.config import make_config, read_recipe
from aweigh.train.loop.optim import Schedule
from aweigh.train.methods.ala import ALAConfig

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
BLUE, ORANGE, GREY = "#3b6ea5", "#d98032", "#8a97a6"


def report(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS / name).read_text(encoding="utf-8")))


def drawn(figure: Figure) -> npt.NDArray[np.uint8]:
    """BGR."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    rgba = np.asarray(canvas.buffer_rgba(), np.uint8)
    return np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGR), np.uint8)


def plain(width_in: float, height_in: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width_in, height_in), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def methods() -> npt.NDArray[np.uint8]:
    """Test AP of each method on BCCD: both seeds and their mean."""
    rows = report("methods_bccd.json")["rows"]
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["variant"], []).append(row["test"]["AP"])
    names = sorted(found, key=lambda name: -float(np.mean(found[name])))
    figure, axes = plain(8, 3.2)
    for i, name in enumerate(names):
        axes.plot(found[name], [i] * len(found[name]), "o", color=BLUE, alpha=0.55, markersize=6)
        axes.plot([np.mean(found[name])], [i], "|", color=ORANGE, markersize=18, markeredgewidth=2.5)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("AP on the test split of BCCD; two seeds and their mean (ResNet-18, 750 iterations from scratch)")
    return drawn(figure)


def small_methods() -> npt.NDArray[np.uint8]:
    """Test AP of each method on three small data sets, from ImageNet weights: each seed and their mean."""
    sets = {"bccd": "BCCD", "raccoon": "raccoon", "generated": "generated images"}
    found: dict[str, dict[str, list[float]]] = {}
    for name in sets:
        for row in report(f"methods_lite0_{name}.json")["rows"]:
            found.setdefault(row["variant"], {}).setdefault(name, []).append(row["test"]["AP"])
    names = sorted(found, key=lambda variant: -float(np.mean([np.mean(values) for values in found[variant].values()])))
    figure = Figure(figsize=(8, 2.9), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(sets), sharey=True)
    for axes, (name, title) in zip(panels, sets.items(), strict=True):
        for i, variant in enumerate(names):
            values = found[variant].get(name, [])
            axes.plot(values, [i] * len(values), "o", color=BLUE, alpha=0.55, markersize=5)
            if values:
                axes.plot([np.mean(values)], [i], "|", color=ORANGE, markersize=14, markeredgewidth=2.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
        axes.set_title(title, fontsize=10)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    panels[1].set_xlabel(
        "AP on the test split, each seed and their mean (EfficientNet-Lite0, ImageNet weights, 200 iterations)"
    )
    return drawn(figure)


def speed() -> npt.NDArray[np.uint8]:
    """How many times as fast as its rival, with 95 % interval, ResNet-18 at 640x640, two threads."""
    comparisons = [("ONNX Runtime int8 : fp32", report("int8_speed.json")["rows"][0]["times_as_fast"])]
    for row in report("backends_speed.json")["rows"]:
        if "OpenVINO" in str(row["b"]["providers"]):
            name = f"OpenVINO {row['b']['precision_computed']} : ONNX Runtime fp32"
            comparisons.append((name, row["times_as_fast"]))
    for precision, name in (("fp32", "plain.json"), ("int8", "plain_int8.json")):
        label = f"Detector {precision} : eager PyTorch and NMS in Python"
        comparisons.append((label, report(name)["rows"][0]["times_as_fast"]))
    figure, axes = plain(8, 0.45 * len(comparisons) + 0.9)
    middle = [value["median"] for _, value in comparisons]
    spread = [
        [value["median"] - value["low"] for _, value in comparisons],
        [value["high"] - value["median"] for _, value in comparisons],
    ]
    axes.barh(range(len(middle)), middle, xerr=spread, color=BLUE, height=0.6, error_kw={"capsize": 3, "lw": 1.2})
    axes.axvline(1, color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(middle)), [name for name, _ in comparisons])
    axes.invert_yaxis()
    axes.set_xlabel("times as fast, with 95 % interval (two CPU cores, batch 1)")
    return drawn(figure)


def losses() -> npt.NDArray[np.uint8]:
    """Cost of each loss, in units of a plain focal loss, as the number of objects grows."""
    rows = report("losses.json")["rows"]
    figure, axes = plain(8, 3.2)
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        axes.plot([row["truths_per_image"] for row in own], [row["ratio"] for row in own], "o-", label=name)
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1)
    axes.set_xlabel("objects per image")
    axes.set_ylabel("time, plain focal loss = 1")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, ncols=2)
    return drawn(figure)


def schedules() -> npt.NDArray[np.uint8]:
    """Learning rate of recipes of four lengths, epoch by epoch of COCO's training images."""
    images = 118_287  # train2017
    figure, axes = plain(8, 2.8)
    for name in ("dw_r50_1x", "paa_r50_1.5x", "dw_r50_2x", "o2f_r50_3x"):
        c = make_config({"data": "COCO", **read_recipe(name)})
        total = c.iterations or round(c.epochs * images / c.batch)
        schedule = Schedule(c.schedule, c.lrf, c.steps, c.warmup, c.warmup_iterations, c.warmup_from, c.warmup_kind)
        at = np.unique(np.concatenate([np.arange(0, total, 50), [total - 1]]))
        axes.plot(at * c.batch / images, [c.lr0 * schedule(int(i), total) for i in at], label=name)
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("learning rate")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, ncols=2)
    return drawn(figure)


def sharpness() -> npt.NDArray[np.uint8]:
    """How ALA's weight of a point falls with the IoU of its box, for two values of lambda."""
    iou = np.linspace(0, 1, 201)
    figure, axes = plain(8, 2.8)
    default = ALAConfig()
    for value, colour in ((default.loc_sharpness, BLUE), (5.0, ORANGE)):
        weight = np.exp(-(1 - default.cls_power) * value * (1 - iou) ** default.loc_power)
        axes.plot(iou, weight, color=colour, label=f"ALA, lambda = {value:g}")
    axes.plot(iou, np.exp(-5 * (1 - iou)), "--", color=GREY, label="AutoAssign")
    axes.set_xlabel("IoU of the predicted box with its object")
    axes.set_ylabel("factor of P+")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return drawn(figure)


PLOTS: dict[str, Callable[[], npt.NDArray[np.uint8]]] = {
    "plot-methods": methods,
    "plot-methods-small": small_methods,
    "plot-speed": speed,
    "plot-losses": losses,
    "plot-schedules": schedules,
    "plot-sharpness": sharpness,
}
