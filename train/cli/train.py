"""``aweigh train``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from aweigh.runtime.cli.output import console, emit_json
from aweigh.runtime.errors import BadInput
from aweigh.runtime.size import Size
from aweigh.runtime.values import help_texts
from aweigh.train.cli.methods import add_method_flags, options_from_flags
from aweigh.train.cli.metrics_table import metrics_table
from aweigh.train.cli.parts import add_parts, set_parts
from aweigh.train.config import AS_RECORDED, PLACE_FLAGS, TrainConfig, make_config, read_recipe, shipped
from aweigh.train.methods import METHODS

# Structured settings: a recipe sets them, or the flags of cli/parts.py and of the methods.
_RECIPE_ONLY = ("network", "options", "augment", "steps", "undecayed")
# How --help groups the fields of TrainConfig; what is in none of them comes last.
_GROUPS = {
    "what is trained": ("data", "method", "model", "weights", "imgsz", "resize"),
    "how long": ("epochs", "iterations", "minutes", "patience", "val_every"),
    "data": ("val_share", "test_share", "split_seed", "faulty", "outside_images", "repeat_threshold", "cache"),
    "the run": ("project", "name", "exist_ok", "logger", "seed"),
    "machine": (
        *("device", "devices", "batch", "accumulate", "precision", "channels_last", "threads", "workers"),
        *("augment_on", "wait_seconds"),
    ),
    "frozen parts and normalisation": ("frozen_stages", "backbone_norm", "sync_bn"),
}
_LAST_GROUP = "optimisation"


def add_train(parser: argparse.ArgumentParser) -> None:
    """The flags: one for each field of TrainConfig, and a few that set parts of the structured ones."""
    parser.usage = "aweigh train DATA [--method METHOD] [--model MODEL] [--FLAG VALUE | FLAG=VALUE ...]"
    groups = {name: parser.add_argument_group(name) for name in (*_GROUPS, _LAST_GROUP)}
    group_of = {field: groups[name] for name, members in _GROUPS.items() for field in members}
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
        text = texts[name]
        if name == "method":
            text += f" Known: {', '.join(METHODS)}."
        if name != "data" and defaults[name] is not None and annotation is not bool:
            text += f" Default: {defaults[name]}."
        group_of.get(name, groups[_LAST_GROUP]).add_argument(_flag(name), help=text, **_reading(name, annotation))


def add_late_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that cost an import of torch."""
    add_method_flags(parser)
    add_parts(parser)


def _reading(name: str, annotation: Any) -> dict[str, Any]:
    """How argparse reads a field's value."""
    if get_origin(annotation) is Literal:
        return {"choices": get_args(annotation)}
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction, "default": None}
    if name == "batch":
        return {"type": _batch}
    optional = [one for one in get_args(annotation) if one is not type(None)]
    kind = optional[0] if optional else annotation
    return {"type": kind if kind in (int, float) else str}


def _batch(text: str) -> int:
    try:
        return 0 if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, or auto") from None


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def run_train(arguments: argparse.Namespace) -> int:
    from aweigh.train.process.processes import this_process
    from aweigh.train.run.session import train

    result = train(_config(arguments), resume=arguments.resume)
    if this_process().rank > 0:
        return 0
    if arguments.json:
        emit_json(result.to_dict())
        return 0
    console().print(metrics_table(result.val, f"best weights on val, iteration {result.val_iteration}"))
    console().print(f"checkpoint  {result.checkpoint}")
    if "test" in result.splits:
        console().print("test split  not used; aweigh val --split test evaluates it")
    return 0


def _fine_tuned(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The recipe of ``--model best.pt``: network, input and weights of the checkpoint, and its method where none is
    given.
    """
    from aweigh.train.checkpoint import load_checkpoint
    from aweigh.train.process.console import say

    if "weights" in values:
        raise BadInput(f"--weights {values['weights']} with --model {path}: the weights are those of the checkpoint")
    checkpoint = load_checkpoint(path)
    spec = checkpoint.spec
    method = values.get("method", spec.method)
    taken = {
        "method": method,
        "options": checkpoint.options if method == spec.method else {},
        "imgsz": str(Size(*spec.input.size_hw)),
        "resize": spec.input.resize,
        **values,
        "model": spec.architecture,
        "network": {**checkpoint.network, **values.get("network", {})},
        "weights": str(path),
    }
    say(
        f"--model {path}: goes on from this {spec.architecture}, trained with {spec.method}, at "
        f"{taken['imgsz']} pixels ({taken['resize']}), with {method}"
    )
    return taken


def _config(arguments: argparse.Namespace) -> TrainConfig:
    """The recipe of --config, with the flags over it."""
    values = read_recipe(arguments.config) if arguments.config else {}
    flags = {name: getattr(arguments, name, None) for name in get_type_hints(TrainConfig)}
    values |= {name: value for name, value in flags.items() if value is not None}
    if str(values.get("model", "")).endswith(".pt") and not arguments.resume:
        values = _fine_tuned(Path(values["model"]), values)
    if options := options_from_flags(arguments, values.get("method", TrainConfig.method)):
        values["options"] = {**values.get("options", {}), **options}
    set_parts(values, arguments)
    if head := getattr(arguments, "network.head"):
        values["network"] = {**values.get("network", {}), "head": head}
    if arguments.resume:
        changed = sorted(set(values) - {"data", "project", "name", *PLACE_FLAGS})
        if changed:
            raise BadInput(
                f"--resume goes on with the recorded settings of {values.get('name', TrainConfig.name)}; it cannot "
                f"change {', '.join(changed)}. Give only --project and --name (and "
                f"{', '.join(map(_flag, PLACE_FLAGS))}, and --data where the data set was moved), or begin a new run"
            )
        values.setdefault("data", AS_RECORDED)
    return make_config(values, where="train")
