"""The verbs of the training stage: train, val, import, assign, conformance.

torch is imported by the verbs, not here: every ``aweigh`` command loads this module.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from rich.table import Table

from aweigh.runtime.cli.main import Verbs
from aweigh.runtime.cli.opening import add_opening, read_opening
from aweigh.runtime.cli.output import console, emit_json
from aweigh.runtime.cli.views import add_views, read_views
from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import help_texts
from aweigh.train.cli.methods import add_method_flags, options_from_flags, run_methods
from aweigh.train.cli.official import add_import, run_import
from aweigh.train.config import PLACE_FLAGS, TrainConfig, make_config, read_recipe, shipped
from aweigh.train.methods import METHODS, method_class

if TYPE_CHECKING:
    from aweigh.runtime.compare.comparison import LabelledImage
    from aweigh.runtime.machine.doctor import TorchFacts
    from aweigh.train.doctor.report import DoctorReport

# Settable by recipe alone: they are structured.
_RECIPE_ONLY = ("network", "options", "augment", "steps", "undecayed")


def _batch(text: str) -> int:
    try:
        return 0 if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, or auto") from None


def register(verbs: Verbs) -> None:
    """Raises ModuleNotFoundError where the stage's extra is not installed."""
    for module in ("torch", "lightning_fabric", "pycocotools"):
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    verbs.provided.labelled_images = _labelled_images
    verbs.provided.examine_data = _examine_data
    verbs.provided.torch_facts = _torch_facts
    _register_train(verbs)
    val = verbs.add("val", _val)
    val.add_argument("--model", required=True, type=Path, help="checkpoint (.pt) or exported file (.onnx, .engine)")
    val.add_argument("--data", required=True, help="folder or data.yaml")
    val.add_argument("--split", default="val", help="of the data set (default %(default)s)")
    val.add_argument("--batch", type=int, default=8, help="pictures at once, as far as the file takes them (default 8)")
    val.add_argument(
        "--metrics", choices=("coco", "voc", "crowdhuman"), default="coco", help="whose figures (default %(default)s)"
    )
    add_opening(val)
    val.add_argument("--faulty", choices=("drop", "refuse"), default="drop", help="what to do with faulty annotations")
    add_views(val)
    assign = verbs.add("assign", _assign)
    assign.add_argument("--model", required=True, type=Path, help="checkpoint (.pt)")
    assign.add_argument("--data", required=True, help="folder or data.yaml")
    assign.add_argument("--image", required=True, help="the data set's id of a picture, or its file name")
    assign.add_argument("--split", default="val", help="of the data set (default %(default)s)")
    assign.add_argument("--out", type=Path, help="page to write (default assign-NAME.html)")
    assign.add_argument("--progress", type=float, default=0.5, help="of the training, 0 to 1 (default %(default)s)")
    assign.add_argument("--methods", default=",".join(METHODS), help="methods to compare (default %(default)s)")
    add_import(verbs.add("import", run_import))
    verbs.add("methods", run_methods)
    conformance = verbs.add("conformance", _conformance)
    conformance.add_argument("--golden", required=True, type=Path, help="folder of METHOD/CASE.npz")


def _register_train(verbs: Verbs) -> None:
    parser = verbs.add("train", _train, add_method_flags)
    parser.add_argument(
        "--config", help=f"YAML recipe, or the name of a shipped one ({', '.join(shipped())}); flags override it"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run of --project and --name")
    parser.add_argument(
        "--head", dest="network.head", choices=("fcos", "tood"), help="tood: DW* of DW's paper, Table 7"
    )
    texts, defaults = help_texts(TrainConfig), TrainConfig(data="-").to_dict()
    for name, annotation in get_type_hints(TrainConfig).items():
        if name in _RECIPE_ONLY:
            continue
        flag = f"--{name.replace('_', '-')}"
        shown = texts[name]
        if name == "method":
            shown += f" Known: {', '.join(METHODS)}."
        if name != "data" and defaults[name] is not None and annotation is not bool:
            shown += f" Default: {defaults[name]}."
        if get_origin(annotation) is Literal:
            parser.add_argument(flag, choices=get_args(annotation), help=shown)
        elif annotation is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=shown)
        else:
            kind: Any = (
                _batch
                if name == "batch"
                else annotation
                if annotation in (int, float)
                else float
                if name == "minutes"
                else str
            )
            parser.add_argument(flag, type=kind, help=shown)


def _train(arguments: argparse.Namespace) -> int:
    from aweigh.train.process.processes import ALONE, place

    values = read_recipe(arguments.config) if arguments.config else {}
    given = {name: getattr(arguments, name, None) for name in get_type_hints(TrainConfig)}
    values |= {name: value for name, value in given.items() if value is not None}
    if options := options_from_flags(arguments, values.get("method", TrainConfig.method)):
        values["options"] = {**values.get("options", {}), **options}
    if head := getattr(arguments, "network.head"):
        values["network"] = {**values.get("network", {}), "head": head}
    if arguments.resume:
        changed = sorted(set(values) - {"project", "name", *PLACE_FLAGS})
        if changed:
            raise BadInput(
                f"--resume goes on with {values.get('name', TrainConfig.name)} as it was begun; it cannot change "
                f"{', '.join(changed)}. Give --project and --name alone (and {_flags(PLACE_FLAGS)}), or begin a new run"
            )
        values["data"] = "as recorded"
    config = make_config(values, where="train")
    if config.devices > 1 and place() == ALONE:
        from aweigh.train.run.launch import train_on_devices

        train_on_devices(config, arguments.resume)
        summary = json.loads((config.run_dir / "summary.json").read_text(encoding="utf-8"))
    else:
        from aweigh.train.run.session import train

        summary = train(config, resume=arguments.resume)
    if place().rank > 0:
        return 0
    if arguments.json:
        emit_json(summary)
    else:
        table = _metrics_table(summary["val"], f"best weights on val, iteration {summary['val']['iteration']}")
        console().print(table)
        console().print(f"checkpoint  {summary['checkpoint']}")
        if "test" in summary["splits"]:
            console().print("test split  not looked at; aweigh val --split test reports it")
    return 0


