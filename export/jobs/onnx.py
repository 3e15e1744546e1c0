"""What ``aweigh export`` and ``aweigh verify`` do, for Python callers as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from aweigh.export.graph.layers import layer_names, require_layers
from aweigh.export.precision.precision import choose_lowering
from aweigh.export.proof.bisect import bisect, print_bisection
from aweigh.export.proof.page import write_page
from aweigh.export.proof.pictures import golden_pictures
from aweigh.export.proof.prove import PICTURES, Scope, make_receipt, receipt_of
from aweigh.export.proof.receipt import Receipt, page_path
from aweigh.export.proof.sides import CHECKPOINT_SUFFIX, Trained, contract_for, open_side
from aweigh.export.to_onnx import check_exportable, default_path, export_onnx
from aweigh.runtime.agreement.tolerances import flag, tolerances_for
from aweigh.runtime.cli.output import console
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256, receipt_path
from aweigh.runtime.files.golden import GOLDEN_KEY, encode_golden
from aweigh.runtime.machine.facts import available_cores
from aweigh.runtime.spec import ModelSpec, PostSpec
from aweigh.train.checkpoint import Checkpoint, load_checkpoint
from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split
from aweigh.train.evaluation.run import require_categories
from aweigh.train.process.console import say

_UNCOMPARED = (
    "Not compared with the trained model: ONNX Runtime has no bfloat16 convolution on a CPU. Compare the engine: "
    "aweigh val --model ENGINE."
)


@dataclass(frozen=True)
class ExportOptions:
    """The flags of ``aweigh export``; None leaves the checkpoint's value.

    Attributes:
        batch: smallest and largest.
        post: ``auto`` is the method's own.
        top_k: candidates before NMS, counted as the method counts them (see PostSpec).
        golden: pictures kept inside the file, 0 to 6.
        data: for the receipt; None compares on generated pictures.
        verify: whether a receipt is made.
        force: allows post-processing ``none`` for a method that needs NMS.
        threads: of ONNX Runtime in the comparison.
        keep_high: layers, or folders of layers, that stay in FP32.
        calib: pictures that int8 is calibrated on; encoding: of int8.
        for_engine: TensorRT will run the graph: bf16 can be had, and int8 is encoded for it.
        bisect: whether the layer is searched that breaks in the precision.
        tolerances: of the receipt, instead of the precision's.
    """

    batch: tuple[int, int] = (1, 8)
    size_hw: tuple[int, int] | None = None
    dynamic_size: bool = False
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    post: Literal["auto", "nms", "vote", "none", "raw"] = "auto"
    nms: Literal["onnx", "matrix"] | None = None
    conf: float | None = None
    iou: float | None = None
    top_k: int | None = None
    max_det: int | None = None
    golden: int = 2
    data: str | None = None
    split: str = "val"
    verify: bool = True
    force: bool = False
    threads: int | None = None
    keep_high: tuple[str, ...] = ()
    calib: int | None = None
    encoding: Literal["onnxruntime", "tensorrt"] | None = None
    for_engine: bool = False
    bisect: bool = False
    tolerances: Mapping[str, float] = field(default_factory=dict)


def run_export(model: Path, out: Path | None = None, options: ExportOptions | None = None) -> dict[str, Any]:
    """Export a checkpoint and prove the file.

    Returns:
        ``artifact``, ``receipt``, ``page`` (paths), ``verdict`` ("passed", "failed" or "not verified"), ``warnings``,
        ``bytes``, ``sha256``, ``ap``.

    Raises:
        BadInput: no checkpoint, or options that do not go together; before anything is written.
    """
    options = options or ExportOptions()
    checkpoint = load_checkpoint(model)
    spec = file_spec(checkpoint, options)
    check_exportable(spec)
    tolerances_for(spec.precision, options.tolerances)
    out = out or default_path(model)
    if out.suffix != ".onnx":
        raise BadInput(f"--out {out}: expected a name that ends in .onnx")
    if out.resolve() == model.resolve():
        raise BadInput(f"--out {out}: is the checkpoint itself")
    split = load_split(options.data, options.split) if options.data else None
    if split is not None:
        require_categories(spec, split)
    warnings = _duplicate_warnings(spec.method, checkpoint.spec.post, spec.post)
    detector = checkpoint.detector()
    require_layers(options.keep_high, layer_names(detector))
    lowering = choose_lowering(
        spec, options.data, options.keep_high, options.calib, options.encoding, options.for_engine
    )
    if spec.precision == "bf16" and options.bisect:
        raise BadInput("--bisect: nothing here computes bf16; look for the layer with --precision fp16")
    for old in (receipt_path(out), page_path(out)):  # they are about the file that is replaced now
        old.unlink(missing_ok=True)
    say(f"export {model} -> {out}")
    export_onnx(detector, spec, out, golden_metadata(checkpoint, spec, options, split), lowering)
    if spec.precision == "bf16":
        result = _result(out, None, (*warnings, _UNCOMPARED))
    elif options.verify:
        say("compare it with the trained model")
        receipt = make_receipt(out, checkpoint, split, warnings, options.threads, given=options.tolerances)
        result = _finish(out, receipt, receipt_path(out))
    else:
        result = _result(out, None, (*warnings, "Not compared with the trained model: --no-verify."))
    if options.bisect:
        say("look for the layer that breaks")
        pictures = golden_pictures(spec.input, PICTURES, split)
        result["bisection"] = bisect(out, checkpoint, pictures, options.threads or available_cores()).to_dict()
    return result


def run_verify(
    model: Path,
    against: Path,
    data: str | None = None,
    split: str = "val",
    out: Path | None = None,
    force: bool = False,
    threads: int | None = None,
    tolerances: Mapping[str, float] | None = None,
    scope: Scope | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Compare any two of checkpoint, ONNX file and engine. Returns what ``run_export`` does.

    Args:
        device: that runs ``model``, see ``open_side``; ``against`` runs on the CPU, an engine on its GPU.
        out: the receipt, ending in ``.json``, with its page beside it. By default beside ``model``: in place of its
            receipt where ``against`` is a checkpoint, else under a name that tells both.

    Raises:
        BadInput: no file of ours, or (unless ``force``) two of which neither comes from the other, nor both from one.
        CannotRun: the device is not to be had; an engine, and no TensorRT or no GPU for it.
    """
    if out is not None and out.suffix != ".json":
        raise BadInput(f"--out {out}: expected a name that ends in .json")
    if model.resolve() == against.resolve():
        raise BadInput(f"--against {against}: is --model itself")
    pictures = load_split(data, split) if data else None
    like = contract_for(model, against)
    with open_side(model, like, threads, device) as subject, open_side(against, like, threads) as reference:
        own = reference.own_post if isinstance(reference, Trained) else reference.spec.post
        warnings = _duplicate_warnings(reference.spec.method, own, subject.spec.post)
        if not subject.related_to(reference):
            made_from = ", ".join(sorted(f"{value[:12]}..." for value in subject.parents)) or "nothing that it names"
            if not force:
                raise BadInput(
                    f"{against} (sha256 {reference.sha256[:12]}...): {model} does not come from it, nor both from one "
                    f"checkpoint ({model.name} was made from {made_from}); --force compares all the same"
                )
            warnings = (*warnings, f"Compared with {reference.name}, which this does not come from ({made_from}).")
        say(f"compare {subject.name} with {reference.name}")
        receipt = receipt_of(subject, reference, pictures, warnings, scope, tolerances)
    if out is None:
        out = receipt_path(model)
        if against.suffix != CHECKPOINT_SUFFIX:
            out = model.with_name(f"{model.stem}-against-{against.name}.receipt.json")
    return _finish(model, receipt, out)


