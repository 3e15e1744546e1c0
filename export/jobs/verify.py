"""Compare any two of checkpoint, ONNX file and engine."""

from __future__ import annotations

from pathlib import Path

from aweigh.export.engine.build import open_builder
from aweigh.export.engine.options import EngineOptions
from aweigh.export.jobs.contract import duplicate_warnings
from aweigh.export.jobs.export import write_receipt
from aweigh.export.jobs.options import VerifyOptions
from aweigh.export.jobs.results import VerifyResult
from aweigh.export.proof.prove import receipt_of
from aweigh.export.proof.real_build import with_build
from aweigh.export.proof.sides import CHECKPOINT_SUFFIX, Side, Trained, contract_for, open_side
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256, receipt_path
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.data.matching import require_categories
from aweigh.train.data.open import load_split_of
from aweigh.train.process.console import say


def verify(model: Path | str, against: Path | str, options: VerifyOptions | None = None) -> VerifyResult:
    """Compare any two of checkpoint (``.pt``), ONNX file and engine, and write the receipt.

    Args:
        model: the file in question.
        against: what it came from, or another file from there.
        options: see VerifyOptions.

    Raises:
        BadInput: not a file of aweigh's, or (unless ``options.force``) two of which neither comes from the other, nor
            both from one.
        CannotRun: the device is missing; an engine, and no TensorRT or no GPU for it.

    Example:
        >>> import shutil
        >>> copy = shutil.copy(model_path, tmp_path / "copy.onnx")
        >>> result = verify(copy, model_path)
        >>> result.verdict, result.receipt_path.name
        ('passed', 'copy-against-model.onnx.receipt.json')
    """
    model, against, options = Path(model), Path(against), options or VerifyOptions()
    out = options.out
    if out is not None and out.suffix != ".json":
        raise BadInput(f"--out {out}: expected a name that ends in .json")
    if options.build is not None and model.suffix != ".onnx":
        raise BadInput(f"--build {options.build}: builds an engine from an ONNX file, --model is {model.name}")
    engine_options = EngineOptions(flavour=options.build) if options.build is not None else None
    if engine_options is not None:
        open_builder(engine_options)  # before the comparison, which takes a while
    if model.resolve() == against.resolve():
        raise BadInput(f"--against {against}: is --model itself")
    like = contract_for(model, against)
    split = None
    if options.data:
        spec = like or load_checkpoint(against).spec
        split = load_split_of(
            spec,
            options.data,
            options.split,
            match_names=options.match_names,
            outside_images=options.outside_images,
        )
        require_categories(spec, split)
    with (
        open_side(model, like, options.threads, options.device) as subject,
        open_side(against, like, options.threads) as reference,
    ):
        own = reference.own_post if isinstance(reference, Trained) else reference.spec.post
        warnings = duplicate_warnings(reference.spec.method, own, subject.spec.post)
        if not subject.related_to(reference):
            warnings = (*warnings, _unrelated(model, against, subject, reference, options.force))
        say(f"compare {subject.name} with {reference.name}")
        receipt = receipt_of(subject, reference, split, warnings, options.scope, options.tolerances, options.strict)
    if engine_options is not None:
        receipt = with_build(receipt, model, engine_options)
    if out is None:
        out = receipt_path(model)
        if against.suffix != CHECKPOINT_SUFFIX:
            out = model.with_name(f"{model.stem}-against-{against.name}.receipt.json")
    write_receipt(receipt, out)
    return VerifyResult(model, model.stat().st_size, file_sha256(model), receipt, out, receipt.warnings)


def _unrelated(model: Path, against: Path, subject: Side, reference: Side, force: bool) -> str:
    """The warning with ``force``. Raises BadInput without."""
    made_from = ", ".join(sorted(f"{value[:12]}..." for value in subject.parents)) or "nothing that it names"
    if not force:
        raise BadInput(
            f"{against} (sha256 {reference.sha256[:12]}...): {model} does not come from it, nor both from one "
            f"checkpoint ({model.name} was made from {made_from}); --force compares all the same"
        )
    return f"Compared with {reference.name}, which this does not come from ({made_from})."
