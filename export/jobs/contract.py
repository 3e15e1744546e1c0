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
from aweigh.train.dense.postprocess import MATRIX_CANDIDATES
from aweigh.train.models.fpn import FPN
from aweigh.train.process.console import say


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
    """Kind and form of NMS; ``auto`` is the method's own kind.

    The matrix form is the default, since such a file builds as an engine too. What a checkpoint says of the form is
    about its own evaluation in torch, which has no operators to choose from.
    """
    kind = trained.post.kind if options.post == "auto" else options.post
    if kind == "none" and trained.post.kind != "none" and not options.force:
        raise BadInput(
            f"--post none: {trained.method} predicts several boxes per object, which NMS must thin out; "
            "use --post nms, or --force if that happens elsewhere"
        )
    has_nms = kind in ("nms", "vote")
    if options.nms and not has_nms:
        raise BadInput(f"--nms {options.nms}: there is no NMS with post-processing {kind!r}")
    if options.agnostic and kind == "none":
        raise BadInput("--agnostic: there is no NMS with post-processing 'none'; use predict --agnostic, or --post nms")
    given = {
        "score_threshold": options.conf,
        "iou_threshold": options.iou,
        "pre_nms_top_k": options.top_k,
        "max_det": options.max_det,
    }
    post = replace(
        trained.post,
        kind=kind,
        nms_form=(options.nms or "matrix") if has_nms else None,
        agnostic=options.agnostic,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    if options.nms is None and not options.for_engine and _too_long_for_matrix(post):
        say(
            f"--nms onnx: {post.pre_nms_top_k} candidates of each pyramid level may be more than the "
            f"{MATRIX_CANDIDATES} that the matrix form takes; for a file that also builds as an engine, take --nms "
            "matrix with a smaller --top-k"
        )
        return replace(post, nms_form="onnx")
    return post


def _too_long_for_matrix(post: PostSpec) -> bool:
    """Whether the candidates of all levels together can be too many, as with the lists of released models."""
    several = post.nms_form == "matrix" and post.top_k_unit == "level-pairs"
    return several and len(FPN.strides) * post.pre_nms_top_k > MATRIX_CANDIDATES