def file_spec(checkpoint: Checkpoint, options: ExportOptions) -> ModelSpec:
    """The contract of the file to be written. Raises BadInput where options do not go together."""
    trained = checkpoint.spec
    kind = trained.post.kind if options.post == "auto" else options.post
    if kind == "none" and trained.post.kind != "none" and not options.force:
        raise BadInput(
            f"--post none: {trained.method} predicts several boxes per object, which NMS must thin out; "
            "use --post nms, or --force if that happens elsewhere"
        )
    if options.bisect and options.precision == "fp32":
        raise BadInput("--bisect: looks for what breaks in a lower precision; fp32 is the trained model's own")
    if options.tolerances and not options.verify:
        raise BadInput(f"{flag(next(iter(options.tolerances)))}: with --no-verify nothing is held to a tolerance")
    if options.nms and kind not in ("nms", "vote"):
        raise BadInput(f"--nms {options.nms}: there is no NMS with post-processing {kind!r}")
    if not 0 <= options.golden <= PICTURES:
        raise BadInput(f"--golden {options.golden}: expected 0 to {PICTURES}")
    given = {
        "score_threshold": options.conf,
        "iou_threshold": options.iou,
        "pre_nms_top_k": options.top_k,
        "max_det": options.max_det,
    }
    post = replace(
        trained.post,
        kind=kind,
        nms_form=(options.nms or trained.post.nms_form or "onnx") if kind in ("nms", "vote") else None,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    return replace(
        trained,
        input=replace(
            trained.input,
            size_hw=options.size_hw or trained.input.size_hw,
            dynamic_size=options.dynamic_size or trained.input.dynamic_size,
        ),
        post=post,
        precision=options.precision,
        batch=options.batch,
        parents={**trained.parents, "checkpoint_sha256": checkpoint.sha256},
    )


def _duplicate_warnings(method: str, own: PostSpec, post: PostSpec) -> tuple[str, ...]:
    """A one-to-one method is the one whose own post-processing is none."""
    if post.kind == "none" and own.kind != "none":
        return (f"Without NMS (--post none --force) {method} returns several boxes per object.",)
    return ()


def golden_metadata(
    checkpoint: Checkpoint, spec: ModelSpec, options: ExportOptions, split: Split | None
) -> dict[str, str]:
    """The metadata entry with golden pictures of the split, or generated ones; none where none are wanted."""
    if options.golden == 0:
        return {}
    reference = Trained(checkpoint, spec)
    pictures = golden_pictures(spec.input, options.golden, split)
    return {GOLDEN_KEY: encode_golden(pictures, [reference.network.infer(p.image_u8[None]) for p in pictures])}


def _finish(artifact: Path, receipt: Receipt, out: Path) -> dict[str, Any]:
    receipt.write(out)
    write_page(receipt, out.with_suffix(".html"))
    return _result(artifact, receipt, receipt.warnings, out)


def _result(
    artifact: Path, receipt: Receipt | None, warnings: tuple[str, ...], written: Path | None = None
) -> dict[str, Any]:
    return {
        "artifact": str(artifact),
        "receipt": str(written) if written else None,
        "page": str(written.with_suffix(".html")) if written else None,
        "verdict": receipt.verdict if receipt else "not verified",
        "failed_at": receipt.failed_at if receipt else None,
        "failed": [f"{c.name}: {c.measured}, limit {c.limit}" for c in receipt.checks if not c.passed]
        if receipt
        else [],
        "detections_compared": receipt.detections if receipt else None,
        "ap": receipt.ap if receipt else None,
        "tensorrt_ready": receipt.operators.ready if receipt and receipt.operators else None,
        "warnings": list(warnings),
        "bytes": artifact.stat().st_size,
        "sha256": file_sha256(artifact),
    }


def print_result(result: dict[str, Any]) -> None:
    """The same for people, on stdout."""
    out = console()
    table = Table(show_header=False, title=f"receipt {result['verdict']}", title_justify="left")
    for name in ("artifact", "receipt", "page"):
        if result[name]:
            table.add_row(name, result[name])
    table.add_row("size", f"{result['bytes'] / 1e6:.1f} MB")
    if result["ap"]:
        ap = result["ap"]
        table.add_row("AP", f"trained {ap['trained']['AP']:.4f}, exported {ap['exported']['AP']:.4f}")
    if result["detections_compared"] is not None:
        table.add_row("detections", f"{result['detections_compared']} compared")
    out.print(table)
    for line in result["failed"]:
        out.print(f"FAILED {line}")
    if result["failed_at"]:
        out.print(f"look first at: {result['failed_at']}")
    for line in result["warnings"]:
        out.print(f"warning: {line}")
    if "bisection" in result:
        print_bisection(result["bisection"])
