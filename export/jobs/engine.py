"""What ``aweigh export --format engine`` does; free of torch where the model is an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aweigh.export.engine import build
from aweigh.export.engine.options import EngineOptions, check_options
from aweigh.export.engine.summary import BuildSummary, add_to_receipt
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.engine import PLAN_SUFFIXES, EngineFile, is_engine, sidecar_path
from aweigh.runtime.files.onnx import read_onnx

_REPORTED = ("built", "profiles", "precision", "unknown_layers", "flavour", "targets", "audit")

if TYPE_CHECKING:
    from aweigh.export.jobs.options import ExportOptions
    from aweigh.export.jobs.results import ExportResult


@dataclass(frozen=True)
class EngineResult:
    """An engine, and what it was built from.

    Attributes:
        artifact: the plan; its sidecar is written next to it.
        engine: what the sidecar says.
        onnx: the ONNX file, or the export that made it; None where the engine was built without one.
    """

    artifact: Path
    engine: EngineFile
    onnx: Path | ExportResult | None = None
    verdict: ClassVar[Literal["built"]] = "built"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        known = self.engine.to_dict()
        return {
            "artifact": str(self.artifact),
            "sidecar": str(sidecar_path(self.artifact)),
            "verdict": self.verdict,
            "bytes": self.engine.plan_bytes,
            "sha256": self.engine.plan_sha256,
            **{name: known[name] for name in _REPORTED},
            "onnx": str(self.onnx) if isinstance(self.onnx, Path) else self.onnx.to_dict() if self.onnx else None,
        }


def build_engine(
    model: Path | str, out: Path | str | None = None, options: EngineOptions | None = None
) -> EngineResult:
    """Build a TensorRT engine from an exported ONNX file; free of torch.

    With flavour ``tensorrt`` on the machine that is to run it, with ``rtx`` on any machine. A receipt of the ONNX file
    next to it gets the section ``tensorrt``.

    Args:
        model: a file that ``aweigh export`` wrote.
        out: name of the plan, ending in ``.engine`` or ``.plan``; by default the model's name with the first.
        options: of the build.

    Raises:
        BadInput: not such a file, or options that do not go together.
        CannotRun: no TensorRT, no GPU, or TensorRT cannot build this graph.
        CheckFailed: the engine lacks the precision that the ONNX file asks for; nothing is written.

    Example:
        >>> build_engine("model.onnx", "model.bin")
        Traceback (most recent call last):
        aweigh.runtime.errors.BadInput: --out model.bin: expected a name that ends in .engine or .plan
    """
    model = Path(model)
    path = engine_path(model, None if out is None else Path(out))
    engine = build.build_engine(model, path, options or EngineOptions())
    summary = BuildSummary.of(engine)
    if summary is not None:
        add_to_receipt(model, engine.parents["onnx_sha256"], summary)
    return EngineResult(path, engine, model)


def run_engine_from_checkpoint(
    model: Path, out: Path | None, export_options: ExportOptions, options: EngineOptions
) -> EngineResult | ExportResult:
    """Export a checkpoint to ONNX, with its receipt, next to the engine that is then built from it.

    Returns:
        The engine; where the receipt of the ONNX file failed, that export, and no engine is built.

    Raises:
        BadInput, CannotRun, CheckFailed: see ``export`` and ``build_engine``.
    """
    from aweigh.export.jobs.contract import file_spec
    from aweigh.export.jobs.export import export
    from aweigh.train.checkpoint import load_checkpoint

    out = engine_path(model, out)
    checkpoint = load_checkpoint(model)
    export_options = replace(export_options, for_engine=True)
    check_options(file_spec(checkpoint, export_options), options)
    # Before the export, which takes a while, and whose file would be of no use here.
    require_builder(options)
    exported = export(checkpoint, out.with_suffix(".onnx"), export_options)
    if exported.verdict == "failed":
        return exported
    return replace(build_engine(exported.artifact, out, options), onnx=exported)


def require_builder(options: EngineOptions) -> None:
    """Raises CannotRun where the library or the device that it builds on is missing."""
    build.open_builder(options)


def engine_path(model: Path, out: Path | None) -> Path:
    """Where the plan goes: ``out``, or next to the model. Raises BadInput for a name that is not one of a plan."""
    out = out or model.with_suffix(".engine")
    if not is_engine(out):
        raise BadInput(f"--out {out}: expected a name that ends in {' or '.join(PLAN_SUFFIXES)}")
    return out


def check_onnx_model(model: Path, given: dict[str, Any]) -> None:
    """An ONNX file is built as it is.

    Args:
        given: flags that change a graph, with their values, as far as the user gave them.

    Raises:
        BadInput: there are such flags, or the file was not written by aweigh export.
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
