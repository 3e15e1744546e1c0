"""The small models that receipts are tried on: trained here where the work folder does not hold them yet, or those of
finished runs.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import onnx_ir as ir
import yaml

from aweigh.export.jobs.contract import file_spec
from aweigh.export.jobs.options import ExportOptions
from aweigh.export.precision.choice import choose_lowering
from aweigh.export.precision.table import graph_precision
from aweigh.export.to_onnx import make_graph, trace, write_onnx
from aweigh.runtime.cli.output import console
from aweigh.runtime.errors import BadInput
from aweigh.runtime.precision import Precision
from aweigh.train import train
from aweigh.train.checkpoint import Checkpoint, load_checkpoint
from aweigh.train.data.open import load_split_of
from aweigh.train.data.records import Split
from aweigh.train.data.shapes import ShapesConfig, generate_shapes
from aweigh.train.process.console import say
from aweigh.train.tracking.folder import RunDir

GENERATED = "generated"
METHODS = ("fcos", "dw", "paa", "autoassign")
# Images hardly larger than the input, and large shapes that stand out and are whole: others are not found after so
# short a training, and what is not found no fault can take away.
_SIZES = {"train": 240, "val": 80, "size_hw": (128, 176)}
_EASY = ShapesConfig(
    objects=(1, 4),
    empty=0.0,
    min_px=40.0,
    max_fraction=0.7,
    max_cut=0.1,
    max_hidden=0.2,
    min_contrast=140.0,
    noise=(0.0, 4.0),
)
# Few candidates of the few points of so small an input: the time of NMS goes with their square.
_OPTIONS = ExportOptions(batch=(1, 8), top_k=300)


@dataclass(frozen=True)
class Recipe:
    """How all models are trained: a nano network, at ``imgsz``, for so many iterations."""

    imgsz: str
    iterations: int
    threads: int


@dataclass(frozen=True)
class Model:
    """A trained model and the split that its receipts are made on."""

    data: str
    method: str
    folder: Path
    source: str
    checkpoint: Checkpoint
    split: Split

    def facts(self) -> dict[str, Any]:
        """How good the model is on the split, by class: what it does not find no fault can take away."""
        val = json.loads((self.folder / "summary.json").read_text())["val"]
        classes = {row["name"]: round(row["AP50"], 3) for row in val["per_class"].values()}
        return {"data": self.data, "method": self.method, "AP": round(val["AP"], 4), "AP50_by_class": classes}

    def file(self, precision: Precision, draw: int) -> Path:
        """The exported file of a draw; all draws share the file where nothing is calibrated."""
        entry = graph_precision(precision)
        number = draw if entry.calibrated else 0
        path = self.folder / f"{precision}-{number}.onnx"
        if not path.is_file():
            spec = file_spec(self.checkpoint, replace(_OPTIONS, precision=precision))
            lowering = choose_lowering(spec, self.source if entry.calibrated else None, seed=number)
            if entry.calibrated or not entry.lowers:
                graph = entry.rewrite(_plain(self.folder), lowering, spec.batch[0])
            else:
                graph = make_graph(self.checkpoint.detector(), spec, lowering)
            write_onnx(graph, spec, path, lowering=lowering)
        return path


@cache
def _plain(run: Path) -> ir.Model:
    """The graph in float32, which all calibrations start from: as an export would, without tracing it every time."""
    checkpoint = load_checkpoint(RunDir(run).best)
    return trace(checkpoint.detector(), file_spec(checkpoint, _OPTIONS))


def data_folder(data: str, work: Path) -> Path:
    """A data set that was named, or the generated one, which is written once. Raises BadInput for no folder."""
    if data == GENERATED:
        folder = work / "data"
        made = folder.is_dir()
        return folder if made else generate_shapes(folder, seed=7, config=_EASY, **_SIZES)  # type: ignore[arg-type]
    if not Path(data).exists():
        raise BadInput(f"--data {data}: no such data set; expected folders of data sets, or {GENERATED}")
    return Path(data)


def models(data: str, work: Path, methods: tuple[str, ...], recipe: Recipe) -> list[Model]:
    """One model a method, of the seed that is its place in the list; a training that was broken off goes on."""
    source = data_folder(data, work)
    made = []
    for seed, method in enumerate(methods):
        run = RunDir(work / Path(data).name / method)
        if not (run.path / "summary.json").is_file():
            say(f"{run.path.parent.name} {method}: training")
            config = {
                "data": str(source),
                "method": method,
                "model": "nano",
                "imgsz": recipe.imgsz,
                "iterations": recipe.iterations,
                "lr0": 0.005,
                "seed": seed,
                "project": str(run.path.parent),
                "name": method,
                "precision": "fp32",
                "threads": recipe.threads,
                "workers": 0,
                "cache": "ram",
                "val_every": math.ceil(recipe.iterations / 2),
            }
            train(config, resume=run.last.is_file())
        made.append(_model(run, str(source)))
    console().print(f"{len(made)} models of {source.name}")
    return made


def of_runs(folders: Sequence[Path], work: Path) -> list[Model]:
    """The models of finished runs, copied below the work folder: nothing is written into the runs.

    Raises BadInput for a folder without a finished run.
    """
    made = []
    for folder in folders:
        if not (folder / "summary.json").is_file():
            raise BadInput(f"--runs {folder}: no summary.json there; expected folders of finished runs")
        source = str(yaml.safe_load((folder / "args.yaml").read_text())["data"])
        copy = work / Path(source).name / folder.name
        if not copy.is_dir():
            shutil.copytree(folder, copy)
        made.append(_model(RunDir(copy), source))
    return made


def _model(run: RunDir, source: str) -> Model:
    checkpoint = load_checkpoint(run.best)
    split = load_split_of(checkpoint.spec, source, "val")
    return Model(run.path.parent.name, checkpoint.spec.method, run.path, source, checkpoint, split)