def _flags(names: tuple[str, ...]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _labelled_images(data: str, split_name: str) -> list[LabelledImage]:
    """For ``aweigh compare --data``: crowds and difficult objects, which nobody need find, are left out."""
    from aweigh.runtime.compare.comparison import LabelledImage
    from aweigh.train.data.open import load_split

    split = load_split(data, split_name)
    return [
        LabelledImage(
            path=record.path,
            boxes_xyxy=record.boxes_xyxy[record.targets],
            names=tuple(split.categories[label].name for label in record.labels[record.targets].tolist()),
        )
        for record in split.records
    ]


def _examine_data(
    data: str, splits: tuple[str, ...], *, model: str, method: str, imgsz: str, out: Path | None
) -> DoctorReport:
    """For ``aweigh doctor --data``."""
    from aweigh.train.doctor.report import examine_data

    return examine_data(data, splits, model=model, method=method, imgsz=imgsz, out=out)


def _torch_facts() -> TorchFacts:
    """For ``aweigh doctor``."""
    import torch

    from aweigh.runtime.machine.doctor import TorchFacts

    devices = tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return TorchFacts(torch.__version__, torch.version.cuda, devices)


def _val(arguments: argparse.Namespace) -> int:
    from aweigh.train.data.open import load_split
    from aweigh.train.data.records import summary
    from aweigh.train.evaluation.run import evaluate, evaluate_finder, open_finder, open_predictor

    opening, views = read_opening(arguments), read_views(arguments)
    several = views.several
    predictor: Any = (
        open_finder(arguments.model, opening, views) if several else open_predictor(arguments.model, opening)
    )
    with predictor as opened:
        split = load_split(arguments.data, arguments.split, faulty=arguments.faulty)
        for line in summary(split.faults):
            print(line, file=sys.stderr)
        metrics = (
            evaluate_finder(opened, split, metrics=arguments.metrics)
            if several
            else evaluate(opened, split, batch=arguments.batch, metrics=arguments.metrics)
        )
    metrics = {**metrics, "model": str(arguments.model), "split": split.name, "imgsz_hw": opened.spec.input.size_hw}
    if several:
        metrics |= {"slice": arguments.slice, "tta": arguments.tta, "tta_model": arguments.tta_model}
    if arguments.json:
        emit_json(metrics)
    else:
        console().print(
            _metrics_table(
                metrics, f"{arguments.model.name} on {split.name}, {metrics['images']} pictures", arguments.metrics
            )
        )
    return 0


def _metrics_table(metrics: dict[str, Any], title: str, kind: str = "coco") -> Table:
    from aweigh.train.evaluation.sets import METRIC_SETS

    table = Table(title=title, title_justify="left")
    table.add_column("")
    names = METRIC_SETS[kind].shown
    for name in names:
        table.add_column(name, justify="right")
    table.add_row("all", *(_figure(metrics[name]) for name in names))
    for row in metrics["per_class"].values():
        table.add_row(row["name"], *(_figure(row[name]) if name in row else "" for name in names))
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _assign(arguments: argparse.Namespace) -> int:
    from aweigh.train.data.open import load_split
    from aweigh.train.explorer.explore import explore, find_record, method_names, open_checkpoint
    from aweigh.train.explorer.page import write_page
    from aweigh.train.explorer.summary import summary

    methods = method_names(arguments.methods)
    checkpoint = open_checkpoint(arguments.model)
    split = load_split(arguments.data, arguments.split)
    record = find_record(split, arguments.image)
    path = arguments.out or Path(f"assign-{record.path.stem}.html")
    exploration = explore(checkpoint, split, record, methods, arguments.progress)
    write_page(exploration, path)
    found = summary(exploration).to_dict()
    if arguments.json:
        emit_json({"page": str(path), **found})
        return 0
    starved = Table(title=f"{found['image']}: truths that receive next to nothing", title_justify="left")
    for name in ("method", "starved", "which (class, width x height in pixels of the input, size)"):
        starved.add_column(name)
    for name in methods:
        its = [truth for truth in found["truths"] if name in truth["starved"]]
        which = [f"{t['index']} {t['class']} {t['width_px']:.0f}x{t['height_px']:.0f} {t['size']}" for t in its]
        starved.add_row(method_class(name).title, f"{len(its)} of {len(found['truths'])}", ", ".join(which))
    console().print(starved)
    console().print(f"page  {path}")
    return 0


def _conformance(arguments: argparse.Namespace) -> int:
    from aweigh.train.conformance import run_conformance

    report = run_conformance(arguments.golden).to_dict()
    if arguments.json:
        emit_json(report)
    else:
        table = Table(title=f"conformance with {arguments.golden}", title_justify="left")
        for name in ("method", "case", "quantity", "largest error", "tolerance", "status"):
            table.add_column(name, justify="right" if name in ("largest error", "tolerance") else "left")
        for case in report["cases"]:
            error, tolerance = ("" if case[key] is None else f"{case[key]:.1e}" for key in ("max_rel_err", "tol"))
            table.add_row(case["method"], case["case"], case["quantity"], error, tolerance, case["status"])
        console().print(table)
        console().print("passed" if report["passed"] else "FAILED")
    return 0 if report["passed"] else 1
