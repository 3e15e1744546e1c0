"""What ``aweigh export --format engine`` does; free of torch where the model is an ONNX file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from aweigh.export.engine.build import build_engine, open_builder
from aweigh.export.engine.options import EngineOptions, check_options
from aweigh.runtime.cli.output import console
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.engine import PLAN_SUFFIXES, EngineFile, is_engine, sidecar_path
from aweigh.runtime.files.flavours import FLAVOURS
from aweigh.runtime.files.onnx import read_onnx

_REPORTED = ("built", "profiles", "precision", "unknown_layers", "flavour", "targets", "audit")

if TYPE_CHECKING:
    from aweigh.export.jobs.onnx import ExportOptions


def run_engine(model: Path, out: Path | None, options: EngineOptions) -> dict[str, Any]:
    """Build an engine from an ONNX file of ours.

    Returns:
        ``artifact`` and ``sidecar`` (paths), ``verdict`` ("built"), ``bytes``, ``sha256``, ``built``, ``profiles``,
        ``precision``, ``unknown_layers``, ``flavour``, ``targets``, ``audit``, ``onnx`` (path).

    Raises:
        BadInput, CannotRun, CheckFailed: see ``build.build_engine``.
    """
    out = engine_path(model, out)
    return {**engine_result(build_engine(model, out, options), out), "onnx": str(model)}


def run_engine_from_checkpoint(
    model: Path, out: Path | None, export: ExportOptions, options: EngineOptions
) -> dict[str, Any]:
    """Export a checkpoint to ONNX, with its receipt, beside the engine that is then built from it.

    NMS takes the matrix form unless ``export`` says otherwise: it has no shapes that depend on the data.

    Returns:
        What ``run_engine`` does, ``onnx`` being the result of the ONNX export; where its receipt failed that result
        alone, and no engine is built.

    Raises:
        BadInput, CannotRun, CheckFailed: see ``job.run_export`` and ``build.build_engine``.
    """
    from aweigh.export.jobs.onnx import file_spec, run_export
    from aweigh.train.checkpoint import load_checkpoint

    out = engine_path(model, out)
    checkpoint = load_checkpoint(model)
    kind = checkpoint.spec.post.kind if export.post == "auto" else export.post
    export = replace(export, for_engine=True)
    if export.nms is None and kind in ("nms", "vote"):
        export = replace(export, nms="matrix")
    check_options(file_spec(checkpoint, export), options)
    # Before the export, which takes a while, and whose file would be of no use here.
    require_builder(options)
    onnx = out.with_suffix(".onnx")
    exported = run_export(model, onnx, export)
    if exported["verdict"] == "failed":
        return exported
    return {**run_engine(onnx, out, options), "onnx": exported}


def require_builder(options: EngineOptions) -> None:
    """Raises CannotRun where the library or the device that it builds on is missing."""
    open_builder(options)


def engine_path(model: Path, out: Path | None) -> Path:
    """Where the plan goes: ``out``, or beside the model. Raises BadInput for a name that is none of a plan."""
    out = out or model.with_suffix(".engine")
    if not is_engine(out):
        raise BadInput(f"--out {out}: expected a name that ends in {' or '.join(PLAN_SUFFIXES)}")
    return out


def check_onnx_model(model: Path, given: dict[str, Any]) -> None:
    """An ONNX file is built as it is.

    Args:
        given: flags that change a graph, with their values, as far as the user gave them.

    Raises:
        BadInput: there are such flags, or the file is none of ours.
    """
    read_onnx(model).spec(model)
    refuse_graph_flags(model, given)


def refuse_graph_flags(model: Path, given: dict[str, Any]) -> None:
    """Raises BadInput where flags were given that change a graph, for a file that is taken as it is."""
    if given:
        flag, value = next(iter(given.items()))
        raise BadInput(
            f"{flag} {value}: {model} is exported already, and is taken as it is; "
            f"export the checkpoint again with {flag}, or give the checkpoint to --model"
        )


def engine_result(engine: EngineFile, out: Path) -> dict[str, Any]:
    """The sidecar's facts as the verb reports them."""
    known = engine.to_dict()
    return {
        "artifact": str(out),
        "sidecar": str(sidecar_path(out)),
        "verdict": "built",
        "bytes": engine.plan_bytes,
        "sha256": engine.plan_sha256,
        **{name: known[name] for name in _REPORTED},
    }


def print_engine(result: dict[str, Any]) -> None:
    """The same for people, on stdout."""
    out = console()
    built = result["built"]
    table = Table(show_header=False, title="engine built", title_justify="left")
    table.add_row("artifact", result["artifact"])
    table.add_row("sidecar", result["sidecar"])
    table.add_row("size", f"{result['bytes'] / 1e6:.1f} MB")
    table.add_row("library", f"{FLAVOURS[result['flavour']].title} {built['tensorrt']}")
    capabilities = result["targets"] or [built["compute_capability"]]
    table.add_row("for", ", ".join(filter(None, [built["gpu"], f"compute capability {', '.join(capabilities)}"])))
    if result["audit"]:
        for count in result["audit"]["layers"]:
            table.add_row(
                count["precision"],
                f"{count['convolutions']} convolutions, {count['matrix_products']} matrix products, "
                f"{count['layers']} layers in all",
            )
        table.add_row("as the ONNX file says", "every convolution, compared one by one")
    for share in result["precision"]:
        table.add_row(
            share["precision"],
            f"{share['layer_share']:.1%} of layers, {share['weight_share']:.1%} of weights, "
            f"{share['byte_share']:.1%} of bytes",
        )
    out.print(table)
