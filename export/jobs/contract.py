"""The contract of the file that an export writes: the checkpoint's, changed by the options."""

from __future__ import annotations

from dataclasses import replace

from aweigh.export.jobs.options import ExportOptions
from aweigh.export.precision.table import graph_precision
from aweigh.export.proof.prove import IMAGES
from aweigh.runtime.agreement.tolerances import flag, tolerances_for
from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import ModelSpec, PostSpec
from aweigh.train.checkpoint import Checkpoint


def file_spec(checkpoint: Checkpoint, options: ExportOptions) -> ModelSpec:
    """The contract of the file to be written. Raises BadInput where options do not go together."""
    trained = checkpoint.spec
    _check_together(options)
    return replace(
        trained,
        input=replace(
            trained.input,
            size_hw=options.size_hw or trained.input.size_hw,
            dynamic_size=options.dynamic_size or trained.input.dynamic_size,
        ),
        post=_file_post(trained, options),
        precision=options.precision,
        batch=options.batch,
        parents={**trained.parents, "checkpoint_sha256": checkpoint.sha256},
    )


def duplicate_warnings(method: str, own: PostSpec, post: PostSpec) -> tuple[str, ...]:
    """A warning where a method that needs NMS (``own`` is its post-processing) goes without."""
    if post.kind == "none" and own.kind != "none":
        return (f"Without NMS (--post none --force) {method} returns several boxes per object.",)
    return ()


def _check_together(options: ExportOptions) -> None:
    precision = graph_precision(options.precision)
    if options.bisect and not precision.lowers:
        raise BadInput(
            f"--bisect: looks for what breaks in a lower precision; {precision.name} is the trained model's own"
        )
    if options.bisect and options.for_engine and not precision.comparable_here:
        raise BadInput(
            f"--bisect: ONNX Runtime does not compute {precision.name}; look for the layer with --precision fp16"
        )
    if options.tolerances and not options.verify:
        raise BadInput(f"{flag(next(iter(options.tolerances)))}: with --no-verify nothing is held to a tolerance")
    tolerances_for(options.precision, options.tolerances)
    if not 0 <= options.golden <= IMAGES:
        raise BadInput(f"--golden {options.golden}: expected 0 to {IMAGES}")


def _file_post(trained: ModelSpec, options: ExportOptions) -> PostSpec:
    """Kind and form of NMS; ``auto`` is the method's own kind, and the form follows the target."""
    kind = trained.post.kind if options.post == "auto" else options.post
    if kind == "none" and trained.post.kind != "none" and not options.force:
        raise BadInput(
            f"--post none: {trained.method} predicts several boxes per object, which NMS must thin out; "
            "use --post nms, or --force if that happens elsewhere"
        )
    has_nms = kind in ("nms", "vote")
    if options.nms and not has_nms:
        raise BadInput(f"--nms {options.nms}: there is no NMS with post-processing {kind!r}")
    form = options.nms or ("matrix" if options.for_engine else trained.post.nms_form or "onnx")
    given = {
        "score_threshold": options.conf,
        "iou_threshold": options.iou,
        "pre_nms_top_k": options.top_k,
        "max_det": options.max_det,
    }
    return replace(
        trained.post,
        kind=kind,
        nms_form=form if has_nms else None,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
