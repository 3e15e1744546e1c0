"""The verb predict: detect in images, videos and cameras."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from aweigh.runtime.atomic import temporary_folder
from aweigh.runtime.cli.numbers import conf_or_best
from aweigh.runtime.cli.opening import MODEL_HELP, add_opening, model_file, read_opening
from aweigh.runtime.cli.output import console, emit_file, log_console, progress
from aweigh.runtime.cli.views import add_views, read_views
from aweigh.runtime.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from aweigh.runtime.cli.provided import Provided
    from aweigh.runtime.predict.plan import PredictEvents, PredictPlan
    from aweigh.runtime.results.detections import Detections
    from aweigh.runtime.spec import ModelSpec


def add_predict(parser: argparse.ArgumentParser) -> None:
    """The flags of ``aweigh predict``."""
    parser.add_argument("--model", required=True, metavar="FILE", help=f"{MODEL_HELP}; or a checkpoint")
    parser.add_argument(
        "--source",
        required=True,
        action="append",
        metavar="WHERE",
        help="image, video, folder, glob pattern, number of a camera, or address (rtsp://...); repeatable",
    )
    parser.add_argument(
        "--conf",
        type=conf_or_best,
        metavar="X",
        help="keep scores above X, 0 to 1; best: above the threshold that training chose for each class; never below "
        "the file's own threshold. Default: images and the printed counts show those above each class's best threshold "
        "(0.3 in a file without), the files keep all",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the images and videos with boxes, detections.json and failures.json",
    )
    parser.add_argument("--failures", type=Path, metavar="FILE", help="write failures.json here, with or without --out")
    parser.add_argument("--save-txt", action="store_true", help="write YOLO label files too, to labels/ in --out")
    parser.add_argument("--save-conf", action="store_true", help="write the confidence into the label files")
    parser.add_argument(
        "--save-coco",
        type=Path,
        metavar="FILE",
        help="write coco_results.json too, with the image ids of this COCO annotation file",
    )
    parser.add_argument(
        "--frames", type=int, metavar="N", help="read N frames of each video and camera (default: all, until Ctrl-C)"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="read S seconds of each video and camera")
    parser.add_argument(
        "--every-frame",
        action="store_true",
        help="detect in every frame of cameras and network streams, even if results fall behind (default: the newest "
        "frame, those before it are dropped)",
    )
    parser.add_argument(
        "--on-error",
        choices=("skip", "stop"),
        default="skip",
        help="at an image or video that cannot be read: name it, go on and end with exit code 2 (skip, the default), "
        "or end at once (stop)",
    )
    parser.add_argument(
        "--decode-on",
        choices=("host", "device"),
        default="host",
        help="device: JPEGs are decoded and resized in the memory of --device, by nvImageCodec and ONNX Runtime; what "
        "it cannot decode goes by the host, and is counted (default: host)",
    )
    add_views(parser)
    add_opening(parser)


def run_predict(arguments: argparse.Namespace) -> int:
    """Exit code 0. Raises BadInput at the end where an image or video could not be read."""
    from aweigh.runtime.predict.plan import RESULTS_NAME
    from aweigh.runtime.predict.run import predict_sources

    opening, views = replace(read_opening(arguments), decode_on=arguments.decode_on), read_views(arguments)
    log = log_console()
    with contextlib.ExitStack() as stack:
        results = None
        if arguments.json:  # by way of a file: the results of a video need not fit into memory
            folder = arguments.out or stack.enter_context(temporary_folder())
            results = folder / RESULTS_NAME
        plan = _plan(arguments, results)
        model = _exported(arguments, log, stack)
        detector = stack.enter_context(opening.open(model))
        if detector.precision != detector.spec.precision:
            log.print(f"aweigh: a file of {detector.spec.precision}, computed in {detector.precision} here")
        finder = stack.enter_context(views.applied(detector, opening))
        events = _events(arguments, stack.enter_context(progress(log)), stack)
        result = predict_sources(finder, plan, events)
        if results is not None:
            emit_file(results)
        if detector.decoded:
            counts = " and ".join(f"{count} on the {place}" for place, count in detector.decoded.items())
            log.print(f"images decoded: {counts}")
    if arguments.out is not None:
        log.print(f"{len(result.saved)} {result.noun} and {RESULTS_NAME} written to {arguments.out}")
    if arguments.conf is None and result.count and (arguments.out is not None or not arguments.json):
        log.print(_what_is_drawn(detector.spec))
    if result.failures:
        raise BadInput(f"{len(result.failures)} of {result.sources} {result.noun} could not be read, see above")
    return 0


def _exported(arguments: argparse.Namespace, log: Console, stack: contextlib.ExitStack) -> Path:
    """The file to open: of a checkpoint, an export that lasts as long as this run, where the stage is installed."""
    provided: Provided = arguments.provided
    model = Path(model_file(arguments.model))
    if model.suffix != ".pt" or provided.exported_checkpoint is None:
        return model
    log.print(f"aweigh: {model} is a checkpoint, exported for this run; aweigh export makes a file to keep")
    return provided.exported_checkpoint(model, stack.enter_context(temporary_folder()))


def _what_is_drawn(spec: ModelSpec) -> str:
    from aweigh.runtime.flow.confidence import default_drawing

    above = default_drawing(spec)
    if isinstance(above, Mapping):
        low, high = min(above.values()), max(above.values())
        span = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
        shown = f"each class's best threshold ({span})"
    else:
        shown = f"{above:g}"
    return (
        f"counted and drawn are scores above {shown}; result files keep all above {spec.post.score_threshold:g}. "
        "--conf X chooses what is kept and drawn"
    )


def _plan(arguments: argparse.Namespace, results: Path | None) -> PredictPlan:
    from aweigh.runtime.predict.plan import PredictPlan
    from aweigh.runtime.results.files import read_image_ids
    from aweigh.runtime.video.reading import FrameLimits

    if arguments.save_conf and not arguments.save_txt:
        raise BadInput("--save-conf: belongs to --save-txt")
    return PredictPlan(
        sources=tuple(arguments.source),
        conf=arguments.conf,
        out=arguments.out,
        labels=("conf" if arguments.save_conf else "plain") if arguments.save_txt else "none",
        image_ids=None if arguments.save_coco is None else read_image_ids(arguments.save_coco),
        stop_on_error=arguments.on_error == "stop",
        results=results,
        failures=arguments.failures,
        limits=FrameLimits(arguments.frames, arguments.seconds, arguments.every_frame),
    )


def _events(arguments: argparse.Namespace, bar: Progress, stack: contextlib.ExitStack) -> PredictEvents:
    """Lines on stdout and progress on stderr; of a live source the first Ctrl-C completes the results."""
    from aweigh.runtime.flow.sources import is_live, named_source
    from aweigh.runtime.machine.interrupt import first_interrupt
    from aweigh.runtime.predict.plan import PredictEvents

    out = console()
    task = bar.add_task("predict", total=None)

    def on_result(detections: Detections) -> None:
        bar.advance(task)
        if not arguments.json:
            frame = "" if detections.frame is None else f", frame {detections.frame} ({detections.time_s:.2f} s)"
            out.print(f"{detections.path}{frame}: {detections.summary()}")

    events = PredictEvents(
        on_total=lambda total: bar.update(task, total=total),
        on_result=on_result,
        on_failure=lambda failure: bar.console.print(f"aweigh: skipped: {failure.error}"),
    )
    if not any(is_live(named_source(source)) for source in arguments.source):
        return events
    return replace(events, should_stop=stack.enter_context(first_interrupt()).is_set)
