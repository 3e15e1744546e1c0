"""``aweigh train``."""

from __future__ import annotations

import argparse
from typing import Any, Literal, get_args, get_origin, get_type_hints

from aweigh.runtime.cli.output import console, emit_json
from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import help_texts
from aweigh.train.cli.methods import options_from_flags
from aweigh.train.cli.metrics_table import metrics_table
from aweigh.train.config import AS_RECORDED, PLACE_FLAGS, TrainConfig, make_config, read_recipe, shipped
from aweigh.train.methods import METHODS

# Structured settings: a recipe sets them, no flag does.
_RECIPE_ONLY = ("network", "options", "augment", "steps", "undecayed")


def add_train(parser: argparse.ArgumentParser) -> None:
    """The flags: one for each field of TrainConfig, and a few that set parts of the structured ones."""
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
        parser.add_argument(_flag(name), help=text, **_reading(name, annotation))


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


def _config(arguments: argparse.Namespace) -> TrainConfig:
    """The recipe of --config, with the flags over it."""
    values = read_recipe(arguments.config) if arguments.config else {}
    flags = {name: getattr(arguments, name, None) for name in get_type_hints(TrainConfig)}
    values |= {name: value for name, value in flags.items() if value is not None}
    if options := options_from_flags(arguments, values.get("method", TrainConfig.method)):
        values["options"] = {**values.get("options", {}), **options}
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
