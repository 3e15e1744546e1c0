"""The runtime's verbs: predict, compare, inspect, doctor, bench. Arguments and output; the work lies elsewhere."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aweigh.runtime.cli.compare import add_compare, run_compare
from aweigh.runtime.cli.doctor import add_doctor, run_doctor
from aweigh.runtime.cli.opening import add_opening, opening
from aweigh.runtime.cli.views import add_look_flags, wrapped
from aweigh.runtime.errors import BadInput

if TYPE_CHECKING:
    from aweigh.runtime.cli.main import Verbs
    from aweigh.runtime.results.detections import Detections


def register(verbs: Verbs) -> None:
    """Entry point ``aweigh.verbs``. Nothing heavy is imported before a verb runs."""
    parser = verbs.add("predict", run_predict)
    parser.add_argument("--model", required=True, metavar="FILE", help="an exported file")
    parser.add_argument(
        "--source",
        required=True,
        action="append",
        metavar="WHERE",
        help="picture, video, folder, glob pattern, number of a camera, or address (rtsp://...); repeatable",
    )
    parser.add_argument(
        "--conf",
        type=_conf,
        metavar="X",
        help="only scores above it; best: those above the threshold that training found best for their class; the "
        "file's own threshold is a floor",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="pictures and videos with boxes, detections.json and failures.json go here",
    )
    parser.add_argument("--failures", type=Path, metavar="FILE", help="write failures.json here, with or without --out")
    parser.add_argument("--save-txt", action="store_true", help="YOLO's label files too, in labels/ of --out")
    parser.add_argument("--save-conf", action="store_true", help="with the confidence in them")
    parser.add_argument(
        "--save-coco",
        type=Path,
        metavar="FILE",
        help="coco_results.json too, with the image ids of these annotations",
    )
    parser.add_argument("--frames", type=int, metavar="N", help="of each video and camera (default: all, till Ctrl-C)")
    parser.add_argument("--seconds", type=float, metavar="S", help="of each video and camera")
    parser.add_argument(
        "--every-frame",
        action="store_true",
        help="of cameras and network streams too, though results lag behind; by default the newest frame, dropping "
        "those between",
    )
    parser.add_argument(
        "--on-error",
        choices=("skip", "stop"),
        default="skip",
        help="unreadable pictures and videos: name them, go on and end with exit code 2 (skip), or end at the first "
        "(stop)",
    )
    add_look_flags(parser)
    add_opening(parser)

    parser = verbs.add("compare", run_compare)
    add_compare(parser)
    add_opening(parser)

    parser = verbs.add("inspect", run_inspect)
    parser.add_argument("--model", required=True, metavar="FILE", help="an exported file")

    add_doctor(verbs.add("doctor", run_doctor))

    parser = verbs.add("bench", run_bench)
    parser.add_argument("--model", required=True, action="append", metavar="FILE", help="an exported file; repeatable")
    parser.add_argument("--batch", default="1", metavar="N,N", help="batch sizes (default 1)")
    parser.add_argument(
        "--concurrency",
        default="1",
        metavar="N,N",
        help="clients at once, each a thread that sends batches (default 1)",
    )
    parser.add_argument("--source", metavar="WHERE", help="pictures to take; by default a generated JPEG of 1280x720")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--iters", type=int, metavar="N", help="batches per model and batch size")
    length.add_argument("--seconds", type=float, default=5.0, metavar="S", help="or seconds (default 5)")
    add_opening(parser)


def run_predict(arguments: argparse.Namespace) -> int:
    from aweigh.runtime.cli.output import console, emit_file, log_console, progress
    from aweigh.runtime.detector import Detector
    from aweigh.runtime.flow.sources import is_live, named_source
    from aweigh.runtime.machine.interrupt import first_interrupt
    from aweigh.runtime.predict.run import RESULTS_NAME, predict
    from aweigh.runtime.results.files import read_image_ids
    from aweigh.runtime.video.reading import FrameLimits

    if arguments.save_conf and not arguments.save_txt:
        raise BadInput("--save-conf: belongs to --save-txt")
    image_ids = read_image_ids(arguments.save_coco) if arguments.save_coco is not None else None
    limits = FrameLimits(arguments.frames, arguments.seconds, arguments.every_frame)
    live = any(is_live(named_source(source)) for source in arguments.source)
    log, out = log_console(), console()
    with contextlib.ExitStack() as stack:
        results = None
        if arguments.json:  # by way of a file: a video's results need not fit into memory
            folder = arguments.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            results = folder / RESULTS_NAME
        detector = stack.enter_context(Detector(arguments.model, **opening(arguments)))
        if detector.precision != detector.spec.precision:
            log.print(f"aweigh: a file of {detector.spec.precision}, computed in {detector.precision} here")
        finder = stack.enter_context(wrapped(detector, arguments))
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


def run_inspect(arguments: argparse.Namespace) -> int:
    from aweigh.runtime.cli.output import console, emit_json
    from aweigh.runtime.inspection import inspect_model, print_inspection

    facts = inspect_model(arguments.model)
    if arguments.json:
        emit_json(facts)
    else:
        print_inspection(facts, console())
    return 0


def run_bench(arguments: argparse.Namespace) -> int:
    from aweigh.runtime.bench.plan import BenchPlan, bench, print_bench
    from aweigh.runtime.cli.numbers import parse_counts
    from aweigh.runtime.cli.output import console, emit_json, progress

    plans = [
        BenchPlan(
            model=model,
            batch=batch,
            **opening(arguments),
            source=arguments.source,
            iterations=arguments.iters,
            seconds=arguments.seconds,
            concurrency=concurrency,
        )
        for model in arguments.model
        for batch in parse_counts(arguments.batch, "--batch")
        for concurrency in parse_counts(arguments.concurrency, "--concurrency")
    ]
    with progress() as bar:
        task = bar.add_task("bench", total=len(plans))
        report = bench(plans, on_result=lambda result: bar.advance(task))
    if arguments.json:
        emit_json(report)
    else:
        print_bench(report, console())
    return 0
