"""The verb predict: detect in images, videos and cameras."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aweigh.runtime.cli.opening import add_opening, read_opening
from aweigh.runtime.cli.views import add_views, read_views
from aweigh.runtime.errors import BadInput

if TYPE_CHECKING:
    from aweigh.runtime.results.detections import Detections


def add_predict(parser: argparse.ArgumentParser) -> None:
    """The flags of ``aweigh predict``."""
    parser.add_argument("--model", required=True, metavar="FILE", help="exported file")
    parser.add_argument(
        "--source",
        required=True,
        action="append",
        metavar="WHERE",
        help="image, video, folder, glob pattern, number of a camera, or address (rtsp://...); repeatable",
    )
    parser.add_argument(
        "--conf",
        type=_conf,
        metavar="X",
        help="keep scores above X, 0 to 1; best: above the threshold that training chose for each class; never below "
        "the file's own threshold",
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
    add_views(parser)
    add_opening(parser)


def run_predict(arguments: argparse.Namespace) -> int:
    from aweigh.runtime.cli.output import console, emit_file, log_console, progress
    from aweigh.runtime.flow.sources import is_live, named_source
    from aweigh.runtime.machine.interrupt import first_interrupt
    from aweigh.runtime.predict.run import RESULTS_NAME, predict
    from aweigh.runtime.results.files import read_image_ids
    from aweigh.runtime.video.reading import FrameLimits

    if arguments.save_conf and not arguments.save_txt:
        raise BadInput("--save-conf: belongs to --save-txt")
    opening, views = read_opening(arguments), read_views(arguments)
    image_ids = read_image_ids(arguments.save_coco) if arguments.save_coco is not None else None
    limits = FrameLimits(arguments.frames, arguments.seconds, arguments.every_frame)
    live = any(is_live(named_source(source)) for source in arguments.source)
    log, out = log_console(), console()
    with contextlib.ExitStack() as stack:
        results = None
        if arguments.json:  # by way of a file: a video's results need not fit into memory
            folder = arguments.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            results = folder / RESULTS_NAME
        detector = stack.enter_context(opening.open(arguments.model))
        if detector.precision != detector.spec.precision:
            log.print(f"aweigh: a file of {detector.spec.precision}, computed in {detector.precision} here")
        finder = stack.enter_context(views.applied(detector, opening))
        bar = stack.enter_context(progress(log))
        task = bar.add_task("predict", total=None)

        def on_result(found: Detections) -> None:
            bar.advance(task)
            if not arguments.json:
                frame = "" if found.frame is None else f", frame {found.frame} ({found.time_s:.2f} s)"
                out.print(f"{found.path}{frame}: {found.summary()}")

        done = predict(
            finder,
            arguments.source,
            arguments.conf,
            arguments.out,
            labels=("conf" if arguments.save_conf else "plain") if arguments.save_txt else "none",
            image_ids=image_ids,
            stop_on_error=arguments.on_error == "stop",
            results=results,
            failures=arguments.failures,
            limits=limits,
            stop=stack.enter_context(first_interrupt()) if live else None,
            on_result=on_result,
            on_failure=lambda failure: log.print(f"aweigh: skipped: {failure.error}"),
            on_total=lambda total: bar.update(task, total=total),
        )
        if results is not None:
            emit_file(results)
    if arguments.out is not None:
        log.print(f"{len(done.saved)} {done.noun} and detections.json written to {arguments.out}")
    if done.failures:
        raise BadInput(f"{len(done.failures)} of {done.sources} {done.noun} could not be read, see above")
    return 0


def _conf(text: str) -> float | str:
    if text == "best":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 1, or best") from None
