"""Export a checkpoint to ONNX, and prove the file."""

from __future__ import annotations

from pathlib import Path

from aweigh.export.graph.layers import layer_names, require_layers
from aweigh.export.jobs.contract import duplicate_warnings, file_spec
from aweigh.export.jobs.options import ExportOptions
from aweigh.export.jobs.results import ExportResult
from aweigh.export.precision.choice import choose_lowering
from aweigh.export.precision.table import graph_precision
from aweigh.export.proof.bisect import Bisection, bisect
from aweigh.export.proof.images import golden_images
from aweigh.export.proof.page import write_page
from aweigh.export.proof.prove import IMAGES, Scope, make_receipt
from aweigh.export.proof.receipt import Receipt, page_path
from aweigh.export.proof.sides import Trained
from aweigh.export.to_onnx import check_exportable, default_path, make_graph, write_onnx
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256, receipt_path
from aweigh.runtime.files.golden import GOLDEN_KEY, encode_golden
from aweigh.runtime.machine.facts import available_cores
from aweigh.runtime.spec import ModelSpec
from aweigh.train.checkpoint import Checkpoint, load_checkpoint
from aweigh.train.data.division import Division
from aweigh.train.data.matching import require_categories
from aweigh.train.data.open import available_splits, load_split_of
from aweigh.train.data.records import Split
from aweigh.train.data.split_names import canonical
from aweigh.train.models.detector import DenseDetector
from aweigh.train.process.console import say

_NOT_COMPARABLE = (
    "Not compared with the trained model: ONNX Runtime has no bfloat16 convolution on a CPU. Compare the engine: "
    "aweigh val --model ENGINE."
)
_NOT_ASKED = "Not compared with the trained model: --no-verify."


def export(
    model: Path | str | Checkpoint, out: Path | str | None = None, options: ExportOptions | None = None
) -> ExportResult:
    """Export a checkpoint to one ONNX file with everything behind the JPEG decoder in it, and prove the file.

    The receipt (``NAME.receipt.json``, with a page of HTML) is written next to the file. Where anything fails before
    the new file is written, an older file and its receipt stay as they are.

    Args:
        model: a checkpoint (``.pt``), or one that was loaded from its file.
        out: name of the file, ending in ``.onnx``; by default the checkpoint's name with that ending.
        options: see ExportOptions.

    Raises:
        BadInput: no checkpoint, or options that do not go together; before anything is written.
        CheckFailed: nothing in the graph has the precision asked for; before anything is written.

    Example:
        >>> result = export(checkpoint_path, tmp_path / "model.onnx", ExportOptions(batch=(1, 4), golden=1))
        >>> result.verdict, result.receipt_path.name
        ('passed', 'model.receipt.json')
    """
    options = options or ExportOptions()
    checkpoint = model if isinstance(model, Checkpoint) else load_checkpoint(model)
    spec = file_spec(checkpoint, options)
    check_exportable(spec)
    path = _output_path(checkpoint, None if out is None else Path(out))
    split = load_images(spec, options)
    if split is not None:
        require_categories(spec, split)
    detector = checkpoint.detector()
    require_layers(options.keep_high, layer_names(detector))
    lowering = choose_lowering(
        spec,
        options.data,
        options.keep_high,
        options.calib,
        options.encoding,
        options.for_engine,
        options.outside_images,
        options.seed,
    )
    say(f"export {checkpoint.path} -> {path}")
    graph = make_graph(detector, spec, lowering, stop_early=not options.for_engine)
    # From here on the network is the reference, and may lie in memory as the device likes it.
    trained = Trained(checkpoint, spec, detector=detector)
    write_onnx(graph, spec, path, golden_metadata(trained, options.golden, split, options.seed), lowering)
    for old in (receipt_path(path), page_path(path)):  # of the file that has just been replaced
        old.unlink(missing_ok=True)
    receipt, warnings = _prove(path, trained, split, options, spec)
    bisection = _bisect(path, detector, spec, split, options) if options.bisect else None
    written = receipt_path(path) if receipt else None
    return ExportResult(path, path.stat().st_size, file_sha256(path), receipt, written, warnings, bisection)


def load_images(spec: ModelSpec, options: ExportOptions) -> Split | None:
    """The split that an export compares on and takes its golden images from; None where they are to be generated.

    Where nothing is compared, data without ``val``, such as what INT8 is calibrated on, will do.
    """
    if options.data is None:
        return None
    if not options.verify and not options.bisect:
        splits = available_splits(options.data, Division.of(spec.held_out))
        if options.golden == 0:
            return None
        if options.split == "val" and "val" not in map(canonical, splits):
            say(f"{options.data} has no split 'val': the images for the self-test are generated; --split takes another")
            return None
    return load_split_of(
        spec,
        options.data,
        options.split,
        match_names=options.match_names,
        outside_images=options.outside_images,
    )


def golden_metadata(trained: Trained, count: int, split: Split | None, seed: int | None = None) -> dict[str, str]:
    """The metadata entry with ``count`` golden images of the split, or generated ones; empty where 0 are wanted."""
    if count == 0:
        return {}
    images = golden_images(trained.spec.input, count, split, seed)
    return {GOLDEN_KEY: encode_golden(images, [trained.network.infer(image.image_u8[None]) for image in images])}


def write_receipt(receipt: Receipt, path: Path) -> None:
    """The receipt as JSON, and as a page of HTML next to it."""
    receipt.write(path)
    write_page(receipt, path.with_suffix(".html"))


def _output_path(checkpoint: Checkpoint, out: Path | None) -> Path:
    if out is None and checkpoint.path is None:
        raise BadInput("a checkpoint that was never written: give out, the name of the exported file")
    path = out or default_path(checkpoint.path or Path())
    if path.suffix != ".onnx":
        raise BadInput(f"--out {path}: expected a name that ends in .onnx")
    if checkpoint.path is not None and path.resolve() == checkpoint.path.resolve():
        raise BadInput(f"--out {path}: is the checkpoint itself")
    return path


def _prove(
    path: Path, trained: Trained, split: Split | None, options: ExportOptions, spec: ModelSpec
) -> tuple[Receipt | None, tuple[str, ...]]:
    """The receipt, written; None where nothing is compared. And the warnings."""
    warnings = duplicate_warnings(spec.method, trained.own_post, spec.post)
    if not graph_precision(spec.precision).comparable_here:
        return None, (*warnings, _NOT_COMPARABLE)
    if not options.verify:
        return None, (*warnings, _NOT_ASKED)
    say("compare it with the trained model")
    scope = Scope(options.images, seed=options.seed)
    receipt = make_receipt(path, trained, split, warnings, options.threads, options.tolerances, scope, options.strict)
    write_receipt(receipt, receipt_path(path))
    return receipt, receipt.warnings


def _bisect(
    path: Path, detector: DenseDetector, spec: ModelSpec, split: Split | None, options: ExportOptions
) -> Bisection:
    say("look for the layer that breaks")
    images = golden_images(spec.input, IMAGES, split, options.seed)
    return bisect(path, detector, images, options.threads or available_cores())
